"""Phoenix: spans in OpenInference's attributes (flat, nested, or a dataframe's columns) and annotations of spans, traces, sessions.

An annotation through the API names its author in `identifier`, one of the page in `user_id`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from heedloop.schema import Author, Message, Target, ToolCall
from heedloop_cli.importers.documents import mapping, parsed
from heedloop_cli.importers.messages import messages, tool_definitions, usage
from heedloop_cli.importers.record import number
from heedloop_cli.importers.system import COMMENT_NAMES, LeftOut, Record, System, plain

_CALLS = ("LLM", "llm")
_THUMBS = {
    "thumbs_up": True,
    "thumb_up": True,
    "up": True,
    "thumbs_down": False,
    "thumb_down": False,
    "down": False,
}


class Phoenix(System):
    """Spans and annotations; an annotation of a span finds its trace by the span."""

    name = "phoenix"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        if "annotator_kind" in row:
            return "result" in row or "name" in row or "annotation_name" in row
        return ("context" in row and "span_kind" in row) or "context.span_id" in row

    def learn(self, row: Mapping[str, Any]) -> None:
        if "annotator_kind" in row:
            result = mapping(row.get("result")) or row
            if result.get("label"):
                self.note_value(_name(row), str(result["label"]), result.get("score"))
            return
        context = mapping(_nested(row).get("context"))
        self.traces[str(context["span_id"])] = str(context["trace_id"])

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        if "annotator_kind" in row:
            yield from self.each([row], self._annotation)
        else:
            yield self._span(_nested(row))

    def _span(self, row: Mapping[str, Any]) -> Record:
        context, attributes = mapping(row["context"]), mapping(row.get("attributes"))
        llm, counts = (
            mapping(attributes.get("llm")),
            mapping(mapping(attributes.get("llm")).get("token_count")),
        )
        kind = row.get("span_kind") or mapping(mapping(attributes.get("openinference")).get("span")).get(
            "kind"
        )
        details = mapping(counts.get("prompt_details"))
        prompt = mapping(mapping(llm.get("prompt_template")))
        used = {
            "prompt_tokens": counts.get("prompt") if not isinstance(counts.get("prompt"), Mapping) else None,
            "completion_tokens": counts.get("completion"),
            "cached_tokens": details.get("cache_read"),
        }
        failed = str(row.get("status_code")).upper() == "ERROR"
        return self.call(
            context["span_id"],
            context["trace_id"],
            start=row.get("start_time"),
            end=row.get("end_time"),
            parent_span_id=self.span_id(p) if (p := row.get("parent_id")) else None,
            name=row.get("name"),
            is_call=kind in _CALLS,
            provider=llm.get("provider"),
            model_requested=llm.get("model_name"),
            params=mapping(llm.get("invocation_parameters")),
            input_messages=_messages(llm.get("input_messages"))
            or messages(mapping(attributes.get("input")).get("value")),
            output_messages=_messages(llm.get("output_messages"))
            or messages(mapping(attributes.get("output")).get("value"), "assistant"),
            tool_definitions=tool_definitions(
                [
                    parsed(mapping(mapping(t).get("tool")).get("json_schema"))
                    for t in _listed(llm.get("tools"))
                ]
            ),
            usage=usage(used),
            cost=number(mapping(llm.get("cost")).get("total")),
            error=failed and (row.get("status_message") or True),
            prompt_name=prompt.get("name"),
            prompt_version=prompt.get("version"),
            session_id=mapping(attributes.get("session")).get("id"),
            user_id=mapping(attributes.get("user")).get("id"),
            metadata=mapping(attributes.get("metadata")),
        )

    def _annotation(self, row: Mapping[str, Any]) -> Iterator[Record]:
        if (whole := self.whole(row.get("metadata"))) is not None:
            yield whole
            return
        target = self._target(row)
        if target is None:
            yield LeftOut("about a span whose trace is not in the files")
            return
        result = mapping(row.get("result")) or row
        label, score, why = result.get("label"), result.get("score"), result.get("explanation")
        name = _name(row)
        author = self._author(row)
        identity = row.get("id") or "/".join(map(str, (target.key, name, author.id)))
        place = row.get("document_position")
        fields: dict[str, Any] = {
            "author": author,
            "time": row.get("created_at") or row.get("updated_at"),
            "metadata": {**mapping(row.get("metadata")), "document": place},
        }
        thumb = _THUMBS.get(plain(str(label))) if label else None
        if thumb is not None:
            yield self.rating(target, identity, name, thumb, comment=why, **fields)
        elif label and plain(name) in COMMENT_NAMES and score is None:
            yield self.feedback("comment", target, identity, name=name, comment=str(label), **fields)
        elif label:
            fields["metadata"]["source_score"] = score
            yield self.rating(target, identity, name, str(label), comment=why, **fields)
        elif score is not None:
            yield self.rating(target, identity, name, score, comment=why, **fields)
        elif why:
            yield self.feedback("comment", target, identity, name=name, comment=why, **fields)
        else:
            yield LeftOut("an annotation without label, score and explanation")

    def _target(self, row: Mapping[str, Any]) -> Target | None:
        span = row.get("span_id") or row.get("context.span_id")
        if span:
            trace = row.get("trace_id") or self.traces.get(str(span))
            return Target(self.trace_id(trace), self.span_id(span)) if trace else None
        if row.get("trace_id"):
            return Target(self.trace_id(row["trace_id"]))
        return Target(session_id=str(row["session_id"])) if row.get("session_id") else None

    def _author(self, row: Mapping[str, Any]) -> Author:
        kind, identifier = str(row["annotator_kind"]).upper(), str(row.get("identifier") or "")
        if kind != "HUMAN":
            return self.author("model" if kind == "LLM" else "code", identifier or None)
        if row.get("user_id"):
            return self.author("annotator", row["user_id"])
        is_page = row.get("source") == "APP" or identifier.startswith("px-")
        return self.author("annotator" if is_page else "end_user", None if is_page else identifier)


def _name(row: Mapping[str, Any]) -> str:
    return str(row.get("name") or row.get("annotation_name") or "annotation")


def _nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with names such as `llm.input_messages.0.message.role` as objects in objects."""
    made: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            value = _nested(cast(Mapping[str, Any], value))
        elif isinstance(value, list):
            value = [_nested(e) if isinstance(e, Mapping) else e for e in cast(list[Any], value)]
        at = made
        *above, last = key.split(".")
        for name in above:
            inner = at.setdefault(name, {})
            at = inner if isinstance(inner, dict) else at.__setitem__(name, {"": inner}) or at[name]
        if isinstance(at.get(last), dict) and isinstance(value, dict):
            at[last].update(value)
        else:
            at[last] = value
    return made


