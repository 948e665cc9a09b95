"""What the numbers hide: many versions at once, releases, clusters of complaints, leagues, liked answers like one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query

from heedloop.responses import RunSummary
from heedloop.schema import AuthorKind, format_time, parse_time, to_json, utc_now
from heedloop_server.answers.insights import Clusters, LeagueTable, Releases, SimilarCalls, Versions
from heedloop_server.errors import Invalid, NotFound
from heedloop_server.http.auth import scoped
from heedloop_server.http.openapi import responds
from heedloop_server.routes.calls import summary_values
from heedloop_server.routes.quality import Chosen
from heedloop_server.routes.verdicts import Verdict, compared_json, confounding_json, judge, last_day
from heedloop_server.statistics.clusters import Cluster, carry_names, cluster_texts
from heedloop_server.statistics.counts import Group, as_json
from heedloop_server.statistics.intervals import wilson
from heedloop_server.statistics.multiplicity import e_benjamini_hochberg
from heedloop_server.statistics.pairwise import League, LengthEffect, first_shown_wins, league, length_effect
from heedloop_server.statistics.releases import ReleaseComparison, compare_release
from heedloop_server.statistics.sentences import league_sentence, release_sentence, versions_sentence
from heedloop_server.statistics.similar import most_similar, telling_words
from heedloop_server.statistics.versions import VersionComparison, compare_versions
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.runs import list_runs, run_summary
from heedloop_server.store.quality import counts as store
from heedloop_server.store.quality import low_rated
from heedloop_server.store.quality.comparisons import Comparisons, Judged, pair_counts, read_duels
from heedloop_server.store.quality.counts import View
from heedloop_server.store.quality.low_rated import Clustering, LowRatedText
from heedloop_server.store.quality.summaries import judgements_of

__all__ = ["router"]

router = APIRouter()

Reader = Annotated[ProjectStore, Depends(scoped("read"))]
Json = dict[str, Any]

MAX_RELEASES = 20
FRESH = timedelta(minutes=10)
_RELEASED = ("prompt_version", "model")


# -------------------------------------------------------------------------------------------------------------- versions


@router.get("/v1/quality/versions")
@responds(Versions)
def versions(project: Reader, view: Chosen, field: str, baseline: str | None = None) -> Json:
    """Every value of a field against one, decided over all of them together and for those who look every day."""
    groups = {v: g for (v,), g in store.count_by(project, view, [field]).items()}
    chosen = baseline if baseline is not None else _most_rated(groups)
    if chosen is None:
        return {
            "field": field,
            "baseline": None,
            "versions": [],
            "num_compared": 0,
            "sentence": "There are no ratings in this period.",
        }
    if chosen not in groups:
        raise Invalid(f"no answer of this view has {field} {chosen[:80]!r}", field="baseline")
    days = store.count_days(project, view, field)
    rated = [v for v, g in groups.items() if v != chosen and g.ratings.num]
    as_of = last_day(view)
    found = {v: compare_versions(*store.days_of_pair(days, v, chosen), as_of=as_of) for v in rated}
    verdicts = _verdicts(project, view, (field, chosen), found)
    decided = {v: _word(verdicts[v]) if sure else None for v, sure in _sure(found).items()}
    better, worse = ([v for v in rated if decided[v] == word] for word in ("better", "worse"))
    return {
        "field": field,
        "baseline": {"value": chosen, **groups[chosen].to_json()},
        "versions": [_version_json(v, groups[v], verdicts[v], decided[v]) for v in rated],
        "num_compared": len(rated),
        "sentence": versions_sentence(field, chosen, better, worse, len(rated)),
    }


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


def _version_json(value: str, group: Group, verdict: Verdict, decided: str | None) -> Json:
    found = verdict.comparison
    return {
        "value": value,
        **group.to_json(),
        "compared": compared_json(found),
        "difference": as_json(found.difference),
        "e_value": min(found.test.e_value, 1e300),
        "decided": decided,
        "decided_alone": _word(verdict),
        "confounding": confounding_json(verdict.confounding),
        "num_needed": 0 if decided else verdict.num_needed or None,
        "design": found.design,
    }


# -------------------------------------------------------------------------------------------------------------- releases


@router.get("/v1/quality/releases")
@responds(Releases)
def releases(
    project: Reader,
    view: Chosen,
    days: Annotated[int, Query(ge=1, le=90)] = 7,
    field: Literal["prompt_version", "model"] | None = None,
    value: str | None = None,
) -> Json:
    """What came up in the period, newest first, each against what was there before it."""
    fields = [field] if field else _RELEASED
    found = [r for r in store.releases(project, view) if r[1] in fields and (value is None or r[2] == value)]
    newest = sorted(found, reverse=True)[:MAX_RELEASES]
    out: list[tuple[datetime, Json]] = []
    for name in {f for _, f, _ in newest}:
        out += _of_field(project, view, name, [(at, v) for at, f, v in newest if f == name], days)
    return {"releases": [r for _, r in sorted(out, key=lambda o: o[0], reverse=True)], "days": days}


def _of_field(
    project: ProjectStore, view: View, field: str, found: list[tuple[datetime, str]], days: int
) -> Iterable[tuple[datetime, Json]]:
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
        yield at, _release_json(project, (field, value, at), compared, verdict)


def _release_json(
    project: ProjectStore, named: tuple[str, str, datetime], found: ReleaseComparison, verdict: Verdict
) -> Json:
    field, value, at = named
    return {
        "time": format_time(at),
        "field": field,
        "value": value,
        "before": found.before.to_json(),
        "after": found.after.to_json(),
        "others": found.others.to_json(),
        "compared": compared_json(found.test),
        "change": as_json(found.change),
        "drift": as_json(found.drift),
        "e_value": min(found.test.test.e_value, 1e300),
        "decided": _word(verdict),
        "confounding": confounding_json(verdict.confounding),
        "num_needed": verdict.num_needed,
        "design": found.test.design,
        "sentence": release_sentence(value, found, verdict.confounding),
        "run": to_json(run) if field == "model" and (run := _run_of(project, value)) else None,
    }


def _run_of(project: ProjectStore, model: str) -> RunSummary | None:
    """The run that trained a model, by the name under which it serves."""
    return next((run_summary(r) for r in list_runs(project) if r.model_name == model), None)


# -------------------------------------------------------------------------------------------------------------- clusters


@router.get("/v1/quality/clusters")
@responds(Clusters)
def clusters(
    project: Reader,
    view: Chosen,
    of: Literal["answers", "comments", "questions"] = "answers",
    num_clusters: Annotated[int | None, Query(ge=2, le=12)] = None,
) -> Json:
    """What low-rated answers have in common; kept ten minutes, and by their ids for two weeks."""
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
        return _clusters_json(project, before)
    found = _cluster(project, view, of, num_clusters, key, before)
    low_rated.insert_clustering(project, found)
    return _clusters_json(project, found)


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
    names = carry_names(found, [_earlier(c) for c in earlier.values()])
    first = {c["name"]: parse_time(c["since"]) for c in earlier.values()}
    rows: list[Json] = []
    members: list[tuple[str, str, str]] = []
    for cluster in found:
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
            }
        )
    since, until = view.filters.period()
    summary = {"of": of, "clusters": rows, "num_texts": len(read.texts), "num_low_rated": read.num_answers}
    return Clustering(key, now, since, until, summary, members)


def _earlier(row: Json) -> Cluster:
    return Cluster(row["name"], tuple(row["words"]), (), (), row["cohesion"], row["key"])


def _cluster_id(key: str, texts: list[LowRatedText]) -> str:
    ids = ",".join(sorted(t.trace_id + t.span_id for t in texts))
    return hashlib.sha256(f"{key}:{ids}".encode()).hexdigest()[:16]


def _clusters_json(project: ProjectStore, found: Clustering) -> Json:
    rows = found.summary["clusters"]
    shown = _shown(project, [(parse_time(at), t, s) for r in rows for at, t, s in r["examples"]])
    total = found.summary["num_texts"]
    of = found.summary["of"]
    return {
        "clusters": [
            {
                "id": r["id"],
                "name": r["name"],
                "words": r["words"],
                "num_answers": r["num"],
                "share": r["num"] / total,
                "cohesion": r["cohesion"],
                "examples": [_example(shown[t, s], of) for _, t, s in r["examples"] if (t, s) in shown],
                "since": r["since"],
                "filters": {"cluster": r["id"]},
            }
            for r in rows
        ],
        "num_texts": total,
        "num_low_rated": found.summary["num_low_rated"],
        "of": of,
        "made_at": format_time(found.made_at),
        "method": "TF-IDF, SVD, k-means; words by class-based TF-IDF",
    }


def _shown(project: ProjectStore, keys: list[tuple[datetime, str, str]]) -> dict[tuple[str, str], Json]:
    """(trace id, span id) -> the call's summary with its question, its answer and the newest comment on it."""
    judged = judgements_of(project, [(t, s) for _, t, s in keys], [at for at, _, _ in keys])
    found: dict[tuple[str, str], Json] = {}
    for row in low_rated.whole_calls(project, keys):
        key = row["trace_id_hex"], row["span_id_hex"]
        texts = {"question": row["question_text"], "answer": row["answer_text"], "comment": row["comment"]}
        found[key] = (
            summary_values(row) | {"start_time": format_time(row["start_time"])} | judged[key] | texts
        )
    return found


