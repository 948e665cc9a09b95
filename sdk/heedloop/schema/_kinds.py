"""The closed sets and limits of the records."""

from __future__ import annotations

from typing import Literal, get_args

FeedbackKind = Literal["rating", "correction", "flag", "comparison", "comment"]
AuthorKind = Literal["end_user", "annotator", "model", "code"]
Severity = Literal["low", "medium", "high"]
DatasetForm = Literal["demonstrations", "comparisons", "unpaired", "prompts", "rated"]
Split = Literal["train", "validation", "test"]
RunMethod = Literal[
    "sft", "reward", "reward_linear", "dpo", "kto", "ppo", "rloo", "grpo", "rejection", "evaluate", "pretrain"
]  # fmt: skip
RunStatus = Literal["running", "finished", "failed", "stopped"]

FEEDBACK_KINDS: tuple[FeedbackKind, ...] = get_args(FeedbackKind)
AUTHOR_KINDS: tuple[AuthorKind, ...] = get_args(AuthorKind)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
DATASET_FORMS: tuple[DatasetForm, ...] = get_args(DatasetForm)
SPLITS: tuple[Split, ...] = get_args(Split)
RUN_METHODS: tuple[RunMethod, ...] = get_args(RunMethod)
RUN_STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)

MAX_TEXT_CHARS = 1_000_000
"""The longest comment or correction that is accepted, in characters."""
MAX_LABEL_CHARS = 256
"""The longest name, category, author id or metadata key, in characters."""
MAX_ANSWERS = 100
"""The most answers that one comparison may rank."""
