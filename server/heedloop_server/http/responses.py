"""How a route's record becomes a response: written as JSON once, without FastAPI's second look at it.

A route is annotated with a class of `heedloop.responses` and returns an instance; `Router` makes a `Response` of it, and
`heedloop_server.http.openapi` describes it by the same annotation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache, reduce, wraps
from inspect import iscoroutinefunction
from operator import or_
from types import UnionType
from typing import Any, cast, get_args, get_type_hints

from fastapi import APIRouter
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic_core import SchemaSerializer, core_schema

from heedloop.schema import format_time, to_json


class RouteOfRecord(APIRoute):
    """A route whose endpoint's record is written by `json_response`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if record_of(endpoint) is not None:
            endpoint = _writing(endpoint, options.get("status_code") or 200)
            options["response_model"] = None
        super().__init__(path, endpoint, **options)


class Router(APIRouter):
    """A router whose routes return records."""

    def __init__(self, *, route_class: type[RouteOfRecord] = RouteOfRecord) -> None:
        super().__init__(route_class=route_class)


def record_of(endpoint: Callable[..., Any]) -> Any:
    """The record that an endpoint returns by its annotation; None where it makes its `Response` by itself."""
    hint = get_type_hints(endpoint).get("return")
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    records = [p for p in parts if not (isinstance(p, type) and issubclass(p, Response))]
    return reduce(or_, records) if any(is_dataclass(p) for p in records) else None


def _writing(endpoint: Callable[..., Any], status: int) -> Callable[..., Any]:
    record = record_of(endpoint)

    def write(result: Any) -> Response:
        return result if isinstance(result, Response) else json_response(record, result, status)

    @wraps(endpoint)
    async def write_later(*args: Any, **kwargs: Any) -> Response:
        return write(await endpoint(*args, **kwargs))

    @wraps(endpoint)
    def write_now(*args: Any, **kwargs: Any) -> Response:
        return write(endpoint(*args, **kwargs))

    return write_later if iscoroutinefunction(endpoint) else write_now


def json_response(record: Any, result: Any, status: int = 200) -> Response:
    """A response that holds `result`, an instance of the class (or union) `record`, as JSON."""
    content = _writer(record).to_json(result)
    return Response(content, status, media_type="application/json")


def json_value(record: Any) -> dict[str, Any]:
    """A record as the dictionary that its JSON is, for JSON that holds more than the record."""
    return _writer(type(record)).to_python(record, mode="json")


@cache
def _writer(record: Any) -> SchemaSerializer:
    return SchemaSerializer(_as_heedloop_writes(TypeAdapter(record).core_schema))


def _as_heedloop_writes(schema: Any) -> Any:
    """The schema with times in our form, fields that are None by default left out, and the records of `heedloop.schema` as
    their own `to_json` has them."""
    if isinstance(schema, list):
        return [_as_heedloop_writes(part) for part in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    given = cast(dict[str, Any], schema)
    kind = given.get("type")
    if kind == "datetime":
        return given | {"serialization": _by(format_time, return_schema=core_schema.str_schema())}
    if kind == "dataclass" and given["cls"].__module__.startswith("heedloop.schema."):
        return given | {"serialization": _by(to_json)}
    written = {key: _as_heedloop_writes(part) for key, part in given.items()}
    if kind == "dataclass":
        for field in written["schema"]["fields"]:
            if field["name"] in schema_fields(given["cls"]):
                field["serialization_exclude_if"] = _is_none_or_empty
    if kind == "dataclass-field" and given["schema"].get("default", ...) is None:
        written["serialization_exclude_if"] = _is_none
    return written


@cache
def schema_fields(record: type[Any]) -> frozenset[str]:
    """The fields that a record has from a class of `heedloop.schema`, which are left out where they are None or empty."""
    bases = [b for b in record.__mro__ if b.__module__.startswith("heedloop.schema.")]
    return frozenset(f.name for base in bases for f in fields(base))


_by = core_schema.plain_serializer_function_ser_schema


def _is_none(value: Any) -> bool:
    return value is None


def _is_none_or_empty(value: Any) -> bool:
    return value is None or value in ((), [], {})
