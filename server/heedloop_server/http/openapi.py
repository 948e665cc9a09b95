"""The machine-readable description of the API: what FastAPI knows of parameters, with every response and error typed.

A route's annotation names the type of its response. `@responds(also=[409])` below a route's decorator adds what no annotation
says, `@accepts(NewSnapshot)` the type of a body that the route reads by itself. Errors follow from what a route is: one with a
scope can have 401 and 403, one with a path parameter 404, and so on. Nothing here runs when a request does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import DataclassSchema

from heedloop.responses import Error
from heedloop_server.http.responses import record_of, schema_fields

Json = dict[str, Any]
Route = TypeVar("Route", bound=Callable[..., Any])

_JSON = "application/json"
_SECURITY: list[Json] = [{"key": []}, {"keyHeader": []}]
_TOKEN: list[Json] = [{"feedbackToken": []}]
_SCHEMES: Json = {
    "key": {"type": "http", "scheme": "bearer", "description": "a key of the project: hl_…"},
    "keyHeader": {"type": "apiKey", "in": "header", "name": "x-heedloop-key"},
    "feedbackToken": {"type": "apiKey", "in": "header", "name": "x-heedloop-token"},
}


_ERRORS = {
    400: "the body cannot be read",
    401: "no key, or one that is unknown, expired or revoked",
    403: "the key lacks the scope",
    404: "there is no such thing in this project",
    409: "it exists already, or its state forbids it",
    413: "over a limit, counted after decompression",
    415: "a Content-Type or Content-Encoding that is not read here",
    422: "a parameter or field is wrong, or unknown",
    429: "the rate of the key or address is spent",
    503: "the store is away, or a limit is reached for a while",
}
_RETRY = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds after which to come back"}}


def responds(
    body: Any = None,
    *,
    status: int | None = None,
    also: Iterable[int] = (),
    media: Mapping[str, Any] | None = None,
    refused: Any = None,
) -> Callable[[Route], Route]:
    """Name what a route's annotation does not say of its responses.

    Args:
        body: the type of the JSON, where the route makes its `Response` by itself.
        status: the status of success, where it is not that of the route's decorator.
        also: further status codes: those below 300 with the same body, others as errors.
        media: further media types -> the type of their body.
        refused: the type of a 422 that says more than `Error`.
    """

    def mark(endpoint: Route) -> Route:
        cast(Any, endpoint).heedloop_responds = _Responds(
            body, status, tuple(also), dict(media or {}), refused
        )
        return endpoint

    return mark


@dataclass(frozen=True, slots=True)
class _Responds:
    body: Any = None
    status: int | None = None
    also: tuple[int, ...] = ()
    media: Mapping[str, Any] = field(default_factory=dict[str, Any])
    refused: Any = None


def accepts(body: Any, *, media: Mapping[str, Any] | None = None) -> Callable[[Route], Route]:
    """Name the type of a body that the route reads by itself, and of its other media types."""

    def mark(endpoint: Route) -> Route:
        cast(Any, endpoint).heedloop_body = {_JSON: body, **(media or {})}
        return endpoint

    return mark


def describe(app: FastAPI, routes: Iterable[APIRoute], scopes: Callable[[APIRoute], frozenset[str]]) -> None:
    """Let `app.openapi()` say everything that the routes' marks say."""
    known = list(routes)

    def openapi() -> Json:
        if not app.openapi_schema:
            app.openapi_schema = _document(app, known, scopes)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's own documentation does it


def _document(app: FastAPI, routes: list[APIRoute], scopes: Callable[[APIRoute], frozenset[str]]) -> Json:
    spec = get_openapi(title=app.title, version=app.version, routes=app.routes)
    components = spec.setdefault("components", {})
    schemas = _Schemas(components.setdefault("schemas", {}))
    for gone in ("HTTPValidationError", "ValidationError"):
        schemas.known.pop(gone, None)
    components["securitySchemes"] = _SCHEMES
    for route in routes:
        if not route.include_in_schema:
            continue
        for method in sorted(route.methods or ()):
            operation = spec["paths"][route.path_format].get(method.lower())
            if operation is not None:
                _complete(operation, route, scopes(route), schemas)
    for schema in schemas.known.values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return spec


