"""What the numbers hide: many versions at once, releases, clusters of complaints, leagues, liked answers like one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Query, Response

from heedloop import responses
from heedloop.responses.jobs import JobResult
from heedloop.schema import AuthorKind, format_time, parse_time, utc_now
from heedloop_server.errors import Invalid, NotFound
from heedloop_server.filters import read_filters
from heedloop_server.http.openapi import responds
from heedloop_server.http.services import Jobs, ReadKey, ReadProject
from heedloop_server.http.shared_responses import SharedRouter
from heedloop_server.jobs.kinds import Finished, JobContext, Kind
from heedloop_server.routes.calls import summary_values
from heedloop_server.routes.quality import Chosen
from heedloop_server.routes.verdicts import Verdict, compared_ratings, judge, last_day
from heedloop_server.statistics.clusters import Cluster, carry_names, cluster_texts, count_alike
from heedloop_server.statistics.counts import Group
from heedloop_server.statistics.intervals import wilson
from heedloop_server.statistics.multiplicity import e_benjamini_hochberg
from heedloop_server.statistics.pairwise import League, LengthEffect, first_shown_wins, league, length_effect
from heedloop_server.statistics.releases import ReleaseComparison, compare_release
from heedloop_server.statistics.sentences import league_sentence, release_sentence, versions_sentence
from heedloop_server.statistics.similar import most_similar, telling_words
from heedloop_server.statistics.versions import VersionComparison, compare_versions
from heedloop_server.statistics.weighted import wilson_from_sums
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.datasets.runs import list_runs, run_summary
from heedloop_server.store.quality import counts as store
from heedloop_server.store.quality import low_rated
from heedloop_server.store.quality.comparisons import Comparisons, Judged, pair_counts, read_duels
from heedloop_server.store.quality.counts import View
from heedloop_server.store.quality.low_rated import Clustering, LowRatedText
from heedloop_server.store.quality.pairs import count_days, days_of_pair
from heedloop_server.store.quality.summaries import judgements_of

router = SharedRouter()

Json = dict[str, Any]

MAX_RELEASES = 20
NUM_PARTS = 20
FRESH = timedelta(minutes=10)
_RELEASED = ("prompt_version", "model")


# -------------------------------------------------------------------------------------------------------------- versions


@router.get("/v1/quality/versions")
def versions(
    project: ReadProject, view: Chosen, field: str, baseline: str | None = None
) -> responses.Versions:
    """Every value of a field against one, decided over all of them together and for those who look every day."""
    groups = {v: g for (v,), g in store.count_by(project, view, [field]).items()}
    chosen = baseline if baseline is not None else _most_rated(groups)
    if chosen is None:
        return responses.Versions(
            field=field,
            baseline=None,
            versions=[],
            num_compared=0,
            sentence="There are no ratings in this period.",
        )
    if chosen not in groups:
        raise Invalid(f"no answer of this view has {field} {chosen[:80]!r}", field="baseline")
    days = count_days(project, view, field)
    rated = [v for v, g in groups.items() if v != chosen and g.ratings.num]
    as_of = last_day(view)
    found = {v: compare_versions(*days_of_pair(days, v, chosen), as_of=as_of) for v in rated}
    verdicts = _verdicts(project, view, (field, chosen), found)
    decided = {v: _word(verdicts[v]) if sure else None for v, sure in _sure(found).items()}
    better, worse = ([v for v in rated if decided[v] == word] for word in ("better", "worse"))
    return responses.Versions(
        field=field,
        baseline=groups[chosen].as_record(responses.Group, value=chosen),
        versions=[_version(v, groups[v], verdicts[v], decided[v]) for v in rated],
        num_compared=len(rated),
        sentence=versions_sentence(field, chosen, better, worse, len(rated)),
    )


def _most_rated(groups: dict[str, Group]) -> str | None:
    rated = {v: g.ratings.num for v, g in groups.items() if g.ratings.num}
    return max(rated, key=lambda v: (rated[v], v), default=None)


def _sure(found: dict[str, VersionComparison]) -> dict[str, bool]:
    """E-values stay right under any dependence and at any time; Wang and Ramdas's procedure keeps false decisions at 5% of all."""
    rejected = e_benjamini_hochberg([c.test.e_value for c in found.values()], level=0.05)
    return dict(zip(found, rejected, strict=True))


