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
JudgeForm = Literal["pointwise", "pairwise", "rubric", "session"]
JudgeBackend = Literal["endpoint", "checkpoint", "reward", "function"]
JudgeParser = Literal["verdict", "number", "json", "token_probability"]
ExperimentMetricKind = Literal["thumb", "rating", "judge", "error", "latency", "cost"]
AssignmentRule = Literal["fixed", "thompson"]
Decider = Literal["hand", "rule"]
RunStatus = Literal["running", "finished", "failed", "stopped"]

FEEDBACK_KINDS: tuple[FeedbackKind, ...] = get_args(FeedbackKind)
AUTHOR_KINDS: tuple[AuthorKind, ...] = get_args(AuthorKind)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
DATASET_FORMS: tuple[DatasetForm, ...] = get_args(DatasetForm)
SPLITS: tuple[Split, ...] = get_args(Split)
RUN_METHODS: tuple[RunMethod, ...] = get_args(RunMethod)
RUN_STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
JUDGE_FORMS: tuple[JudgeForm, ...] = get_args(JudgeForm)
JUDGE_BACKENDS: tuple[JudgeBackend, ...] = get_args(JudgeBackend)
JUDGE_PARSERS: tuple[JudgeParser, ...] = get_args(JudgeParser)
EXPERIMENT_METRICS: tuple[ExperimentMetricKind, ...] = get_args(ExperimentMetricKind)
ASSIGNMENT_RULES: tuple[AssignmentRule, ...] = get_args(AssignmentRule)
DECIDERS: tuple[Decider, ...] = get_args(Decider)

EVALUATION = "evaluation:"
"""How the environment of an evaluation's answers begins; its name follows. They count in no rate, snapshot, rule or alert."""

MAX_TEXT_CHARS = 1_000_000
"""The longest comment or correction that is accepted, in characters."""
MAX_LABEL_CHARS = 256
"""The longest name, category, author id or metadata key, in characters."""
MAX_ANSWERS = 100
"""The most answers that one comparison may rank."""
