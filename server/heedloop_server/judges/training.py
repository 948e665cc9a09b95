"""What a judge's rows weigh in training: only as much as annotators have confirmed."""

from __future__ import annotations

from typing import Any, cast

from heedloop.schema import SchemaError
from heedloop_server.filters import CallFilters
from heedloop_server.judges.audits import read_audits
from heedloop_server.judges.card import judge_card
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.judges import list_judges


def measured_weights(project: ProjectStore, judges: Any) -> dict[str, float]:
    """Judge -> how far its agreement with annotators surely is from chance: 2 low - 1, of the interval's low end.

    Of a rubric the least of its dimensions counts.

    Raises:
        SchemaError: it is no list of ids, or one is no judge that was measured.
    """
    if not isinstance(judges, list) or not all(isinstance(j, str) for j in cast(list[Any], judges)):
        raise SchemaError(
            "rules.judges", "must be a list of judges' ids; their weights are measured, not given"
        )
    return {j: _weight(project, j) for j in cast(list[str], judges)}


def _weight(project: ProjectStore, judge_id: str) -> float:
    found = list_judges(project, judge_id)
    if not found:
        raise SchemaError("rules.judges", f"there is no judge {judge_id!r} in this project")
    weights: list[float] = []
    for name in found[0].spec.names:
        card = judge_card(
            judge_id,
            found[0].spec,
            name,
            read_audits(project, found[0].spec, name, CallFilters().of_all_times()),
        )
        if card.state != "measured" or card.agreement is None:
            why = f" ({'; '.join(card.reasons)})" if card.reasons else ""
            raise SchemaError(
                "rules.judges", f"{judge_id} is {card.state} about {name}{why}; only a measured judge trains"
            )
        weights.append(max(2 * card.agreement.low - 1, 0.0))
    return min(weights)