def _verdicts(
    project: ProjectStore, view: View, against: tuple[str, str], found: dict[str, VersionComparison]
) -> dict[str, Verdict]:
    """Each value's verdict; fields are held still only where there is a decision to be checked."""
    field, baseline = against
    return {
        value: judge(project, view, (field, value, [baseline]), comparison)
        if comparison.test.decided
        else Verdict(comparison)
        for value, comparison in found.items()
    }


def _word(verdict: Verdict) -> Literal["better", "worse"] | None:
    return None if verdict.decided is None else "better" if verdict.decided == "a" else "worse"


def _version(value: str, group: Group, verdict: Verdict, decided: str | None) -> responses.Version:
    found = verdict.comparison
    return group.as_record(
        responses.Version,
        value=value,
        compared=compared_ratings(found),
        difference=found.difference,
        e_value=min(found.test.e_value, 1e300),
        decided=decided,
        decided_alone=_word(verdict),
        confounding=verdict.confounding,
        num_needed=0 if decided else verdict.num_needed or None,
        design=found.design,
    )


# -------------------------------------------------------------------------------------------------------------- releases


@router.get("/v1/quality/releases")
def releases(
    project: ReadProject,
    view: Chosen,
    days: Annotated[int, Query(ge=1, le=90)] = 7,
    field: Literal["prompt_version", "model"] | None = None,
    value: str | None = None,
) -> responses.Releases:
    """The releases of the period, newest first, each against what was there before it."""
    fields = [field] if field else _RELEASED
    found = [r for r in store.releases(project, view) if r[1] in fields and (value is None or r[2] == value)]
    newest = sorted(found, reverse=True)[:MAX_RELEASES]
    effects: list[responses.ReleaseEffect] = []
    for name in {f for _, f, _ in newest}:
        effects += _of_field(project, view, name, [(at, v) for at, f, v in newest if f == name], days)
    return responses.Releases(releases=sorted(effects, key=lambda e: e.time, reverse=True), days=days)


def _of_field(
    project: ProjectStore, view: View, field: str, found: list[tuple[datetime, str]], days: int
) -> Iterable[responses.ReleaseEffect]:
    span = timedelta(days=days, hours=1)
    wide = view.over(min(at for at, _ in found) - span, max(at for at, _ in found) + span)
    grid = store.count_grid(project, wide, field, "hour")
    moments = store.first_seen(project, wide, field, {v: at for at, v in found})
    now = utc_now()
    for hour, value in found:
        at = moments.get(value, hour)
        compared = compare_release(grid, value, at, days, as_of=now)
        verdict = Verdict(compared.test)
        if compared.decided:
            narrow = view.over(hour - timedelta(days=days), hour + timedelta(days=days))
            verdict = judge(project, narrow, (field, value, sorted(compared.older)), compared.test)
        yield _release(project, (field, value, at), compared, verdict)


def _release(
    project: ProjectStore, named: tuple[str, str, datetime], found: ReleaseComparison, verdict: Verdict
) -> responses.ReleaseEffect:
    field, value, at = named
    return responses.ReleaseEffect(
        time=at,
        field=field,
        value=value,
        before=found.before.as_record(responses.Counts),
        after=found.after.as_record(responses.Counts),
        others=found.others.as_record(responses.Counts),
        compared=compared_ratings(found.test),
        change=found.change,
        drift=found.drift,
        e_value=min(found.test.test.e_value, 1e300),
        decided=_word(verdict),
        confounding=verdict.confounding,
        num_needed=verdict.num_needed,
        design=found.test.design,
        sentence=release_sentence(value, found, verdict.confounding),
        run=next((run_summary(r) for r in list_runs(project) if r.model_name == value), None)
        if field == "model"
        else None,
    )


# -------------------------------------------------------------------------------------------------------------- clusters


