"""The quality routes of the REST API; `heedloop.client.Client` has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedloop import responses
from heedloop._rest import Rest


class QualityClient(Rest):
    """Rates, groups, drift and findings; the filters are those of docs/api.md."""

    def quality_summary(self, **filters: Any) -> responses.Summary:
        """Counts, thumbs-up rate and coverage of the period, and of the one before it."""
        return self._read(responses.Summary, "/v1/quality/summary", **filters)

    def quality_overview(
        self, *, interval: str = "day", segment: str = "tag", **filters: Any
    ) -> responses.Overview:
        """A page's worth at once: summary, trend, groups, flags, finding and over-represented groups."""
        return self._read(
            responses.Overview, "/v1/quality/overview", interval=interval, segment=segment, **filters
        )

    def quality_health(
        self, *, interval: str = "day", by: str | None = None, **filters: Any
    ) -> responses.AppHealth:
        """Errors, latency, time to first token, calls, tokens and cost: whole, over time, and by a field."""
        return self._read(responses.AppHealth, "/v1/quality/health", interval=interval, by=by, **filters)

    def quality_trend(self, *, interval: str = "day", **filters: Any) -> responses.Trend:
        """The rate per `hour`, `day` or `week`: `points` and `releases`."""
        return self._read(responses.Trend, "/v1/quality/trend", interval=interval, **filters)

    def quality_by(self, field: str, *, field2: str | None = None, **filters: Any) -> list[responses.Group]:
        """The rate per value of one field, or per pair of values of two."""
        path = "/v1/quality/by"
        return self._read(responses.Groups, path, field=field, field2=field2, **filters).groups

    def quality_heatmap(self, field: str, field2: str, **filters: Any) -> responses.Heatmap:
        """Two fields against each other: a cell per pair of values."""
        return self._read(responses.Heatmap, "/v1/quality/heatmap", field=field, field2=field2, **filters)

    def quality_compare(self, field: str, a: str, b: str, **filters: Any) -> responses.ComparedValues:
        """Two values of one field side by side: difference, interval, decision."""
        path = "/v1/quality/compare"
        return self._read(responses.ComparedValues, path, field=field, a=a, b=b, **filters)

    def quality_reasons(self, **filters: Any) -> responses.Flags:
        """Flagged answers by category."""
        return self._read(responses.Flags, "/v1/quality/reasons", **filters)

    def quality_overrepresented(self, **filters: Any) -> responses.Overrepresented:
        """Groups that are more common among thumbs-down than among rated answers."""
        return self._read(responses.Overrepresented, "/v1/quality/overrepresented", **filters)

    def quality_finding(self, **filters: Any) -> responses.Finding | None:
        """The one finding to see first; None where nothing is significant."""
        return self._read_optional(responses.Finding, "/v1/quality/finding", **filters)

    def quality_raters(self, *, field: Sequence[str] | None = None, **filters: Any) -> responses.Raters:
        """Who rates: coverage of new and returning users, and by each field."""
        fields = None if field is None else list(field)
        return self._read(responses.Raters, "/v1/quality/raters", field=fields, **filters)

    def quality_drift(
        self, *, metric: str = "rate", interval: str = "day", **filters: Any
    ) -> responses.Drift | None:
        """Whether a metric became worse than in the period before; None where that has nothing to compare with."""
        path = "/v1/quality/drift"
        return self._read_optional(responses.Drift, path, metric=metric, interval=interval, **filters)

    def quality_sample(self, **filters: Any) -> responses.Sample:
        """The ratings that users chose to give next to those of a random sample."""
        return self._read(responses.Sample, "/v1/quality/sample", **filters)

    def named_ratings(
        self, *, by: str | None = None, interval: str | None = None, **filters: Any
    ) -> responses.NamedRatings:
        """Every named rating: whole, by a field, and over time."""
        return self._read(responses.NamedRatings, "/v1/quality/ratings", by=by, interval=interval, **filters)

    def quality_marks(self, *, by: str | None = None, **filters: Any) -> responses.Marks:
        """Flags and marked ranges on answers that were judged, by a field and by length."""
        return self._read(responses.Marks, "/v1/quality/marks", by=by, **filters)

    def quality_versions(
        self, field: str, *, baseline: str | None = None, **filters: Any
    ) -> responses.Versions:
        """Every value of a field against one of them, decided over all together."""
        path = "/v1/quality/versions"
        return self._read(responses.Versions, path, field=field, baseline=baseline, **filters)

    def quality_releases(self, *, days: int = 7, **filters: Any) -> responses.Releases:
        """The releases of the period, newest first, each with its `before`, `after` and `change`."""
        return self._read(responses.Releases, "/v1/quality/releases", days=days, **filters)

    def quality_clusters(self, *, of: str = "answers", **filters: Any) -> responses.Clusters:
        """What low-rated `answers`, their `questions`, or the `comments` on them have in common."""
        return self._read(responses.Clusters, "/v1/quality/clusters", of=of, **filters)

    def quality_league(self, field: str = "model", **filters: Any) -> responses.LeagueTable:
        """Who wins pairwise comparisons: `standings`, `pairs`, and what length has to do with it."""
        return self._read(responses.LeagueTable, "/v1/quality/league", field=field, **filters)

    def quality_similar(self, trace_id: str, span_id: str, *, limit: int = 5) -> list[responses.SimilarCall]:
        """Liked answers to questions like that of a call, the most alike first."""
        path = "/v1/quality/similar"
        return self._read(responses.SimilarCalls, path, trace_id=trace_id, span_id=span_id, limit=limit).calls