class _Written(GenerateJsonSchema):
    """Schemas of responses in which every field is required that is always written, and null only where it is written."""

    def dataclass_schema(self, schema: DataclassSchema) -> Json:
        made = super().dataclass_schema(schema)
        if schema["cls"].__module__.startswith("heedloop.responses."):
            inherited = schema_fields(schema["cls"])
            written = [f.name for f in fields(schema["cls"]) if f.default is not None]
            made["required"] = [n for n in written if n not in inherited or n in made.get("required", ())]
            for name in {f.name for f in fields(schema["cls"]) if f.default is None}:
                made["properties"][name] = _without_null(made["properties"][name])
        return made


def _without_null(schema: Json) -> Json:
    options = [o for o in schema.get("anyOf", ()) if o != {"type": "null"}]
    rest = {k: v for k, v in schema.items() if k not in ("anyOf", "default")}
    return rest | (options[0] if len(options) == 1 else {"anyOf": options} if options else {})


class _Schemas:
    """Types as components that others refer to."""

    def __init__(self, known: Json) -> None:
        self.known = known

    def of(self, body: Any) -> Json:
        """The JSON schema of a type; its parts become components. A dictionary is a schema already."""
        if isinstance(body, dict):
            return cast(Json, body)
        made = TypeAdapter(body).json_schema(
            ref_template="#/components/schemas/{model}", mode="serialization", schema_generator=_Written
        )
        for name, schema in made.pop("$defs", {}).items():
            self._add(name, schema)
        if made.get("type") == "object" and "title" in made:
            self._add(made["title"], made)
            return {"$ref": f"#/components/schemas/{made['title']}"}
        return made

    def _add(self, name: str, schema: Json) -> None:
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        if self.known.setdefault(name, schema) != schema:
            raise RuntimeError(f"two types are called {name}; the description needs one name for one thing")


def _complete(operation: Json, route: APIRoute, scopes: frozenset[str], schemas: _Schemas) -> None:
    endpoint = cast(Any, route.endpoint)
    secured = bool(scopes) or hasattr(endpoint, "heedloop_checks")
    body = getattr(endpoint, "heedloop_body", None)
    if body is not None:
        content = {media: {"schema": schemas.of(kind)} for media, kind in body.items()}
        operation["requestBody"] = {"required": True, "content": content}
    if secured:
        operation["security"] = _SECURITY + (_TOKEN if scopes == {"feedback"} else [])
    responses = operation["responses"]
    responses.pop("422", None)
    mark: _Responds = getattr(endpoint, "heedloop_responds", _Responds())
    record = mark.body or record_of(endpoint)
    kinds = {**({} if record is None else {_JSON: record}), **mark.media}
    content = {m: {"schema": schemas.of(kind)} for m, kind in kinds.items()}
    status = mark.status or route.status_code or 200
    for code in (status, *(c for c in mark.also if c < 300)):
        described = responses.get(str(code), {}).get("description", "Successful Response")
        responses[str(code)] = {"description": described, **({"content": content} if content else {})}
    for code in sorted(_errors(operation, route, secured=secured) | {c for c in mark.also if c >= 300}):
        responses.setdefault(str(code), _error(code, mark.refused, endpoint, schemas))


def _errors(operation: Json, route: APIRoute, *, secured: bool) -> set[int]:
    codes: set[int] = {401, 403, 429, 503} if secured else set()
    if route.path.startswith("/v1/"):
        codes.add(422)  # an unknown query parameter is refused everywhere
    if "{" in route.path:
        codes.add(404)
    if "requestBody" in operation:
        codes |= {400, 413, 415}
    return codes


def _error(code: int, refused: Any, endpoint: Any, schemas: _Schemas) -> Json:
    form = getattr(endpoint, "heedloop_error", {_JSON: Error})
    if code == 422 and refused is not None:
        form = {_JSON: refused}
    content = {media: {"schema": schemas.of(kind)} for media, kind in form.items()}
    described: Json = {"description": _ERRORS.get(code, "an error"), "content": content}
    return described | ({"headers": _RETRY} if code in (429, 503) else {})
