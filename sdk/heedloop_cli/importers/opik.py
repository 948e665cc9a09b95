"""Opik: traces and spans with feedback scores and comments, of `opik export` and of the API.

A score's `value` is the mean over its authors; what each of them said is in `value_by_author`, and only that is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import Target
from heedloop_cli.importers.documents import mapping
from heedloop_cli.importers.messages import messages, usage
from heedloop_cli.importers.record import number
from heedloop_cli.importers.system import LeftOut, Record, System

_KINDS: dict[str, Any] = {"ui": "annotator", "online_scoring": "model", "sdk": "end_user"}


class Opik(System):
    """An exported trace with its spans, or one of them alone; a trace is the call where none of its spans is one."""

    name = "opik"

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self._with_calls: set[str] = set()

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        if isinstance(row.get("trace"), Mapping) and "spans" in row:
            return True
        is_trace = {"id", "start_time", "project_id"} <= row.keys()
        return is_trace and bool({"feedback_scores", "comments", "total_estimated_cost"} & row.keys())

    def learn(self, row: Mapping[str, Any]) -> None:
        for span in self._parts(row)[1]:
            if span.get("type") == "llm":
                self._with_calls.add(str(span["trace_id"]))
        for part in (self._parts(row)[0], *self._parts(row)[1]):
            for score in part.get("feedback_scores") or ():
                for own in self._by_author(score):
                    if own.get("category_name"):
                        self.note_value(score["name"], own["category_name"], own.get("value"))

    @staticmethod
    def _parts(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        if isinstance(row.get("trace"), Mapping):
            return mapping(row["trace"]), [mapping(s) for s in row.get("spans") or ()]
        return ({}, [row]) if row.get("trace_id") else (row, [])

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        trace, spans = self._parts(row)
        parts = [trace] if trace else []
        for part in (*parts, *spans):
            self.project = str(part.get("project_id") or row.get("project_name") or self.source.project)
            is_span = bool(part.get("trace_id"))
            trace_id = part.get("trace_id") or part["id"]
            if is_span or str(trace_id) not in self._with_calls:
                yield self._call(part, trace, trace_id, is_call=not is_span or part.get("type") == "llm")
            target = Target(self.trace_id(trace_id), self.span_id(part["id"]) if is_span else None)
            scores = [
                (target, part["id"], s, own)
                for s in part.get("feedback_scores") or ()
                for own in self._by_author(s)
            ]
            yield from self.each(scores, self._score)
            yield from self.each([(target, c) for c in part.get("comments") or ()], self._comment)

    def _call(
        self, part: Mapping[str, Any], trace: Mapping[str, Any], trace_id: object, *, is_call: bool
    ) -> Record:
        metadata = mapping(part.get("metadata"))
        failed = mapping(part.get("error_info"))
        thread = part.get("thread_id") or trace.get("thread_id")
        return self.call(
            part["id"],
            trace_id,
            start=part.get("start_time"),
            end=part.get("end_time"),
            parent_span_id=self.span_id(p) if (p := part.get("parent_span_id")) else None,
            name=part.get("name"),
            is_call=is_call,
            provider=part.get("provider"),
            model_requested=part.get("model") or metadata.get("model"),
            input_messages=messages(part.get("input")),
            output_messages=messages(part.get("output"), "assistant"),
            usage=usage(part.get("usage")),
            cost=number(part.get("total_estimated_cost")),
            error=failed and (failed.get("message") or str(failed.get("exception_type"))),
            session_id=thread,
            user_id=metadata.get("user_id") or mapping(trace.get("metadata")).get("user_id"),
            tags=tuple(map(str, part.get("tags") or trace.get("tags") or ())),
        )

    @staticmethod
    def _by_author(score: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """What each author said; the score itself where it has one author, and nothing known where it is a mean."""
        by_author = mapping(score.get("value_by_author"))
        if by_author:
            return [{"author": a, "source": score.get("source"), **mapping(o)} for a, o in by_author.items()]
        if score.get("last_updated_by") not in (None, score.get("created_by")):
            return [{**score, "author": None, "mean": True}]
        return [{**score, "author": score.get("created_by")}]

    def _score(self, entry: tuple[Target, object, Mapping[str, Any], Mapping[str, Any]]) -> Iterator[Record]:
        target, owner, score, own = entry
        if own.get("mean"):
            yield LeftOut("a mean over several authors")
            return
        kind = _KINDS.get(str(own.get("source")), "end_user")
        why = own.get("reason")
        yield self.rating(
            target,
            f"{owner}/{score['name']}/{own.get('author')}",
            str(score["name"]),
            own.get("category_name") or own.get("value"),
            author=self.author(kind, None if kind == "model" else own.get("author")),
            time=own.get("last_updated_at") or score.get("last_updated_at") or score.get("created_at"),
            comment=None if why == "<no reason>" else why,
            metadata={"source_queue": own.get("source_queue_id")},
        )

    def _comment(self, entry: tuple[Target, Mapping[str, Any]]) -> Iterator[Record]:
        target, own = entry
        author = self.author("annotator", own.get("created_by"))
        time = own.get("created_at")
        yield self.feedback("comment", target, own["id"], comment=own.get("text"), author=author, time=time)
