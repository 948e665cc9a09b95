"""A query parameter that a route does not have is an error: a mistyped filter must not show unfiltered numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel

from heedloop_server.errors import Invalid


async def known_parameters(request: Request) -> None:
    """Refuse query parameters that the route does not declare, and a second value of one that takes one.

    `async`, though it waits for nothing: FastAPI would run it in a thread for every request, which costs more than all else
    at the door.

    Raises:
        Invalid: names the parameter and lists those that the route takes.
    """
    if not request.query_params or not request.url.path.startswith("/v1/"):
        return  # outside the API, a browser file may be asked for with a version behind it
    route: Any = request.scope.get("route")
    many = dict(_names(route.dependant))
    known = sorted(many)
    keys = "metadata" in known  # routes with filters take metadata.KEY, whatever the key
    for name in request.query_params:
        if (name not in known and not (keys and name.startswith("metadata."))) or name == "metadata":
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise Invalid(
                f"{name!r} is not a parameter of {request.method} {route.path}; {takes}", field=name
            )
        if not many.get(name) and len(request.query_params.getlist(name)) > 1:
            raise Invalid(f"{name!r} is there more than once; it takes one value", field=name)


def _names(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Each query parameter, and whether it may be repeated."""
    for param in dependant.query_params:
        annotation = param.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from ((n, _is_list(f.annotation)) for n, f in annotation.model_fields.items())
        else:
            yield param.alias, _is_list(annotation)
    for inner in dependant.dependencies:
        yield from _names(inner)


def _is_list(annotation: Any) -> bool:
    kinds = (annotation, *get_args(annotation))
    return any(get_origin(k) in (list, tuple, set) for k in kinds)
