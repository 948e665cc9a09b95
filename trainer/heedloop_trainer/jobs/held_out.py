"""Held-out comparisons: how reward models, and the implicit rewards of policies, judge them beside the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heedloop.schema import Comparison
from heedloop_trainer.evaluation.evaluate import evaluate_comparisons
from heedloop_trainer.evaluation.slices import read_attributes
from heedloop_trainer.jobs.job import JobContext, read_rows


def comparison_report(
    context: JobContext, rows: Sequence[Comparison], margins: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Accuracy on held-out comparisons beside the baselines, the ceiling and by slice; empty where none is decided.

    Args:
        margins: log-odds that `chosen` wins by a model's name, one per row.
    """
    if not any(not r.tie for r in rows):
        return {}
    report = context.client.snapshot(context.job.snapshot_id).report
    return evaluate_comparisons(
        rows,
        [r for r in read_rows(context, "comparisons", None) if r.split == "train"],
        models=margins,
        ceiling=(report.get("comparisons") or {}).get("agreement_ceiling"),
        attributes=read_attributes(context.client, {t for r in rows for t in r.trace_ids}),
    )
