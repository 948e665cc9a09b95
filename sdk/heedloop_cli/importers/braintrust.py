"""Braintrust: events of project logs, as the API's `fetch` and the export of a page give them. Scores are from 0 to 1 there.

An event says who scored only in its audit entries; a score that no entry names is a program's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import Scale, Target
from heedloop_cli.importers.documents import mapping
from heedloop_cli.importers.messages import messages, usage
from heedloop_cli.importers.record import number, target_of
from heedloop_cli.importers.system import LeftOut, Record, System

_SCORE = Scale(0, 1)


class Braintrust(System):
    """An event: a span of type `llm` is a call, others are steps; scores, a human's expected answer and comments."""

    name = "braintrust"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return (
            "root_span_id" in row
            and "span_id" in row
            and bool({"scores", "input", "span_attributes"} & row.keys())
        )

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        self.project = str(row.get("project_id") or self.source.project)
        if row.get("experiment_id") or row.get("dataset_id"):
            names = [n for n, v in mapping(row.get("scores")).items() if v is not None]
            yield from (LeftOut("a score of an experiment") for _ in names or (1,))
            return
        metrics, metadata = mapping(row.get("metrics")), mapping(row.get("metadata"))
        about = mapping(row.get("span_attributes"))
        is_root = row["span_id"] == row["root_span_id"]
        is_call = about.get("type") == "llm" or (is_root and not about.get("type"))
        parents = row.get("span_parents") or ()
        call = self.call(
            row["id"],
            row["root_span_id"],
            row["span_id"],
            start=metrics.get("start") or row.get("created"),
            end=metrics.get("end"),
            parent_span_id=self.span_id(parents[0]) if parents else None,
            name=about.get("name"),
            is_call=is_call,
            model_requested=metadata.get("model"),
            input_messages=messages(row.get("input")),
            output_messages=messages(row.get("output"), "assistant"),
            usage=usage(metrics),
            cost=number(metrics.get("estimated_cost")),
            error=str(row.get("error") or "")[:4096],
            session_id=metadata.get("session_id") or metadata.get("thread_id"),
            user_id=metadata.get("user_id") or metadata.get("user"),
            tags=tuple(map(str, row.get("tags") or ())),
            metadata={k: v for k, v in metadata.items() if isinstance(v, (str, int, float))},
        )
        yield call
        target = target_of(call) if is_call else Target(call.trace_id, None if is_root else call.span_id)
        yield from self.each(mapping(row.get("scores")).items(), lambda s: self._score(row, target, *s))
        yield from self._words(row, target)

    def _score(self, row: Mapping[str, Any], target: Target, name: str, value: Any) -> Iterator[Record]:
        if value is None:
            return
        scale = None if name in self.source.scales else _SCORE
        author = self._author(row)
        time = row.get("created")
        yield self.rating(target, f"{row['id']}/{name}", name, value, scale=scale, author=author, time=time)

    def _words(self, row: Mapping[str, Any], target: Target) -> Iterator[Record]:
        fields: dict[str, Any] = {"author": self._author(row), "time": row.get("created")}
        if isinstance(row.get("expected"), str):
            text = row["expected"]
            yield self.feedback("correction", target, f"{row['id']}/expected", correction=text, **fields)
        for own in row.get("comments") or ():
            text = mapping(own.get("comment")).get("text") or own.get("text")
            if text:
                yield self.feedback("comment", target, own["id"], comment=text, **fields)

    def _author(self, row: Mapping[str, Any]) -> Any:
        entries = [mapping(a) for a in row.get("audit_data") or ()]
        source = next((a for a in entries if a.get("source") == "app"), None)
        if source is None:
            return self.author("code")
        return self.author(
            "annotator", mapping(source.get("metadata")).get("user_id") or source.get("user_id")
        )
