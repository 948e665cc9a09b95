"""The rows that a method trains on: a snapshot's, and of a second dataset that is mixed in against forgetting."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedloop.schema import ROW_CLASSES, DatasetForm, Demonstration, Message, PromptRow, from_json
from heedloop_trainer.jobs.job import FORMS, JobContext, JobError, read_rows
from heedloop_trainer.nn.optimiser import seeded_permutation


def training_rows(context: JobContext, *, needed: bool = True) -> list[Any]:
    """The training split of the method's form, with what is mixed in.

    Args:
        needed: False where it is no error that the split is empty.

    Raises:
        JobError: there are no rows to train on.
    """
    job, form = context.job, FORMS[context.job.method]
    rows = read_rows(context, form, "train" if needed else None)
    rows = [r for r in rows if r.split == "train"]
    return mixed(rows, job.mix, form, seed=job.config.seed) if job.mix else rows


def validation_rows(context: JobContext, form: DatasetForm | None = None) -> list[Any]:
    """The validation split of the method's form (or another), where training looks at it."""
    if not context.job.config.eval_every:
        return []
    return read_rows(context, form or FORMS[context.job.method], "validation")


def mixed(rows: Sequence[Any], place: str, form: DatasetForm, *, seed: int) -> list[Any]:
    """The rows with as many of a file that these are the wanted share of all; a short file is repeated.

    Args:
        place: `FILE:SHARE`, such as `general.jsonl:0.3`; the file holds rows as `heedloop export --to heedloop` writes them, or
            for demonstrations and prompts `{"messages": [{"role": …, "content": …}, …]}`.
        form: of the rows.
        seed: decides which rows of the file are taken.

    Raises:
        JobError: the place is not of that form, or the file holds no such rows.
    """
    file, _, text = place.rpartition(":")
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not file or not 0 < share < 1:
        raise JobError(f"--mix wants FILE:SHARE with a share between 0 and 1, not {place!r}")
    others = _rows_of(Path(file), form)
    count = round(len(rows) * share / (1 - share))
    order = seeded_permutation(len(others), seed, 11)
    return [*rows, *(others[order[i % len(order)]] for i in range(count))]


def _rows_of(file: Path, form: DatasetForm) -> list[Any]:
    try:
        with file.open(encoding="utf-8") as opened:  # its lines end with LF; a text may hold U+2028
            lines = [line for line in opened if line.strip()]
    except OSError as err:
        raise JobError(f"--mix cannot read {file}: {err}") from err
    rows: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_row_of(json.loads(line), form))
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise JobError(f"line {number} of {file} is no row of {form}: {err}") from err
    if not rows:
        raise JobError(f"--mix: {file} holds no rows")
    return rows


def _row_of(value: dict[str, Any], form: DatasetForm) -> Any:
    if "messages" not in value or form not in ("demonstrations", "prompts"):
        return from_json(ROW_CLASSES[form], value)
    messages = tuple(Message(m["role"], m["content"]) for m in value["messages"])
    if form == "prompts":
        return PromptRow(messages)
    if not messages or messages[-1].role != "assistant":
        raise ValueError("the last message must be the assistant's")
    return Demonstration(messages[:-1], messages[-1].text)
