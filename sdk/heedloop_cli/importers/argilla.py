"""Argilla: records of `records.to_json()` (v2) and of v1's `responses` lists.

`to_json` drops the responses' status, so that a draft there looks like an answer; where a status is given, only submitted
responses are stored. A question says which field it is about by its name (`quality-2`), else it is about the first answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from heedloop.schema import Author, Call
from heedloop_cli.importers.documents import mapping
from heedloop_cli.importers.messages import messages
from heedloop_cli.importers.record import number, target_of
from heedloop_cli.importers.system import COMMENT_NAMES, LeftOut, Record, System, assistant, plain

_PROMPTS = ("prompt", "question", "instruction", "input", "query", "messages", "context", "chat", "system")
_ANSWER = re.compile(r"(response|answer|completion|output|generation|chosen|rejected|text)")
_PLACE = re.compile(r"[-_ ]?(\d+)$")
_TIES = ("tie", "equal", "both", "none")


class Argilla(System):
    """A record: one call per answer field; users' responses, and an agent's suggestions."""

    name = "argilla"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return isinstance(row.get("fields"), Mapping) and bool({"responses", "suggestions"} & row.keys())

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        fields, metadata = mapping(row["fields"]), mapping(row.get("metadata"))
        identity = row.get("id") or row.get("external_id") or row.get("_server_id")
        prompt = next((fields[n] for n in _PROMPTS if fields.get(n)), None)
        texts = {n: v for n, v in fields.items() if isinstance(v, str) and n not in _PROMPTS}
        answers = {n: v for n, v in texts.items() if _ANSWER.match(plain(n))} or texts
        time = row.get("updated_at") or row.get("inserted_at")
        calls = {
            name: self.call(
                f"{identity}/{name}",
                start=row.get("inserted_at"),
                model_answered=metadata.get(f"model-{place}") or metadata.get(f"{name}-model"),
                input_messages=messages(prompt),
                output_messages=assistant(text),
                metadata={**metadata, "record": identity, "answer": name},
            )
            for place, (name, text) in enumerate(answers.items(), 1)
        }
        yield from calls.values()
        if not calls:
            yield LeftOut("a record without an answer's text")
            return
        for question, own in self._answers(row):
            if own.get("status") is None:
                self.note = "the file does not say which responses are drafts; all are stored as answers"
            if own.get("status") not in (None, "submitted"):
                yield LeftOut(
                    "a draft" if own["status"] == "draft" else f"a response that was {own['status']}"
                )
                continue
            author = self.author("annotator", own.get("user_id"))
            entry = (calls, question, own, f"{identity}/{question}/{own.get('user_id')}", author, time)
            yield from self.each([entry], lambda e: self._judgement(*e))
        for question, own in mapping(row.get("suggestions")).items():
            if mapping(own).get("value") is not None:
                author = self.author("model", own.get("agent"))
                entry = (calls, question, own, f"{identity}/{question}/suggestion", author, time)
                yield from self.each([entry], lambda e: self._judgement(*e))

    @staticmethod
    def _answers(row: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(question, response) of v2's object of questions, or of v1's list of users."""
        responses = row.get("responses")
        if isinstance(responses, list):
            for user in cast(list[Mapping[str, Any]], responses):
                for question, own in mapping(user.get("values")).items():
                    yield (
                        question,
                        {"user_id": user.get("user_id"), "status": user.get("status"), **mapping(own)},
                    )
            return
        for question, entries in mapping(responses).items():
            for own in cast(list[Mapping[str, Any]], entries or []):
                yield question, own

    def _judgement(
        self,
        calls: Mapping[str, Call],
        question: str,
        own: Mapping[str, Any],
        identity: str,
        author: Author,
        time: object,
    ) -> Iterator[Record]:
        value = own["value"]
        names = list(calls)
        fields: dict[str, Any] = {"author": author, "time": time, "metadata": {"score": own.get("score")}}
        entries = cast(list[Any], value) if isinstance(value, list) else []
        ranked = [mapping(e).get("value", e) if isinstance(e, Mapping) else e for e in entries]
        if ranked and set(map(str, ranked)) <= set(names) and len(ranked) > 1:
            stated = [mapping(e).get("rank") if isinstance(e, Mapping) else None for e in entries]
            ranks = [r if isinstance(r, int) else i for i, r in enumerate(stated, 1)]
            targets = [target_of(calls[str(n)]) for n in ranked]
            yield self.comparison(targets, ranks, identity, **fields)
            return
        if isinstance(value, str) and len(names) > 1 and (value in names or value.lower() in _TIES):
            ranks = [1 if n == value or value not in names else 2 for n in names]
            targets = [target_of(c) for c in calls.values()]
            yield self.comparison(targets, ranks, identity, **fields)
            return
        place = _PLACE.search(question)
        index = min(int(place[1]), len(names)) - 1 if place and int(place[1]) else 0
        call = calls[names[index]]
        if len(names) > 1 and not place:
            fields["metadata"]["answer"] = f"assumed: {names[index]}"
        yield from self._about(call, question, value, entries, identity, fields)

    def _about(
        self, call: Call, question: str, value: Any, entries: list[Any], identity: str, fields: dict[str, Any]
    ) -> Iterator[Record]:
        target, name = target_of(call), plain(question)
        if entries and all(isinstance(e, Mapping) and "start" in e for e in entries):
            for mark in entries:
                text = call.output_text
                place = self.marked(target, text, int(mark["start"]), int(mark["end"]))
                identity_of_mark = f"{identity}/{mark['start']}-{mark['end']}"
                yield self.flag(place, identity_of_mark, mark["label"], name=question, **fields)
        elif isinstance(value, list):
            for category in entries:
                yield self.flag(target, identity, category, name=question, **fields)
        elif isinstance(value, (bool, int, float)):
            yield self.rating(target, identity, question, value, **fields)
        elif name in COMMENT_NAMES:
            yield self.feedback("comment", target, identity, name=question, comment=value, **fields)
        elif question in self.source.scales or name.endswith(("label", "category", "class")):
            scaled = number(value)
            scale = self.source.scales.get(question)
            numeric = scaled is not None and scale is not None and not scale.categories
            yield self.rating(target, identity, question, scaled if numeric else value, **fields)
        elif " " in str(value) or "correct" in name or "better" in name or "rewrite" in name:
            yield self.feedback("correction", target, identity, name=question, correction=value, **fields)
        else:
            yield self.rating(target, identity, question, value, **fields)
