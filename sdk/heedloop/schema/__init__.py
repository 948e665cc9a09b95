"""The records that every part of heedloop shares: calls, feedback, dataset rows, snapshots, runs.

The SDK sends these classes, the server stores them, the dashboard shows them and the trainer reads them; there is no
second definition anywhere. They are frozen, check themselves on construction, and turn into JSON-ready dictionaries
(`to_json`) and back (`from_json`). A wrong value raises `SchemaError`, a `ValueError` that names the field.

Conventions: ids are lower-case hexadecimal; times are aware UTC `datetime`s, in JSON as RFC 3339 strings; `None` means
"not said", which is never the same as zero, false or an empty string.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heedloop.schema._call import Call, Message, ToolCall, ToolDefinition, Usage
from heedloop.schema._checks import SchemaError, answer_hash, format_time, parse_time, utc_now
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
from heedloop.schema._kinds import (
    AUTHOR_KINDS,
    DATASET_FORMS,
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
    RunMethod,
    RunStatus,
    Severity,
    Split,
)

if TYPE_CHECKING:
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
    from heedloop.schema._run import Run

__all__ = [
    "AUTHOR_KINDS",
    "DATASET_FORMS",
    "FEEDBACK_KINDS",
    "MAX_ANSWERS",
    "MAX_LABEL_CHARS",
    "MAX_TEXT_CHARS",
    "ROW_CLASSES",
    "RUN_METHODS",
    "RUN_STATUSES",
    "SEVERITIES",
    "SPLITS",
    "THUMB",
    "Author",
    "AuthorKind",
    "Call",
    "CharRange",
    "Comparison",
    "DatasetForm",
    "Demonstration",
    "Feedback",
    "FeedbackKind",
    "Message",
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
    "to_json",
    "utc_now",
]

_LATE = {
    "ROW_CLASSES": "_dataset",
    "Comparison": "_dataset",
    "Demonstration": "_dataset",
    "PromptRow": "_dataset",
    "RatedCompletion": "_dataset",
    "Snapshot": "_dataset",
    "Unpaired": "_dataset",
    "answer_messages": "_dataset",
    "answer_text": "_dataset",
    "Run": "_run",
}
"""What an app that records never needs; its classes are a fifth of what `import heedloop` costs."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    globals()[name] = value
    return value
