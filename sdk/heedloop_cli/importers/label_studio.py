"""Label Studio: a project's tasks with annotations and predictions (labelstud.io/guide/task_format).

An export does not hold the labelling interface: the answers are the fields of `data` that `to_name` names, the prompt is another
field; stars are out of 5, which is the tag's default. Offsets count UTF-16 units or code points: the marked words decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from heedloop.schema import Author, Call, Scale, Target
from heedloop_cli.importers.documents import mapping, parsed
from heedloop_cli.importers.messages import messages
from heedloop_cli.importers.record import Wrong, target_of
from heedloop_cli.importers.system import (
    COMMENT_NAMES,
    THUMB_NAMES,
    LeftOut,
    Record,
    System,
    assistant,
    plain,
)

_PROMPTS = ("prompt", "question", "instruction", "input", "query", "messages", "dialogue", "context")
_ANSWERS = ("answer", "response", "completion", "output", "text")
_STARS = Scale(1, 5)
_THUMBS = {"good": True, "up": True, "thumbs_up": True, "yes": True, "bad": False, "down": False, "no": False}
_THUMBS["thumbs_down"] = False


class LabelStudio(System):
    """A task: one call per answer, and the results of every annotation and prediction."""

    name = "label_studio"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return isinstance(row.get("data"), Mapping) and bool(
            {"annotations", "predictions", "completions"} & row.keys()
        )

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        self.project = str(row.get("project") or self.source.project)
        task = mapping(row["data"])
        judged = [*(row.get("annotations") or row.get("completions") or ()), *(row.get("predictions") or ())]
        named = [str(r.get("to_name")) for a in judged for r in a.get("result") or ()]
        calls = self._calls(row, task, named)
        yield from calls.values()
        for one in row.get("annotations") or row.get("completions") or ():
            if one.get("was_cancelled") or one.get("skipped"):
                yield from (LeftOut("a cancelled annotation") for _ in one.get("result") or (1,))
                continue
            author = self._annotator(one.get("completed_by"))
            yield from self._results(row, one, calls, author, "annotation")
        for draft in row.get("drafts") or ():
            yield from (LeftOut("a draft") for _ in draft.get("result") or (1,))
        for one in row.get("predictions") or ():
            yield from self._results(
                row, one, calls, self.author("model", one.get("model_version")), "prediction"
            )

    def _calls(
        self, row: Mapping[str, Any], task: Mapping[str, Any], named: Sequence[str]
    ) -> dict[str, Call]:
        wanted = {n for names in named for n in names.split(",")} & task.keys()
        answers = [n for n in task if n in wanted and n not in _PROMPTS]
        # a tag may be called otherwise than the field that it shows
        answers = answers or [n for n in task if plain(n).startswith(_ANSWERS) and isinstance(task[n], str)]
        prompt = next((task[n] for n in _PROMPTS if task.get(n) is not None and n not in answers), None)
        return {
            name: self.call(
                f"{row['id']}/{name}",
                start=row.get("created_at"),
                model_answered=task.get(f"{name}_model") or task.get(f"model_{name}"),
                input_messages=messages(prompt),
                output_messages=assistant(str(task[name])),
                metadata={"task": row["id"], "answer": name},
            )
            for name in answers
            if isinstance(task[name], str)
        }

    def _annotator(self, value: object) -> Author:
        """`completed_by` is a number or an object; its mail address is no id."""
        person = mapping(value)
        named = person.get("id") or person.get("username") or person.get("email") if person else value
        return self.author("annotator", named)

    def _results(
        self,
        row: Mapping[str, Any],
        one: Mapping[str, Any],
        calls: Mapping[str, Call],
        author: Author,
        kind: str,
    ) -> Iterator[Record]:
        time = one.get("created_at") or row.get("updated_at")
        for place, result in enumerate(one.get("result") or ()):
            identity = (
                f"{row['id']}/{kind}/{one.get('id')}/{result.get('id') or place}/{result.get('from_name')}"
            )
            entry = (result, calls, identity, author, time)
            yield from self.each([entry], lambda e: self._result(*e))

    def _result(
        self,
        result: Mapping[str, Any],
        calls: Mapping[str, Call],
        identity: str,
        author: Author,
        time: object,
    ) -> Iterator[Record]:
        name, kind, value = str(result["from_name"]), str(result["type"]), mapping(result["value"])
        fields: dict[str, Any] = {"author": author, "time": time}
        names = str(result.get("to_name", "")).split(",")
        if kind == "pairwise":
            targets = [target_of(_call(calls, n)) for n in names]
            ranks = [1, 2] if value.get("selected") == "left" else [2, 1]
            yield self.comparison(targets, ranks, identity, **fields)
            return
        if kind == "ranker":
            order = next(v for v in mapping(value.get("ranker") or value).values() if v)
            targets = [target_of(_call(calls, n)) for n in cast(list[str], order)]
            yield self.comparison(targets, range(1, len(targets) + 1), identity, **fields)
            return
        call = _call(calls, names[0])
        target = target_of(call)
        if kind == "rating":
            scale = None if name in self.source.scales else _STARS
            yield self.rating(target, identity, name, value["rating"], scale=scale, **fields)
        elif kind == "number":
            yield self.rating(target, identity, name, value["number"], **fields)
        elif kind == "textarea":
            text = parsed(value.get("text"))
            said = "\n".join(cast(list[str], text)) if isinstance(text, list) else str(text)
            if plain(name) in COMMENT_NAMES:
                yield self.feedback("comment", target, identity, name=name, comment=said, **fields)
            else:
                yield self.feedback("correction", target, identity, correction=said, name=name, **fields)
        elif kind == "choices":
            yield from self._choices(target, identity, name, value, fields)
        elif kind in ("labels", "hypertextlabels", "paragraphlabels"):
            place = self._place(target, call.output_text, value)
            for label in value.get("labels") or value.get(kind) or ():
                yield self.flag(place, identity, label, name=name, **fields)
        else:
            yield LeftOut(f"a result of the type {kind!r}")

    def _choices(
        self, target: Target, identity: str, name: str, value: Mapping[str, Any], fields: Mapping[str, Any]
    ) -> Iterator[Record]:
        choices = cast(list[str], value.get("choices") or [])
        thumb = _THUMBS.get(plain(choices[0])) if len(choices) == 1 and plain(name) in THUMB_NAMES else None
        wanted = self.source.scales.get(name)
        if thumb is not None:
            yield self.rating(target, identity, name, thumb, **fields)
        elif wanted is not None and wanted.categories and len(choices) == 1:
            yield self.rating(target, identity, name, choices[0], **fields)
        else:
            for category in choices:
                yield self.flag(target, identity, category, name=name, **fields)

    def _place(self, target: Target, text: str, value: Mapping[str, Any]) -> Target:
        """The marked words' place: as code points, as UTF-16 units, else where the words are nearest."""
        start, end, marked = int(value["start"]), int(value["end"]), str(value.get("text") or "")
        units = text.encode("utf-16-le", "surrogatepass")
        if not marked or units[2 * start : 2 * end] == marked.encode("utf-16-le", "surrogatepass"):
            return self.marked(target, text, start, end, "utf16")
        places = [m.start() for m in re.finditer(re.escape(marked), text)]
        if not places:
            raise Wrong("value.text", f"{marked!r:.60} is not in the answer")
        start = min(places, key=lambda p: abs(p - start))
        return self.marked(target, text, start, start + len(marked))


def _call(calls: Mapping[str, Call], name: str) -> Call:
    if name in calls:
        return calls[name]
    if len(calls) == 1:
        return next(iter(calls.values()))
    raise Wrong("to_name", f"{name!r} names no answer of the task")
