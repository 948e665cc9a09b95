"""One training or evaluation run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from heedloop.schema._checks import SchemaError, check_choice, check_object, check_text, utc_now
from heedloop.schema._kinds import MAX_TEXT_CHARS, RUN_METHODS, RUN_STATUSES, RunMethod, RunStatus


@dataclass(frozen=True, slots=True)
class Run:
    """One training or evaluation run: what was trained on what, and what came of it.

    Attributes:
        model_name: the name under which the trained model serves; put it on production spans as the model.
        parent: id of the run (or path of the checkpoint) that this one started from; None from scratch.
        checkpoint: where the files are, as the trainer's machine knows it.
        metrics: name -> final value; `history` rows are posted as they come.
        evaluation: what `evaluate` found, as JSON.
    """

    id: str
    method: RunMethod
    name: str = ""
    status: RunStatus = "running"
    snapshot_id: str | None = None
    parent: str | None = None
    model_name: str = ""
    checkpoint: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    code_version: str = ""
    started_at: datetime = field(default_factory=utc_now)
    finished_at: datetime | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    def __post_init__(self) -> None:
        check_text(self.id, "id")
        check_choice(self.method, RUN_METHODS, "method")
        check_choice(self.status, RUN_STATUSES, "status")
        for name in ("name", "model_name", "checkpoint", "code_version"):
            check_text(getattr(self, name), name, limit=MAX_TEXT_CHARS, empty=True)
        for name in ("snapshot_id", "parent", "error"):
            if getattr(self, name) is not None:
                check_text(getattr(self, name), name, limit=MAX_TEXT_CHARS, empty=True)
        for name in ("config", "metrics", "evaluation"):
            check_object(getattr(self, name), name)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise SchemaError("seed", f"{self.seed!r:.80} is not a whole number")
