"""TensorZero: the tables of its ClickHouse, as `SELECT * ... FORMAT JSONEachRow` writes them, one file a table or all in one.

`timestamp` is a computed column that `SELECT *` leaves out, so times are those of the UUIDv7s. Inputs, outputs and
demonstrations are JSON inside texts. A target is an inference or an episode: episodes are sessions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import Target
from heedloop_cli.importers.documents import mapping, parsed
from heedloop_cli.importers.messages import messages, tool_definitions, usage
from heedloop_cli.importers.system import LeftOut, Record, System

_PREFIX = "tensorzero::"
_UUID7 = re.compile(r"([0-9a-f]{8})-?([0-9a-f]{4})-?7", re.IGNORECASE)


class TensorZero(System):
    """Inferences and the four tables of feedback."""

    name = "tensorzero"

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self._inferences: set[str] = set()
        self._episodes: set[str] = set()
        self._models: dict[str, Mapping[str, Any]] = {}

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        names = row.keys()
        is_feedback = {"id", "target_id", "value"} <= names or {"id", "inference_id", "value"} <= names
        is_model = {"inference_id", "model_name", "raw_request"} <= names
        return {"function_name", "episode_id"} <= names or is_feedback or is_model

    def learn(self, row: Mapping[str, Any]) -> None:
        if "function_name" in row:
            self._inferences.add(str(row["id"]))
            self._episodes.add(str(row["episode_id"]))
        elif "model_name" in row:
            kept = ("model_name", "model_provider_name", "input_tokens", "output_tokens")
            self._models[str(row["inference_id"])] = {n: row.get(n) for n in kept}
        elif "metric_name" in row:
            self.note_value(row["metric_name"], row["value"])

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        if "function_name" in row:
            yield self._call(row)
        elif "model_name" not in row:
            yield from self.each([row], self._feedback)

    def _call(self, row: Mapping[str, Any]) -> Record:
        tags, model = mapping(row.get("tags")), self._models.get(str(row["id"]), {})
        took = row.get("processing_time_ms")
        params = mapping(mapping(row.get("inference_params")).get("chat_completion"))
        output = parsed(row.get("output"))
        if isinstance(output, Mapping):  # of a function with a JSON schema
            output = output.get("raw") or output.get("parsed")
        tools = mapping(row.get("tool_params")).get("tools_available") or mapping(row.get("tool_params")).get(
            "tools"
        )
        return self.call(
            row["id"],
            row["id"],
            f"{row['id']}/span",
            start=row.get("timestamp") or _time(row["id"]),
            duration_s=took / 1000 if isinstance(took, (int, float)) else None,
            name=row["function_name"],
            provider=model.get("model_provider_name"),
            model_requested=model.get("model_name"),
            params=params,
            input_messages=messages(row.get("input")),
            output_messages=messages(output, "assistant"),
            tool_definitions=tool_definitions(tools),
            usage=usage(model),
            prompt_name=row["function_name"],
            prompt_version=row.get("variant_name"),
            session_id=row["episode_id"],
            user_id=tags.get("user_id") or tags.get("user"),
            metadata={k: v for k, v in tags.items() if not k.startswith(_PREFIX)},
        )

    def _feedback(self, row: Mapping[str, Any]) -> Iterator[Record]:
        tags = mapping(row.get("tags"))
        user = next((tags[n] for n in ("author", "user_id", "user") if tags.get(n)), None)
        kind: Any = "annotator" if tags.get(f"{_PREFIX}human_feedback") == "true" else "end_user"
        target = self._target(row)
        if target is None:
            yield LeftOut("about an inference or episode that is not in the files")
            return
        fields: dict[str, Any] = {
            "author": self.author(kind, user),
            "time": row.get("timestamp") or _time(row["id"]),
            "metadata": {k: v for k, v in tags.items() if not k.startswith(_PREFIX)},
        }
        if "metric_name" in row:
            yield self.rating(target, row["id"], str(row["metric_name"]), row["value"], **fields)
        elif "inference_id" in row:
            (message, *_) = messages(parsed(row["value"]), "assistant")
            yield self.feedback("correction", target, row["id"], correction=message.text, **fields)
        else:
            yield self.feedback("comment", target, row["id"], comment=row["value"], **fields)

    def _target(self, row: Mapping[str, Any]) -> Target | None:
        target = str(row.get("inference_id") or row["target_id"])
        kind = "inference" if "inference_id" in row else row.get("target_type")
        if kind == "episode" or (kind is None and target in self._episodes):
            return Target(session_id=target)
        if kind == "inference" or target in self._inferences:
            return Target(self.trace_id(target), self.span_id(f"{target}/span"))
        return None


def _time(identity: object) -> float | None:
    """Seconds of a UUIDv7, whose first 48 bits are milliseconds; None for another UUID."""
    match = _UUID7.match(str(identity))
    return int(match[1] + match[2], 16) / 1000 if match else None
