"""Humanloop: prompt logs with evaluator logs, as `logs.list` gave them. The service is closed; its files remain.

A judgement is a truth value, a number, a text or a list; the evaluator's type says who judged. Times have no zone (UTC).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import Target
from heedloop_cli.importers.documents import mapping
from heedloop_cli.importers.messages import messages, usage
from heedloop_cli.importers.record import number, target_of
from heedloop_cli.importers.system import COMMENT_NAMES, LeftOut, Record, System, plain

_KINDS: dict[str, Any] = {"human": "annotator", "llm": "model"}


class Humanloop(System):
    """A log: a call, and what its evaluators, people among them, said of it."""

    name = "humanloop"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return "evaluator_logs" in row and bool({"prompt", "output", "output_message"} & row.keys())

    def learn(self, row: Mapping[str, Any]) -> None:
        for own in row.get("evaluator_logs") or ():
            if not _is_text(own):
                self.note_value(mapping(own.get("evaluator")).get("name"), own.get("judgment"))

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        prompt, metadata = mapping(row.get("prompt")), mapping(row.get("metadata"))
        self.project = str(self.source.project or prompt.get("id") or "")
        template = messages(prompt.get("template"))
        asked = messages(row.get("messages"))
        costs = [number(row.get(n)) for n in ("prompt_cost", "output_cost")]
        call = self.call(
            row["id"],
            row.get("trace_id") or row["id"],
            start=row.get("start_time") or row.get("created_at"),
            end=row.get("end_time"),
            environment=str(row.get("environment") or ""),
            provider=prompt.get("provider"),
            model_requested=prompt.get("model"),
            input_messages=(*[m for m in template if m.role == "system" and m not in asked], *asked),
            output_messages=messages(row.get("output_message") or row.get("output"), "assistant"),
            usage=usage(row),
            cost=round(sum(c for c in costs if c is not None), 12)
            if any(c is not None for c in costs)
            else None,
            error=row.get("error"),
            prompt_name=prompt.get("path") or prompt.get("name"),
            prompt_version=prompt.get("version_id"),
            session_id=metadata.get("session") or metadata.get("session_id"),
            user_id=row.get("user"),
            metadata=metadata,
        )
        yield call
        yield from self.each(
            [(target_of(call), e, row) for e in row["evaluator_logs"] or ()], self._judgement
        )

    def _judgement(self, entry: tuple[Target, Mapping[str, Any], Mapping[str, Any]]) -> Iterator[Record]:
        target, own, row = entry
        evaluator = mapping(own.get("evaluator"))
        spec = mapping(evaluator.get("spec"))
        name, value = str(evaluator.get("name") or evaluator.get("path")), own.get("judgment")
        kind = _KINDS.get(str(spec.get("evaluator_type")), "code")
        user = own.get("user")
        if kind == "annotator" and user and user == row.get("user"):
            kind = "end_user"
        author = self.author(kind, user if kind in ("annotator", "end_user") else None)
        fields: dict[str, Any] = {"author": author, "time": own.get("created_at")}
        if own.get("error"):
            yield LeftOut("an evaluation that failed")
        elif value is None:
            yield LeftOut("an evaluation without a judgement")
        elif isinstance(value, list):
            for category in value:
                yield self.flag(target, own["id"], category, name=name, **fields)
        elif plain(name) in COMMENT_NAMES:
            yield self.feedback("comment", target, own["id"], name=name, comment=str(value), **fields)
        elif _is_text(own):
            yield self.feedback("correction", target, own["id"], correction=value, **fields)
        else:
            yield self.rating(target, own["id"], name, value, **fields)


def _is_text(own: Mapping[str, Any]) -> bool:
    """True for a judgement in free words: a person's correction."""
    evaluator = mapping(own.get("evaluator"))
    name, kind = plain(str(evaluator.get("name"))), mapping(evaluator.get("spec")).get("return_type")
    return isinstance(own.get("judgment"), str) and (kind == "text" or name.startswith("correct"))