@router.get("/v1/quality/clusters")
@responds(also=[202])
def clusters(
    jobs: Jobs,
    who: ReadKey,
    project: ReadProject,
    view: Chosen,
    of: Literal["answers", "comments", "questions"] = "answers",
    num_clusters: Annotated[int | None, Query(ge=2, le=12)] = None,
) -> responses.Clusters | Response:
    """What low-rated answers have in common; kept ten minutes, and by their ids for two weeks.

    202 with the job where it takes longer.
    """
    key = _view_key(view, of, num_clusters)
    before = low_rated.newest_clustering(project, key)
    since, until = view.filters.period()
    now = utc_now()
    if (
        before
        and before.since == since
        and abs(until - before.until) < FRESH
        and now - before.made_at < FRESH
    ):
        return _clusters(project, before)
    # the same filters as this request's, with the times that its period ended up with
    asked = (view.rating or view.filters).model_copy(update={"since": since, "until": until})
    request = {"filters": asked.model_dump(mode="json", exclude_defaults=True), "of": of, "num": num_clusters}
    made = jobs.outcome(jobs.start("clusters", who, request))
    return made if isinstance(made, Response) else _clusters(project, made)


def _find_clusters(job: JobContext) -> Finished:
    project, request = job.project, job.request
    view, of, num_clusters = View.of(read_filters(request["filters"])), request["of"], request["num"]
    key = _view_key(view, of, num_clusters)
    found = _cluster(project, view, of, num_clusters, key, low_rated.newest_clustering(project, key))
    low_rated.insert_clustering(project, found)
    asked = (view.rating or view.filters).parameters() | {"of": of, "num_clusters": num_clusters}
    asked |= {"since": format_time(found.since), "until": format_time(found.until)}
    query = urlencode({k: v for k, v in asked.items() if v is not None}, doseq=True)
    return Finished(found, JobResult(path=f"/v1/quality/clusters?{query}"))


CLUSTERS = Kind("clusters", "read", _find_clusters)


def _view_key(view: View, of: str, num_clusters: int | None) -> str:
    asked = [of, num_clusters, view.author_kind, view.filters.answers_only, view.filters.parameters()]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


def _cluster(
    project: ProjectStore,
    view: View,
    of: low_rated.Of,
    num_clusters: int | None,
    key: str,
    before: Clustering | None,
) -> Clustering:
    read = low_rated.low_rated_texts(project, view, of)
    now = utc_now()
    background = low_rated.sample_questions(project, now) if of == "questions" else []
    found = cluster_texts([t.text for t in read.texts], num_clusters=num_clusters, background=background)
    earlier = {c["key"]: c for c in before.summary["clusters"]} if before else {}
    names = carry_names(
        found,
        [Cluster(c["name"], tuple(c["words"]), (), (), c["cohesion"], c["key"]) for c in earlier.values()],
    )
    first = {c["name"]: parse_time(c["since"]) for c in earlier.values()}
    liked = low_rated.low_rated_texts(project, view, of, liked=True) if of != "comments" else None
    alike = count_alike([t.text for t in read.texts], found, [t.text for t in liked.texts]) if liked else []
    # of more than are read only the newest are: each then stands for some
    weight = [r.num_answers / max(1, len(r.texts)) for r in (read, liked) if r is not None]
    rows: list[Json] = []
    members: list[tuple[str, str, str]] = []
    since, until = view.filters.period()
    for i, cluster in enumerate(found):
        name = names.get(cluster.key, cluster.name)
        texts = [read.texts[i] for i in cluster.members]
        cluster_id = _cluster_id(key, texts)
        members += [(t.trace_id, t.span_id, cluster_id) for t in texts]
        rows.append(
            {
                "id": cluster_id,
                "key": cluster.key,
                "name": name,
                "words": list(cluster.words),
                "num": len(texts),
                "cohesion": cluster.cohesion,
                "examples": [[format_time(t.at), t.trace_id, t.span_id] for t in texts[:3]],
                "since": format_time(min(first.get(name, now), *(t.at for t in texts))),
                "liked": alike[i] if alike else None,
                "counts": _in_parts([t.at for t in texts], since, until),
            }
        )
    summary = {"of": of, "clusters": rows, "num_texts": len(read.texts), "num_low_rated": read.num_answers}
    if liked is not None:
        summary |= {"num_liked": liked.num_answers, "weights": weight}
    return Clustering(key, now, since, until, summary, members)


