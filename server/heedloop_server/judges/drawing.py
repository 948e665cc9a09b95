"""Drawing answers for an audit: which ones annotators should look at next, with known probabilities."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from heedloop_server.errors import Invalid, NotFound
from heedloop_server.filters import CallFilters
from heedloop_server.judges.audits import read_audits
from heedloop_server.review.filling import stored_targets
from heedloop_server.statistics.deferral import error_model, label_probabilities
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.judges import judged_answers, list_judges
from heedloop_server.store.review.sources import Drawn, low_confidence


def draw_audit(
    project: ProjectStore, queue_id: str, judge_id: str, name: str | None, filters: CallFilters, size: int
) -> Drawn:
    """About `size` of the judge's answers, each with a probability of its own.

    An answer is drawn where its lot, a hash of queue and answer, is below its probability. So a second draw holds the first
    one's answers wherever its probability is not smaller, and the larger of both is the probability of the two together.

    Raises:
        NotFound: there is no such judge.
        Invalid: it judged none of the filters' answers, or gives no feedback of this name.
    """
    found = list_judges(project, judge_id)
    if not found:
        raise NotFound(f"there is no judge {judge_id!r} in this project")
    spec = found[0].spec
    name = name or spec.names[0]
    if name not in spec.names:
        raise Invalid(f"the judge gives no {name!r}; it gives {', '.join(spec.names)}", field="name")
    known = read_audits(project, spec, name, filters)
    if not known.judged:
        raise Invalid(
            f"{judge_id} has judged none of these answers (of the last 30 days, where `since` is not given); "
            f"start `heedloop judge run {judge_id}`, or say `since`",
            field="judge",
        )
    model = error_model([a.judge for a in known.audits], [a.people for a in known.audits])
    chances = label_probabilities([j.share for j in known.judged], model, size)
    drawn = {j.key: float(p) for j, p in zip(known.judged, chances, strict=True) if _lot(queue_id, j.key) < p}
    stored, _ = stored_targets(project, [_places(key) for key in drawn])
    sources = [
        replace(s, probability=drawn["|".join(sorted(t + p for t, p, _ in s.answers))]) for s in stored.items
    ]
    return Drawn(sources, len(known.judged))


def draw_doubtful(project: ProjectStore, judge: str, filters: CallFilters, limit: int) -> Drawn:
    """What a judge could not decide on: of a pairwise one its ties, newest first, else ratings by their distance from the middle."""
    known = list_judges(project, judge) if judge else []
    if not known or known[0].spec.form != "pairwise":
        return low_confidence(project, filters, limit=limit, judge=judge)
    spec = known[0].spec
    ties = [j.key for j in judged_answers(project, spec, spec.question, filters) if j.share == 0.5]
    stored, _ = stored_targets(project, [_places(key) for key in ties[:limit]])
    return replace(stored, matching=len(ties))


def _places(key: str) -> list[tuple[str, str]]:
    return [(k[:32], k[32:48]) for k in key.split("|")]


def _lot(queue_id: str, key: str) -> float:
    digest = hashlib.sha256(f"{queue_id}|{key}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
