"""The values that filters offer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query

from heedloop_server.answers.calls import FacetValues
from heedloop_server.filters import CallFilters
from heedloop_server.http.auth import scoped
from heedloop_server.http.openapi import responds
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.quality.summaries import facet_values

router = APIRouter()


class FacetQuery(CallFilters):
    """Filters with the field whose values are listed."""

    field: Literal["model", "prompt_name", "prompt_version", "service", "environment", "tag", "flag"]


@router.get("/v1/facets")
@responds(FacetValues)
def get_facets(
    project: Annotated[ProjectStore, Depends(scoped("read"))], query: Annotated[FacetQuery, Query()]
) -> dict[str, Any]:
    """Values of one field with their counts, most frequent first."""
    return {"values": facet_values(project, query.field, query)}
