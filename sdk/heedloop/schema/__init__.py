"""The records that every part of heedloop shares: calls, feedback, dataset rows, snapshots, runs.

The SDK sends these classes, the server stores them, the dashboard shows them and the trainer reads them; there is no
second definition anywhere. They are frozen, check themselves on construction, and turn into JSON-ready dictionaries
(`to_json`) and back (`from_json`). A wrong value raises `SchemaError`, a `ValueError` that names the field.

Conventions: ids are lower-case hexadecimal; times are aware UTC `datetime`s, in JSON as RFC 3339 strings; `None` means
"not said", which is never the same as zero, false or an empty string.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heedloop.schema._checks import SchemaError, answer_hash, format_time, parse_time, utc_now
from heedloop.schema._kinds import (
    AUTHOR_KINDS,
    DATASET_FORMS,
    EVALUATION,
    FEEDBACK_KINDS,
    MAX_ANSWERS,
    MAX_LABEL_CHARS,
    MAX_TEXT_CHARS,
    RUN_METHODS,
    RUN_STATUSES,
    SEVERITIES,
    SPLITS,
    AuthorKind,
    DatasetForm,
    FeedbackKind,
    JudgeBackend,
    JudgeForm,
    JudgeParser,
    RunMethod,
    RunStatus,
    Severity,
    Split,
)

if TYPE_CHECKING:
    from heedloop.schema._call import Call, Message, ToolCall, ToolDefinition, Usage
    from heedloop.schema._case import LANGUAGE_KEYS, Case, CaseFeedback, CaseSet, Check, slices_of
    from heedloop.schema._dataset import (
        ROW_CLASSES,
        Comparison,
        Demonstration,
        PromptRow,
        RatedCompletion,
        Snapshot,
        Unpaired,
        answer_messages,
        answer_text,
    )
    from heedloop.schema._example import AnswerExample, ExampleReason
    from heedloop.schema._experiment import Arm, ExperimentMetric, ExperimentSpec, Guardrail
    from heedloop.schema._feedback import (
        THUMB,
        Author,
        CharRange,
        Feedback,
        Ranking,
        Scale,
        Target,
        char_range,
    )
    from heedloop.schema._json import canonical_json, feedback_from_json, from_json, to_json
    from heedloop.schema._judge import JudgeExample, JudgeSpec
    from heedloop.schema._prompt import Prompt
    from heedloop.schema._run import Run

__all__ = [
    "AUTHOR_KINDS",
    "DATASET_FORMS",
    "EVALUATION",
    "FEEDBACK_KINDS",
    "LANGUAGE_KEYS",
    "MAX_ANSWERS",
    "MAX_LABEL_CHARS",
    "MAX_TEXT_CHARS",
    "ROW_CLASSES",
    "RUN_METHODS",
    "RUN_STATUSES",
    "SEVERITIES",
    "SPLITS",
    "THUMB",
    "AnswerExample",
    "Arm",
    "Author",
    "AuthorKind",
    "Call",
    "Case",
    "CaseFeedback",
    "CaseSet",
    "CharRange",
    "Check",
    "Comparison",
    "DatasetForm",
    "Demonstration",
    "ExampleReason",
    "ExperimentMetric",
    "ExperimentSpec",
    "Feedback",
    "FeedbackKind",
    "Guardrail",
    "JudgeBackend",
    "JudgeExample",
    "JudgeForm",
    "JudgeParser",
    "JudgeSpec",
    "Message",
    "Prompt",
    "PromptRow",
    "Ranking",
    "RatedCompletion",
    "Run",
    "RunMethod",
    "RunStatus",
    "Scale",
    "SchemaError",
    "Severity",
    "Snapshot",
    "Split",
    "Target",
    "ToolCall",
    "ToolDefinition",
    "Unpaired",
    "Usage",
    "answer_hash",
    "answer_messages",
    "answer_text",
    "canonical_json",
    "char_range",
    "feedback_from_json",
    "format_time",
    "from_json",
    "parse_time",
    "slices_of",
    "to_json",
    "utc_now",
]

_LATE = {
    "_call": "Call Message ToolCall ToolDefinition Usage",
    "_case": "LANGUAGE_KEYS Case CaseFeedback CaseSet Check slices_of",
    "_dataset": "ROW_CLASSES Comparison Demonstration PromptRow RatedCompletion Snapshot Unpaired"
    " answer_messages answer_text",
    "_example": "AnswerExample ExampleReason",
    "_experiment": "Arm ExperimentMetric ExperimentSpec Guardrail",
    "_feedback": "THUMB Author CharRange Feedback Ranking Scale Target char_range",
    "_judge": "JudgeExample JudgeSpec",
    "_json": "canonical_json feedback_from_json from_json to_json",
    "_prompt": "Prompt",
    "_run": "Run",
}
_MODULE_OF = {name: module for module, names in _LATE.items() for name in names.split()}
"""What is loaded when it is first used: the classes are a third of what `import heedloop` would cost."""


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
