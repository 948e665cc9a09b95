"""Weave: calls with feedback (`calls/stream_query` with `include_feedback`), and feedback rows of `feedback/query`.

The types of feedback are reactions, notes, annotations, results of scorers (`runnable`), and the app's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import Scale, Target
from heedloop_cli.importers.documents import mapping
from heedloop_cli.importers.messages import messages, tool_definitions, usage
from heedloop_cli.importers.record import number
from heedloop_cli.importers.system import LeftOut, Record, System

_SKIN = re.compile("[\U0001f3fb-\U0001f3ff\ufe0f]")
_THUMBS = {"👍": True, "👎": False}


class Weave(System):
    """Calls with the feedback in their summary; feedback rows alone find their trace by the call."""

    name = "weave"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return ("op_name" in row and "started_at" in row) or ("feedback_type" in row and "weave_ref" in row)

    def learn(self, row: Mapping[str, Any]) -> None:
        if "op_name" in row:
            self.traces[str(row["id"])] = str(row["trace_id"])

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        self.project = str(row.get("project_id") or self.source.project)
        if "op_name" not in row:
            yield from self.each([row], self._feedback)
            return
        summary = mapping(row.get("summary"))
        if row.get("deleted_at"):
            yield LeftOut("of a deleted call")
            return
        yield self._call(row, summary)
        yield from self.each(
            mapping(summary.get("weave")).get("feedback") or row.get("feedback") or (), self._feedback
        )

    def _call(self, row: Mapping[str, Any], summary: Mapping[str, Any]) -> Record:
        inputs, output, attributes = (mapping(row.get(n)) for n in ("inputs", "output", "attributes"))
        is_call = bool(inputs.get("messages") or output.get("choices") or "usage" in output)
        used = mapping(summary.get("usage"))
        counts = mapping(next(iter(used.values()), None)) or output.get("usage")
        parts = [number(mapping(c).get(n)) for c in mapping(mapping(summary.get("weave")).get("costs")).values()
                 for n in ("prompt_tokens_total_cost", "completion_tokens_total_cost")]  # fmt: skip
        return self.call(
            row["id"],
            row["trace_id"],
            start=row.get("started_at"),
            end=row.get("ended_at"),
            parent_span_id=self.span_id(p) if (p := row.get("parent_id")) else None,
            name=row.get("display_name") or re.sub(r"^.*/op/|:[^:]*$", "", str(row["op_name"])),
            is_call=is_call,
            model_requested=inputs.get("model") or next(iter(used), None),
            model_answered=output.get("model"),
            input_messages=messages(row.get("inputs")),
            output_messages=messages(row.get("output"), "assistant"),
            tool_definitions=tool_definitions(inputs.get("tools")),
            usage=usage(counts),
            cost=sum(p for p in parts if p is not None) if any(p is not None for p in parts) else None,
            error=str(row.get("exception") or "")[:4096],
            response_id=output.get("id"),
            session_id=row.get("thread_id"),
            user_id=attributes.get("user") or attributes.get("user_id"),
        )

    def _feedback(self, row: Mapping[str, Any]) -> Iterator[Record]:
        call = str(row["weave_ref"]).rpartition("/call/")[2]
        trace = self.traces.get(call)
        if trace is None:
            yield LeftOut("about a call that is not in the files")
            return
        target = Target(self.trace_id(trace), self.span_id(call))
        kind, payload = str(row["feedback_type"]), mapping(row.get("payload"))
        creator, user = row.get("creator"), row.get("wb_user_id")
        author = self.author("end_user", creator) if creator else self.author("annotator", user)
        fields: dict[str, Any] = {"author": author, "time": row.get("created_at")}
        if kind.startswith("wandb.reaction"):
            emoji = _SKIN.sub("", str(payload.get("detoned") or payload.get("emoji") or ""))
            if emoji in _THUMBS:
                yield self.rating(target, row["id"], "thumb", _THUMBS[emoji], **fields)
            else:
                yield self.feedback("comment", target, row["id"], name="reaction", comment=emoji, **fields)
        elif kind.startswith("wandb.note"):
            yield self.feedback("comment", target, row["id"], comment=payload.get("note"), **fields)
        elif kind.startswith("wandb.annotation."):
            value = payload.get("value", next(iter(payload.values()), None))
            yield from self._named(target, row, kind.split(".", 2)[2], value, fields)
        elif kind.startswith("wandb.runnable."):
            fields["author"] = self.author("model", payload.get("runnable_ref"))
            yield from self._named(target, row, kind.split(".", 2)[2], payload.get("output"), fields)
        else:
            yield from self._own(target, row, kind, payload, fields)

    def _named(
        self, target: Target, row: Mapping[str, Any], name: str, value: Any, fields: Mapping[str, Any]
    ) -> Iterator[Record]:
        if not isinstance(value, Mapping):
            yield self.rating(target, row["id"], name, value, **fields)
            return
        scored = mapping(value)
        why = next((v for k, v in scored.items() if isinstance(v, str) and k != "value"), None)
        numbers = {k: v for k, v in scored.items() if isinstance(v, (bool, int, float))}
        if not numbers:
            yield LeftOut("a scorer's result without a number or truth value")
        for key, one in numbers.items():
            own = name if len(numbers) == 1 else f"{name}.{key}"
            yield self.rating(target, f"{row['id']}/{key}", own, one, comment=why, **fields)

    def _own(
        self,
        target: Target,
        row: Mapping[str, Any],
        kind: str,
        payload: Mapping[str, Any],
        fields: Mapping[str, Any],
    ) -> Iterator[Record]:
        value = next((payload[n] for n in ("rating", "score", "value", "thumb") if n in payload), None)
        text = next((payload[n] for n in ("comment", "note", "text", "reason") if payload.get(n)), None)
        highest = payload.get("max")
        if value is not None:
            has_scale = isinstance(highest, (int, float)) and kind not in self.source.scales
            scale = Scale(float(payload.get("min", 1)), float(highest)) if has_scale and highest else None
            labels = {"scale": "assumed"} if scale else {}
            yield self.rating(
                target, row["id"], kind, value, scale=scale, comment=text, metadata=labels, **fields
            )
        elif text:
            yield self.feedback("comment", target, row["id"], name=kind, comment=str(text), **fields)
        else:
            yield LeftOut("a payload of the app's own without value and text")
