"""Pairwise judgements with the calls that were compared: what a league is made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from heedloop.schema import EVALUATION, AuthorKind, Feedback, from_json
from heedloop_server.statistics.pairwise import Duel
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.feedback import JudgedCall, find_calls
from heedloop_server.store.filters import of_evaluation
from heedloop_server.store.quality.rows import View, judged_condition

MAX_COMPARISONS = 20_000
_AT_ONCE = 1_000


@dataclass(slots=True)
class Judged:
    """The duels of a view, and what was left out.

    Attributes:
        shown: each duel that says in which order the two were shown, with whether A was first.
        num_unknown: pairs of answers whose call is not known, or that have one and the same value.
    """

    duels: list[Duel]
    shown: list[tuple[Duel, bool]]
    num_all_bad: int = 0
    num_unknown: int = 0
    num_raters: int = 0


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Which comparisons: by authors of a kind (all but models where none is named), of a name (a review's question), of a review queue; all where empty."""

    judge: AuthorKind | None = None
    name: str = ""
    queue_id: str = ""


def read_duels(project: ProjectStore, view: View, field: str, chosen: Comparisons) -> Judged:
    """The newest 20,000 comparisons of the view, answer against answer, by the answers' values of a field."""
    comparisons = _comparisons(project, view, chosen)
    targets = list({a.key: a for f in comparisons if f.ranking for a in f.ranking.answers}.values())
    calls: dict[str, JudgedCall] = {}
    for first in range(0, len(targets), _AT_ONCE):
        calls |= find_calls(project, targets[first : first + _AT_ONCE])
    if not of_evaluation(view.filters):
        calls = {k: c for k, c in calls.items() if not c.environment.startswith(EVALUATION)}
    result = Judged([], [])
    raters = {f.author.id for f in comparisons if f.author.id}
    result.num_raters = len(raters)
    for feedback in comparisons:
        result.num_all_bad += bool(feedback.ranking and feedback.ranking.all_bad)
        for duel, first in _duels(feedback, field, calls):
            if duel is None:
                result.num_unknown += 1
                continue
            result.duels.append(duel)
            if first is not None:
                result.shown.append((duel, first))
    return result


def _comparisons(project: ProjectStore, view: View, chosen: Comparisons) -> list[Feedback]:
    params: dict[str, object] = {
        "judge": chosen.judge or "",
        "comparison": chosen.name,
        "queue": chosen.queue_id,
        "limit": MAX_COMPARISONS,
    }
    where = judged_condition(view, params)
    rows = project.rows(
        f"""
        SELECT record
        FROM feedback FINAL
        WHERE {where}
          AND kind = 'comparison'
          AND (({{judge:String}} = '' AND author_kind != 'model') OR author_kind = {{judge:String}})
          AND ({{comparison:String}} = '' OR name = {{comparison:String}})
          AND ({{queue:String}} = '' OR queue_item IN (
              SELECT item_id
              FROM review_items
              WHERE project_id = {{project:String}} AND queue_id = {{queue:String}}
          ))
        ORDER BY created_at DESC
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        params,
    )
    return [from_json(Feedback, json.loads(r["record"])) for r in rows]


def _duels(
    feedback: Feedback, field: str, calls: dict[str, JudgedCall]
) -> Iterator[tuple[Duel | None, bool | None]]:
    ranking = feedback.ranking
    if ranking is None:
        return
    order = {answer: place for place, answer in enumerate(ranking.shown_order or ())}
    for i, j in combinations(range(len(ranking.answers)), 2):
        a, b = (calls.get(ranking.answers[k].key) for k in (i, j))
        name_a, name_b = _value(a, field), _value(b, field)
        if a is None or b is None or not name_a or not name_b or name_a == name_b:
            yield None, None
            continue
        result = 0.5 if ranking.ranks[i] == ranking.ranks[j] else float(ranking.ranks[i] < ranking.ranks[j])
        length = float(a.copied["call_answer_chars"] - b.copied["call_answer_chars"])
        duel = Duel(name_a, name_b, result, feedback.author.id, length)
        yield duel, order[i] < order[j] if order else None


def _value(call: JudgedCall | None, field: str) -> str:
    if call is None:
        return ""
    if field.startswith("metadata."):
        return str(call.copied["call_metadata"].get(field.removeprefix("metadata."), ""))
    return str(getattr(call, field))


def pair_counts(duels: Sequence[Duel]) -> dict[tuple[str, str], tuple[int, int, int]]:
    """(a, b), a before b -> (wins of a, wins of b, ties)."""
    results: dict[tuple[str, str], tuple[int, int, int]] = {}
    for duel in duels:
        a, b = str(duel.a), str(duel.b)
        result = duel.result
        if b < a:
            a, b, result = b, a, 1 - result
        had = results.get((a, b), (0, 0, 0))
        results[a, b] = (had[0] + (result == 1), had[1] + (result == 0), had[2] + (result == 0.5))
    return results
