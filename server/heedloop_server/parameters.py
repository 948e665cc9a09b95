"""A query parameter that a route does not have is an error: a mistyped filter must not show unfiltered numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel

from heedloop_server.errors import Invalid

__all__ = ["known_parameters"]


async def known_parameters(request: Request) -> None:
    """Refuse query parameters that the route does not declare.

    `async`, though it waits for nothing: FastAPI would run it in a thread for every request, which costs more than all else
    at the door.

    Raises:
        Invalid: names the parameter and lists those that the route takes.
    """
    if not request.query_params or not request.url.path.startswith("/v1/"):
        return  # outside the API, a browser file may be asked for with a version behind it
    route: Any = request.scope.get("route")
    known = sorted(set(_names(route.dependant)))
    keys = "metadata" in known  # routes with filters take metadata.KEY, whatever the key
    for name in request.query_params:
        if name not in known and not (keys and name.startswith("metadata.")) or name == "metadata":
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise Invalid(
                f"{name!r} is not a parameter of {request.method} {route.path}; {takes}", field=name
            )


def _names(dependant: Dependant) -> Iterator[str]:
    for param in dependant.query_params:
        annotation = param.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from annotation.model_fields
        else:
            yield param.alias
    for inner in dependant.dependencies:
        yield from _names(inner)