def _listed(value: Any) -> list[Any]:
    """The entries of a list, or of an object whose keys are their places."""
    value = parsed(value)
    if isinstance(value, Mapping):
        entries = cast(Mapping[str, Any], value)
        return [entries[k] for k in sorted(entries, key=lambda k: int(k) if k.isdecimal() else 0)]
    return cast(list[Any], value) if isinstance(value, list) else []


def _messages(value: Any) -> tuple[Message, ...]:
    made: list[Message] = []
    for entry in _listed(value):
        own = mapping(mapping(entry).get("message")) or mapping(entry)
        parts = [mapping(mapping(p).get("message_content")) for p in _listed(own.get("contents"))]
        calls = [mapping(mapping(c).get("tool_call")) for c in _listed(own.get("tool_calls"))]
        tools = [
            ToolCall(str(f.get("name")), str(f.get("arguments") or ""), str(c["id"]) if c.get("id") else None)
            for c in calls
            if (f := mapping(c.get("function")))
        ]
        made += messages(
            [
                {
                    **own,
                    "content": own.get("content") if own.get("content") is not None else parts,
                    "tool_calls": None,
                }
            ]
        )
        if tools:
            last = made.pop()
            made.append(
                Message(last.role, last.text, last.reasoning, tuple(tools), last.tool_call_id, last.media)
            )
    return tuple(made)
