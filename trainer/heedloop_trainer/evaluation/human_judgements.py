"""People as judges: a new model's answers and its parent's, side by side in a review queue, and what was said of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from heedloop.client import Client
from heedloop.schema import Call, Message, utc_now
from heedloop_trainer.evaluation.estimates import cluster_bootstrap
from heedloop_trainer.ppo.rollout import Response

ENVIRONMENT = "evaluation"
"""Of calls that no user saw: rates of production filter by another one."""


def put_to_review(
    client: Client, queue_id: str, new: Sequence[Response], parent: Sequence[Response], run_id: str
) -> dict[str, Any]:
    """Send both models' answers as calls and put each pair into the queue; equal answers are left out.

    Sending it again adds nothing: ids are made from the run and the row. The judge sees neither which model is new nor its
    name, unless the queue shows it; the order shown is the queue's.

    Raises:
        TimeoutError: the server has not stored the calls after two minutes.
    """
    pairs = [i for i, (a, b) in enumerate(zip(new, parent, strict=True)) if a.text != b.text]
    sides = {"new": new, "parent": parent}
    calls = {(i, side): _call(run_id, i, side, sides[side][i]) for i in pairs for side in sides}
    client.send_calls(calls.values())
    client.wait_until_stored()
    targets = [{side: _target(calls[i, side]) for side in sides} for i in pairs]
    items = [[t["new"], t["parent"]] for t in targets]
    filled = client.fill_review_queue(queue_id, "targets", items=items)
    return {"queue_id": queue_id, "num_equal": len(new) - len(pairs), "pairs": targets, **asdict(filled)}


def _call(run_id: str, row: int, side: str, response: Response) -> Call:
    digest = hashlib.sha256(f"{run_id}|{row}|{side}".encode()).hexdigest()
    return Call(
        trace_id=digest[:32],
        span_id=digest[32:48],
        start_time=utc_now(),
        name="evaluation",
        service="heedloop.evaluation",
        environment=ENVIRONMENT,
        model_answered=f"{side} of {run_id[:12]}",
        input_messages=response.prompt.prompt,
        output_messages=(Message("assistant", response.text),),
        tags=(f"evaluation:{run_id[:12]}",),
    )


def _target(call: Call) -> dict[str, str]:
    return {"trace_id": call.trace_id, "span_id": call.span_id}


def human_win_rate(client: Client, pairs: Iterable[Mapping[str, Mapping[str, str]]]) -> dict[str, Any] | None:
    """Share of people's comparisons that the new answer won, ties half, clustered by judge; None before the first one.

    Args:
        pairs: targets of the `new` and the `parent` answer, as `put_to_review` gave them.
    """
    sides: dict[tuple[str | None, str | None], str] = {
        (t["trace_id"], t["span_id"]): side for pair in pairs for side, t in pair.items()
    }
    wins: list[float] = []
    judges: list[str | None] = []
    for feedback in client.iter_feedback(kind="comparison"):
        ranking = feedback.ranking
        if ranking is None or feedback.author.kind not in ("annotator", "end_user"):
            continue
        ranks = {
            sides.get((a.trace_id, a.span_id)): rank
            for a, rank in zip(ranking.answers, ranking.ranks, strict=True)
        }
        if "new" in ranks and "parent" in ranks:
            gap = ranks["parent"] - ranks["new"]
            wins.append(0.5 if gap == 0 else float(gap > 0))
            judges.append(feedback.author.id)
    return asdict(cluster_bootstrap(np.array(wins), judges)) if wins else None