def _example(call: Json, of: str) -> Json:
    text = {"answers": "answer", "questions": "question", "comments": "comment"}[of]
    kept = ("trace_id", "span_id", "start_time", "comment", "model", "prompt_version")
    return {k: call[k] for k in kept} | {"text": (call[text] or "")[:500]}


# ---------------------------------------------------------------------------------------------------------------- league

_CONTENDERS = ("model", "prompt_name", "prompt_version", "service", "environment")


@router.get("/v1/quality/league")
@responds(LeagueTable)
def league_table(
    project: Reader,
    view: Chosen,
    field: str = "model",
    judge: AuthorKind | None = None,
    comparison: Annotated[str, Query(max_length=256)] = "",
    queue: Annotated[str, Query(max_length=64)] = "",
) -> Json:
    """Who wins pairwise comparisons, how sure, and what length has to do with it; of one name or one review queue alone."""
    if field not in _CONTENDERS and not (field.startswith("metadata.") and len(field) > len("metadata.")):
        raise Invalid(
            f"{field[:80]!r} is no field to compare; use {', '.join(_CONTENDERS)} or metadata.KEY",
            field="field",
        )
    judged = read_duels(project, view, field, Comparisons(judge, comparison, queue))
    table = league(judged.duels)
    lengths = length_effect(judged.duels)
    return _league_json(field, judged, table, lengths)


