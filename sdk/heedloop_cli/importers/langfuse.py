"""Langfuse: scores, score configurations, observations and traces; of the API (v1 to v3) and of the blob export.

The blob export writes the API's names in snake_case, its times without a zone (UTC), and neither authors nor corrections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from heedloop.schema import Author, Scale, Target
from heedloop_cli.importers.documents import PAGE, mapping, parsed
from heedloop_cli.importers.messages import messages, usage
from heedloop_cli.importers.record import number
from heedloop_cli.importers.system import LeftOut, Record, System

_UPPER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_GENERATIONS = ("GENERATION", "generation")


class Langfuse(System):
    """Rows of any of these; scores find their configuration whichever comes first."""

    name = "langfuse"

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self._configs: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._traces: dict[str, dict[str, Any]] = {}

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        own = _snake(row)
        kind = own.get("data_type")
        if kind in ("NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT", "CORRECTION"):
            return bool(
                {"is_archived", "subject", "trace_id", "session_id", "categories", "source"} & own.keys()
            )
        is_observation = "trace_id" in own and "start_time" in own and isinstance(own.get("type"), str)
        return (is_observation and str(own["type"]).isupper()) or _is_trace(own)

    def learn(self, row: Mapping[str, Any]) -> None:
        own = _snake(row)
        if "data_type" in own and ("is_archived" in own or "categories" in own):
            self._configs["id", str(own.get("id"))] = own
            self._configs.setdefault((str(own.get("name")), str(own["data_type"])), own)
        elif own.get("data_type") == "BOOLEAN":
            self.note_value(own.get("name"), True)
        elif own.get("data_type") == "CATEGORICAL":
            self.note_value(own.get("name"), _value(own), own.get("value"))
        elif _is_trace(own):
            self._traces[str(own["id"])] = {
                n: own.get(n) for n in ("session_id", "user_id", "tags", "release", "version", "environment")
            }

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        own = _snake(row)
        if "data_type" in own:
            if not ("is_archived" in own or "categories" in own):
                yield from self.each([own], self._score)
            return
        if not _is_trace(own):
            yield self._observation(own)
            return
        inner = [o for o in own.get("observations") or () if isinstance(o, Mapping)]
        for observation in inner:
            yield self._observation({**_snake(observation), "trace_id": own["id"]})
        scores = [_snake(s) for s in own.get("scores") or () if isinstance(s, Mapping)]
        yield from self.each([{"trace_id": own["id"], **s} for s in scores], self._score)

    def _observation(self, own: Mapping[str, Any]) -> Record:
        self.project = str(own.get("project_id") or self.source.project)
        own = {**{k: v for k, v in self._traces.get(str(own["trace_id"]), {}).items() if v}, **own}
        is_call = str(own.get("type")) in _GENERATIONS
        costs = mapping(own.get("cost_details"))
        metadata = mapping(own.get("metadata"))
        return self.call(
            own["id"],
            own["trace_id"],
            start=own.get("start_time"),
            end=own.get("end_time"),
            parent_span_id=self.span_id(p) if (p := own.get("parent_observation_id")) else None,
            name=own.get("name"),
            environment=str(own.get("environment") or ""),
            is_call=is_call,
            model_requested=own.get("provided_model_name") or own.get("model"),
            params=mapping(own.get("model_parameters")),
            input_messages=messages(own.get("input")),
            output_messages=messages(own.get("output"), "assistant"),
            usage=usage(own.get("usage_details") or own.get("usage")),
            cost=number(own.get("total_cost") or own.get("calculated_total_cost") or costs.get("total")),
            error=own.get("level") == "ERROR" and (own.get("status_message") or True),
            prompt_name=own.get("prompt_name"),
            prompt_version=own.get("prompt_version"),
            session_id=own.get("session_id"),
            user_id=own.get("user_id"),
            tags=tuple(map(str, parsed(own.get("tags")) or ())),
            metadata={**metadata, "release": own.get("release"), "version": own.get("version")},
        )

    def _score(self, own: Mapping[str, Any]) -> Iterator[Record]:
        page = mapping(own.get(PAGE))
        self.project = str(own.get("project_id") or page.get("project_id") or self.source.project)
        subject = mapping(own.get("subject"))
        kind = subject.get("kind")
        if kind == "experiment" or own.get("dataset_run_id"):
            yield LeftOut("a score of an experiment")
            return
        if own.get("status") in ("PENDING", "DRAFT"):
            yield LeftOut("a draft")
            return
        if (whole := self.whole(own.get("metadata"))) is not None:
            yield whole
            return
        target = self._target(own, subject)
        if target is None:
            yield LeftOut("a score of nothing: neither trace, observation nor session")
            return
        name, value, data_type = str(own.get("name") or "score"), _value(own), own.get("data_type")
        fields: dict[str, Any] = {
            "author": self._author(own),
            "time": own.get("timestamp") or own.get("created_at"),
            "metadata": {k: own.get(k) for k in ("environment", "queue_id", "config_id")},
        }
        if fields["author"].kind == "code":
            fields["metadata"]["author"] = "unknown: written through the API as an annotation"
        if data_type == "TEXT":
            text = f"{value}\n{own.get('comment') or ''}".strip()
            yield self.feedback("comment", target, own["id"], name=name, comment=text, **fields)
            return
        fields["comment"] = own.get("comment")
        if data_type == "CORRECTION":
            text = messages(value, "assistant")[-1].text
            yield self.feedback("correction", target, own["id"], correction=text, **fields)
        else:
            scale = self._scale(own, name, str(data_type))
            yield self.rating(target, own["id"], name, value, scale=scale, **fields)

    def _target(self, own: Mapping[str, Any], subject: Mapping[str, Any]) -> Target | None:
        kind = subject.get("kind")
        trace = subject.get("trace_id") or subject.get("traceId") or own.get("trace_id")
        if kind == "trace":
            trace = subject.get("id")
        observation = subject.get("id") if kind == "observation" else own.get("observation_id")
        session = subject.get("id") if kind == "session" else own.get("session_id")
        if trace and observation:
            return Target(self.trace_id(trace), self.span_id(observation))
        if trace:
            return Target(self.trace_id(trace))
        return Target(session_id=str(session)[:256]) if session else None

    def _author(self, own: Mapping[str, Any]) -> Author:
        source, author = own.get("source"), own.get("author_user_id")
        metadata = mapping(own.get("metadata"))
        if source == "EVAL":
            return self.author("model", author)
        if author:
            return self.author("annotator", author)
        if source == "ANNOTATION":
            # a person's annotation has an author; without one it was written through the API (langfuse#13286)
            return self.author("code" if "author_user_id" in own else "annotator")
        user = next((metadata[n] for n in ("user_id", "userId", "user") if metadata.get(n)), None)
        return self.author("end_user", user)

    def _scale(self, own: Mapping[str, Any], name: str, data_type: str) -> Scale | None:
        config = self._configs.get(("id", str(own.get("config_id")))) or self._configs.get((name, data_type))
        if config is None:
            return None
        categories = config.get("categories")
        if data_type == "CATEGORICAL" and categories:
            return Scale(categories=tuple(c["label"] for c in sorted(categories, key=lambda c: c["value"])))
        low, high = config.get("min_value"), config.get("max_value")
        return Scale(low, high) if data_type == "NUMERIC" and low is not None and high is not None else None


def _snake(row: Mapping[str, Any]) -> dict[str, Any]:
    return {_snake_name(k): v for k, v in row.items()}


@lru_cache(maxsize=1024)
def _snake_name(name: str) -> str:
    return name if name == PAGE else _UPPER.sub("_", name).lower()


def _is_trace(own: Mapping[str, Any]) -> bool:
    return {"id", "timestamp"} <= own.keys() and bool(
        {"html_path", "observations", "bookmarked"} & own.keys()
    )


def _value(own: Mapping[str, Any]) -> Any:
    """A score's value: of v1, v2 and the blob export, what a category or text is in a field of its own."""
    text, value = own.get("string_value"), own.get("value")
    if own.get("data_type") == "BOOLEAN":
        return value in (1, "1", True) or str(value if value is not None else text).lower() == "true"
    if text not in (None, "") and own.get("data_type") != "NUMERIC":
        return text
    return number(value) if own.get("data_type") == "NUMERIC" else value
