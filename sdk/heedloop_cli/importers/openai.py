"""OpenAI: stored chat completions (with the messages of the second route under `_messages`), and output items of evals.

A completion holds a judgement only in its metadata, whose values are text; `--feedback-key thumb` names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import THUMB, Call
from heedloop_cli.importers.documents import PAGE, mapping
from heedloop_cli.importers.messages import messages, tool_definitions, usage
from heedloop_cli.importers.record import number, target_of
from heedloop_cli.importers.system import LeftOut, Record, System

_UP = ("up", "true", "1", "yes", "good", "like", "liked", "positive", "thumbs_up")
_DOWN = ("down", "false", "0", "-1", "no", "bad", "dislike", "disliked", "negative", "thumbs_down")
_MODELS = ("label_model", "score_model")


class OpenAI(System):
    """A stored completion, or an item that an eval graded."""

    name = "openai"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        if row.get("object") == "chat.completion" and "choices" in row:
            return True
        return row.get("object") == "eval.run.output_item" or {"datasource_item", "results"} <= row.keys()

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        if "choices" in row:
            yield from self._completion(row)
        else:
            yield from self._item(row)

    def _completion(self, row: Mapping[str, Any]) -> Iterator[Record]:
        metadata = mapping(row.get("metadata"))
        pages = mapping(mapping(row.get(PAGE)).get("_messages"))
        asked = row.get("messages") or mapping(pages.get(str(row["id"]))).get("data")
        call = self.call(
            row["id"],
            start=row.get("created"),
            model_answered=row.get("model"),
            params={k: row[k] for k in ("temperature", "top_p", "seed") if row.get(k) is not None},
            input_messages=messages(asked),
            output_messages=messages({"choices": row["choices"]}, "assistant"),
            tool_definitions=tool_definitions(row.get("tools")),
            usage=usage(row.get("usage")),
            response_id=row["id"],
            session_id=metadata.get("session") or metadata.get("session_id"),
            user_id=metadata.get("user") or metadata.get("user_id") or row.get("input_user"),
            metadata=metadata,
        )
        yield call
        for key in self.source.feedback_keys:
            if metadata.get(key) is not None:
                yield from self.each([key], lambda k: self._thumb(call, k, str(metadata[k])))

    def _thumb(self, call: Call, key: str, text: str) -> Iterator[Record]:
        word = text.strip().lower()
        value: object = True if word in _UP else False if word in _DOWN else number(text)
        if key in self.source.scales and number(text) is not None:
            value = number(text)
        author = self.author("end_user", call.user_id)
        identity = f"{call.response_id}/{key}"
        if value is None:
            yield self.feedback(
                "comment",
                target_of(call),
                identity,
                name=key,
                comment=text,
                author=author,
                time=call.start_time,
            )
        else:
            yield self.rating(target_of(call), identity, key, value, author=author, time=call.start_time)

    def _item(self, row: Mapping[str, Any]) -> Iterator[Record]:
        self.project = str(row.get("eval_id") or self.source.project)
        sample = mapping(row.get("sample"))
        call = self.call(
            row["id"],
            start=row.get("created_at"),
            environment="evaluation",
            model_answered=sample.get("model"),
            params={k: sample[k] for k in ("temperature", "top_p", "seed") if sample.get(k) is not None},
            input_messages=messages(sample.get("input")),
            output_messages=messages(sample.get("output"), "assistant"),
            finish_reasons=(str(sample["finish_reason"]),) if sample.get("finish_reason") else (),
            usage=usage(sample.get("usage")),
            error=bool(sample.get("error")),
            metadata={
                "run": row.get("run_id"),
                "eval": row.get("eval_id"),
                "item": row.get("datasource_item_id"),
            },
        )
        yield call
        yield from self.each(row.get("results") or (), lambda r: self._grade(call, row, r))

    def _grade(self, call: Call, row: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[Record]:
        if not isinstance(result.get("passed"), bool):
            yield LeftOut("a grade that neither passed nor failed")
            return
        kind: Any = "model" if result.get("type") in _MODELS else "code"
        yield self.rating(
            target_of(call),
            f"{row['id']}/{result['name']}",
            str(result["name"]),
            float(result["passed"]),
            scale=THUMB,
            author=self.author(kind, result["name"]),
            time=row.get("created_at"),
            metadata={"source_score": result.get("score"), "grader": result.get("type")},
        )
