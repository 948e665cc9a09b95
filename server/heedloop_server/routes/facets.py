"""The values that filters offer."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query

from heedloop.responses.calls import FacetValue, FacetValues
from heedloop_server.filters import CallFilters
from heedloop_server.http.services import ReadProject
from heedloop_server.http.shared_responses import SharedRouter
from heedloop_server.store.quality.summaries import facet_values

router = SharedRouter()


class FacetQuery(CallFilters):
    """Filters with the field whose values are listed."""

    field: Literal["model", "prompt_name", "prompt_version", "service", "environment", "tag", "flag"]


@router.get("/v1/facets")
def get_facets(project: ReadProject, query: Annotated[FacetQuery, Query()]) -> FacetValues:
    """Values of one field with their counts, most frequent first."""
    return FacetValues(values=[FacetValue(**row) for row in facet_values(project, query.field, query)])