def _in_parts(times: list[datetime], since: datetime, until: datetime) -> list[int]:
    """How many times lie in each of 20 equal parts of a period."""
    counts = [0] * NUM_PARTS
    for at in times:
        counts[min(NUM_PARTS - 1, max(0, int(NUM_PARTS * ((at - since) / (until - since)))))] += 1
    return counts


def _harm(row: Json, summary: Mapping[str, Any]) -> tuple[responses.Interval | None, float]:
    """A cluster's down rate, and how many low-rated answers more it holds than an average group of its size."""
    if row.get("liked") is None or not summary["num_liked"] + summary["num_low_rated"]:
        return None, float(row["num"])
    (low, w), (liked, v) = zip((row["num"], row["liked"]), summary["weights"], strict=True)
    found = wilson_from_sums(
        low + liked, low * w + liked * v, low * w * w + liked * v * v, low * w, low * w * w
    )
    return found, low * w - (low * w + liked * v) * _usual_rate(summary)


def _usual_rate(summary: Mapping[str, Any]) -> float:
    return summary["num_low_rated"] / (summary["num_low_rated"] + summary["num_liked"])


def _cluster_id(key: str, texts: list[LowRatedText]) -> str:
    ids = ",".join(sorted(t.trace_id + t.span_id for t in texts))
    return hashlib.sha256(f"{key}:{ids}".encode()).hexdigest()[:16]


def _clusters(project: ProjectStore, found: Clustering) -> responses.Clusters:
    summary = found.summary
    harm = {r["id"]: _harm(r, summary) for r in summary["clusters"]}
    rows = sorted(summary["clusters"], key=lambda r: -harm[r["id"]][1])
    shown = _whole_calls(project, [(parse_time(at), t, s) for r in rows for at, t, s in r["examples"]])
    total = found.summary["num_texts"]
    of = found.summary["of"]
    return responses.Clusters(
        clusters=[
            responses.Cluster(
                id=r["id"],
                name=r["name"],
                words=r["words"],
                num_answers=r["num"],
                share=r["num"] / total,
                cohesion=r["cohesion"],
                examples=_examples([shown[t, s] for _, t, s in r["examples"] if (t, s) in shown], of),
                since=parse_time(r["since"]),
                filters={"cluster": r["id"]},
                down_rate=rate,
                lift=rate.estimate / _usual_rate(summary) if rate and summary["num_low_rated"] else None,
                is_excess=rate is not None and rate.low > _usual_rate(summary),
                counts=r.get("counts", []),
            )
            for r in rows
            for rate in [harm[r["id"]][0]]
        ],
        num_texts=total,
        num_low_rated=found.summary["num_low_rated"],
        of=of,
        made_at=found.made_at,
        method="TF-IDF, SVD, k-means; words by class-based TF-IDF",
    )


def _whole_calls(project: ProjectStore, keys: list[tuple[datetime, str, str]]) -> dict[tuple[str, str], Row]:
    """(trace id, span id) -> the call with its question, its answer and the newest comment on it."""
    rows = low_rated.whole_calls(project, keys)
    return {(row["trace_id_hex"], row["span_id_hex"]): row for row in rows}


def _examples(rows: list[Row], of: str) -> list[responses.Example]:
    """The most central first, but those with a comment before the others: a comment says what was wrong."""
    return [_example(row, of) for row in sorted(rows, key=lambda r: not r["comment"])]


def _example(row: Row, of: str) -> responses.Example:
    text = {"answers": "answer_text", "questions": "question_text", "comments": "comment"}[of]
    return responses.Example(
        trace_id=row["trace_id_hex"],
        span_id=row["span_id_hex"],
        start_time=row["start_time"],
        text=(row[text] or "")[:500],
        question=row["question_text"],
        comment=row["comment"],
        model=row["model"] or None,
        prompt_version=row["prompt_version"] or None,
    )


# ---------------------------------------------------------------------------------------------------------------- league

_CONTENDERS = ("model", "prompt_name", "prompt_version", "service", "environment")