def _league_json(field: str, judged: Judged, table: League, lengths: LengthEffect | None) -> Json:
    pairs = pair_counts(judged.duels)
    names = [str(s.name) for s in table.standings]
    return {
        "field": field,
        "standings": [
            {
                "value": str(s.name),
                "win_rate": as_json(s.win_rate),
                "strength": as_json(s.log_strength),
                "at_equal_length": lengths.log_strength.get(s.name) if lengths else None,
                **_record_of(str(s.name), pairs),
            }
            for s in table.standings
        ],
        "pairs": [_pair_json(a, b, *counts) for (a, b), counts in sorted(pairs.items())],
        "connected": table.connected,
        "components": [[str(n) for n in part] for part in table.components],
        "longer_wins": as_json(table.longer_wins),
        "length_odds": as_json(lengths.odds) if lengths else None,
        "first_shown_wins": as_json(first_shown_wins(judged.shown)),
        "num_judgements": table.num_judgements,
        "num_ties": table.num_ties,
        "num_all_bad": judged.num_all_bad,
        "num_raters": judged.num_raters,
        "num_unknown": judged.num_unknown,
        "sentence": league_sentence(names, connected=table.connected, num_judgements=table.num_judgements),
    }


def _record_of(name: str, pairs: dict[tuple[str, str], tuple[int, int, int]]) -> Json:
    wins = sum(c[0] if a == name else c[1] for (a, b), c in pairs.items() if name in (a, b))
    losses = sum(c[1] if a == name else c[0] for (a, b), c in pairs.items() if name in (a, b))
    ties = sum(c[2] for pair, c in pairs.items() if name in pair)
    return {"num_judgements": wins + losses + ties, "num_wins": wins, "num_ties": ties, "num_losses": losses}


def _pair_json(a: str, b: str, wins_a: int, wins_b: int, ties: int) -> Json:
    rate = wilson(wins_a + ties / 2, wins_a + wins_b + ties)
    return {"a": a, "b": b, "wins_a": wins_a, "wins_b": wins_b, "ties": ties, "win_rate": as_json(rate)}


# --------------------------------------------------------------------------------------------------------- liked answers


@router.get("/v1/quality/similar")
@responds(SimilarCalls, also=[404])
def similar(
    project: Reader,
    trace_id: Annotated[str, Query(pattern="^[0-9a-f]{32}$")],
    span_id: Annotated[str, Query(pattern="^[0-9a-f]{16}$")],
    limit: Annotated[int, Query(ge=1, le=20)] = 5,
) -> Json:
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
    shown = _shown(project, keys)
    cosines = {(t, s): cosine for (_, t, s), (_, cosine) in zip(keys, found, strict=True)}
    return {
        "calls": [_liked(shown[k], cosine) for k, cosine in cosines.items() if k in shown],
        "num_candidates": len(rows),
    }


def _liked(call: Json, cosine: float) -> Json:
    return {k: v for k, v in call.items() if k != "comment"} | {"similarity": cosine}
