"""LangSmith: runs and feedback, of the API or as `Client.list_runs` and `Client.list_feedback` give them.

A run of type `llm` is a call, others are steps around it. Span ids are made of the whole run id: LangSmith's own rule takes
its first eight bytes, which two runs of one millisecond can share. Times without a zone are UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import Target
from heedloop_cli.importers.documents import mapping, parsed
from heedloop_cli.importers.messages import messages, tool_definitions, usage
from heedloop_cli.importers.record import number
from heedloop_cli.importers.system import JOINED, LeftOut, Record, System

_SOURCES: dict[str, Any] = {"model": "model", "auto_eval": "model", "app": "annotator", "code": "code"}


class LangSmith(System):
    """Runs and feedback; the halves of a pairwise comparison are joined at the end."""

    name = "langsmith"

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self._groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return ("run_type" in row and "id" in row) or ("key" in row and "run_id" in row and "score" in row)

    def learn(self, row: Mapping[str, Any]) -> None:
        if "run_type" in row:
            self.traces[str(row["id"])] = str(row.get("trace_id") or row["id"])
        else:
            self.note_value(row["key"], row.get("score"))
            if isinstance(row.get("value"), str):
                self.note_value(row["key"], row["value"], row.get("score"))

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        self.project = str(row.get("session_id") or self.source.project)
        if "run_type" in row:
            yield self._run(row)
        else:
            yield from self.each([row], self._feedback)

    def _run(self, row: Mapping[str, Any]) -> Record:
        extra = mapping(row.get("extra"))
        metadata = mapping(extra.get("metadata"))
        params = mapping(extra.get("invocation_params"))
        is_call = row["run_type"] == "llm"
        outputs = mapping(row.get("outputs"))
        counts = mapping(outputs.get("usage_metadata")) or row
        session = next(
            (metadata[n] for n in ("thread_id", "session_id", "conversation_id") if metadata.get(n)), None
        )
        return self.call(
            row["id"],
            row.get("trace_id") or row["id"],
            start=row.get("start_time"),
            end=row.get("end_time"),
            parent_span_id=self.span_id(p) if (p := row.get("parent_run_id")) else None,
            name=row.get("name"),
            is_call=is_call,
            provider=metadata.get("ls_provider"),
            model_requested=metadata.get("ls_model_name") or params.get("model") or params.get("model_name"),
            params={k: v for k, v in params.items() if isinstance(v, (int, float)) and k != "model"},
            input_messages=messages(row.get("inputs")),
            output_messages=messages(row.get("outputs"), "assistant"),
            tool_definitions=tool_definitions(params.get("tools")),
            usage=usage(counts),
            cost=number(row.get("total_cost")),
            error=row.get("error"),
            prompt_name=metadata.get("lc_hub_repo"),
            prompt_version=metadata.get("lc_hub_commit_hash"),
            session_id=session,
            user_id=metadata.get("user_id") or metadata.get("user"),
            tags=tuple(map(str, row.get("tags") or ())),
            metadata={"revision": metadata.get("revision_id")},
        )

    def _feedback(self, row: Mapping[str, Any]) -> Iterator[Record]:
        if not row.get("run_id"):
            yield LeftOut("about a whole project: no run is named")
            return
        if row.get("comparative_experiment_id") or row.get("feedback_group_id"):
            group = str(row.get("feedback_group_id") or row["comparative_experiment_id"])
            self._groups.setdefault((group, str(self._author(row))), []).append(row)
            return
        target = self._target(row)
        if target is None:
            yield LeftOut("about a run whose trace is not in the files")
            return
        yield from self._judgements(row, target)

    def _judgements(self, row: Mapping[str, Any], target: Target) -> Iterator[Record]:
        key, score, value = str(row["key"]), row.get("score"), parsed(row.get("value"))
        fields: dict[str, Any] = {"author": self._author(row), "time": row.get("created_at")}
        comment, correction = row.get("comment"), parsed(row.get("correction"))
        if isinstance(value, str) and value:
            labels = {"source_score": score}
            yield self.rating(target, row["id"], key, value, comment=comment, metadata=labels, **fields)
        elif score is not None:
            yield self.rating(target, row["id"], key, score, comment=comment, **fields)
        elif comment and not correction:
            yield self.feedback("comment", target, row["id"], name=key, comment=comment, **fields)
        elif isinstance(value, (Mapping, list)):
            yield LeftOut("a value that is an object")
        elif not correction:
            yield LeftOut("neither a score, a value, a comment nor a correction")
        if isinstance(correction, Mapping) and "score" in correction:
            user = mapping(row.get("feedback_source")).get("user_id")
            fields["author"] = self.author("annotator", user or "override")
            yield self.rating(target, f"{row['id']}/override", key, correction["score"], **fields)
        elif correction:
            said = messages(correction, "assistant")
            text = said[-1].text or json.dumps(correction, ensure_ascii=False)
            fields["comment"] = comment if score is None and value is None else None
            yield self.feedback("correction", target, f"{row['id']}/correction", correction=text, **fields)

    def rest(self) -> Iterator[Record]:
        """The comparisons: the feedback of one group, by one author, ranked by score."""
        yield from self.each(self._groups.values(), self._comparison)

    def _comparison(self, rows: list[Mapping[str, Any]]) -> Iterator[Record]:
        first = rows[0]
        self.project = str(first.get("session_id") or self.source.project)
        scored = [
            (t, float(r["score"])) for r in rows if (t := self._target(r)) and r.get("score") is not None
        ]
        scored.sort(key=lambda s: (-s[1], s[0].key))
        if len(scored) < 2:
            yield from (LeftOut("a comparison whose other half is not in the files") for _ in rows)
            return
        order = sorted({s for _, s in scored}, reverse=True)
        identity = first.get("feedback_group_id") or first["comparative_experiment_id"]
        comment = next((r["comment"] for r in rows if r.get("comment")), None)
        yield self.comparison(
            [t for t, _ in scored],
            [order.index(s) + 1 for _, s in scored],
            identity,
            author=self._author(first),
            time=first.get("created_at"),
            comment=comment,
        )
        yield from (LeftOut(JOINED) for _ in rows[1:])

    def _target(self, row: Mapping[str, Any]) -> Target | None:
        run = str(row["run_id"])
        trace = row.get("trace_id") or self.traces.get(run)
        if not trace:
            return None
        whole = run == str(trace)
        return Target(self.trace_id(trace), None if whole else self.span_id(run))

    def _author(self, row: Mapping[str, Any]) -> Any:
        source = mapping(row.get("feedback_source"))
        metadata = mapping(source.get("metadata"))
        kind = _SOURCES.get(str(source.get("type")), "end_user")
        if "__run" in metadata and kind == "end_user":
            kind = "model"
        user = source.get("user_id") or next(
            (metadata[n] for n in ("user", "user_id") if metadata.get(n)), None
        )
        return self.author(kind, user)