@router.get("/v1/quality/league")
def league_table(
    project: ReadProject,
    view: Chosen,
    field: str = "model",
    judge: AuthorKind | None = None,
    comparison: Annotated[str, Query(max_length=256)] = "",
    queue: Annotated[str, Query(max_length=64)] = "",
) -> responses.LeagueTable:
    """Who wins pairwise comparisons, how sure, and what length has to do with it; of one name or one review queue alone."""
    if field not in _CONTENDERS and not (field.startswith("metadata.") and len(field) > len("metadata.")):
        raise Invalid(
            f"{field[:80]!r} is no field to compare; use {', '.join(_CONTENDERS)} or metadata.KEY",
            field="field",
        )
    judged = read_duels(project, view, field, Comparisons(judge, comparison, queue))
    table = league(judged.duels)
    lengths = length_effect(judged.duels)
    return _league(field, judged, table, lengths)


def _league(field: str, judged: Judged, table: League, lengths: LengthEffect | None) -> responses.LeagueTable:
    pairs = pair_counts(judged.duels)
    names = [str(s.name) for s in table.standings]
    return responses.picked(
        responses.LeagueTable,
        table,
        field=field,
        standings=[
            responses.Standing(
                value=str(s.name),
                win_rate=s.win_rate,
                strength=s.log_strength,
                at_equal_length=lengths.log_strength.get(s.name) if lengths else None,
                **_record_of(str(s.name), pairs),
            )
            for s in table.standings
        ],
        pairs=[_pair(a, b, *counts) for (a, b), counts in sorted(pairs.items())],
        components=[[str(n) for n in part] for part in table.components],
        length_odds=lengths.odds if lengths else None,
        first_shown_wins=first_shown_wins(judged.shown),
        num_all_bad=judged.num_all_bad,
        num_raters=judged.num_raters,
        num_unknown=judged.num_unknown,
        sentence=league_sentence(names, connected=table.connected, num_judgements=table.num_judgements),
    )


def _record_of(name: str, pairs: dict[tuple[str, str], tuple[int, int, int]]) -> dict[str, int]:
    wins = sum(c[0] if a == name else c[1] for (a, b), c in pairs.items() if name in (a, b))
    losses = sum(c[1] if a == name else c[0] for (a, b), c in pairs.items() if name in (a, b))
    ties = sum(c[2] for pair, c in pairs.items() if name in pair)
    return {"num_judgements": wins + losses + ties, "num_wins": wins, "num_ties": ties, "num_losses": losses}


def _pair(a: str, b: str, wins_a: int, wins_b: int, ties: int) -> responses.Pair:
    rate = wilson(wins_a + ties / 2, wins_a + wins_b + ties)
    return responses.Pair(a=a, b=b, wins_a=wins_a, wins_b=wins_b, ties=ties, win_rate=rate)


# --------------------------------------------------------------------------------------------------------- liked answers


@router.get("/v1/quality/similar")
@responds(also=[404])
def similar(
    project: ReadProject,
    trace_id: Annotated[str, Query(pattern="^[0-9a-f]{32}$")],
    span_id: Annotated[str, Query(pattern="^[0-9a-f]{16}$")],
    limit: Annotated[int, Query(ge=1, le=20)] = 5,
) -> responses.SimilarCalls:
    """Liked answers to questions like that of a call."""
    call = low_rated.question_of_call(project, trace_id, span_id)
    if call is None:
        raise NotFound(f"there is no call {trace_id}/{span_id} in this project")
    question, at = call
    sample = low_rated.sample_questions(project, at)
    wanted = telling_words(question, sample)
    rows = low_rated.liked_candidates(project, wanted, at, without=(trace_id, span_id))
    found = most_similar(question, [r["question_text"] for r in rows], background=sample, limit=limit)
    keys = [(rows[i]["start_time"], rows[i]["trace"], rows[i]["span"]) for i, _ in found]
    shown = _whole_calls(project, keys)
    judged = judgements_of(project, [(t, s) for _, t, s in keys], [at for at, _, _ in keys])
    cosines = {(t, s): cosine for (_, t, s), (_, cosine) in zip(keys, found, strict=True)}
    return responses.SimilarCalls(
        calls=[
            responses.SimilarCall(
                **summary_values(shown[key]),
                **judged[key],
                similarity=cosine,
                question=shown[key]["question_text"],
                answer=shown[key]["answer_text"],
            )
            for key, cosine in cosines.items()
            if key in shown
        ],
        num_candidates=len(rows),
    )
