"""The worker: asks for every answer once, scores it, and stores it as a call of the evaluation's own environment."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from heedloop.client import Client
from heedloop.responses import Evaluation, EvaluationRow
from heedloop.schema import (
    EVALUATION,
    Call,
    Case,
    Message,
    ToolCall,
    Usage,
    from_json,
    slices_of,
    to_json,
    utc_now,
)
from heedloop.scores import failed_checks, reference_scores
from heedloop_cli.evaluate.sources import stored_answer
from heedloop_cli.evaluate.targets import Target
from heedloop_cli.judges.backends import BackendError
from heedloop_cli.judges.paid_calls import PaidCalls
from heedloop_cli.judges.parsers import Reply

SERVICE = "heedloop.evaluate"
FOR = "heedloop.metadata.generated_for"
_SEND_AT_ONCE = 50


@dataclass(slots=True)
class Evaluator:
    """One evaluation at work; without a client nothing leaves the machine.

    Attributes:
        before: turns such as examples, put behind a case's system messages and before the rest.
        counts: cases by how they ended, in this run.
        reasons: what went wrong with those that failed.
    """

    client: Client | None
    evaluation: Evaluation
    target: Target
    calls: PaidCalls
    before: Callable[[Case], Sequence[Message]] = lambda _: ()
    counts: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])

    def run(
        self, cases: Iterable[Case], shown: Callable[[int], None] = lambda _: None
    ) -> list[EvaluationRow]:
        """Answer what is not answered yet; the rows of all. Raises `OverBudget` or a fatal `BackendError` after sending."""
        done = {i for i, body in self.calls.journal.results().items() if not body["row"].get("error")}
        left = [c for c in cases if c.id not in done]
        self.counts["answered before"] += len(done)

        def after() -> None:
            shown(self.counts.total())
            self._send(least=_SEND_AT_ONCE)

        self.calls.run(left, self._answer, after, self._send)
        return self.rows()

    def rows(self) -> list[EvaluationRow]:
        """The rows of all cases that were answered or failed, by case."""
        results = self.calls.journal.results()
        return [from_json(EvaluationRow, results[i]["row"]) for i in sorted(results)]

    def _answer(self, case: Case) -> None:
        stored = stored_answer(self.client, case) if self.client else None
        start = next((i for i, m in enumerate(case.prompt) if not m.is_instruction), len(case.prompt))
        prompt = [*case.prompt[:start], *self.before(case), *case.prompt[start:]]
        text = json.dumps([to_json(m) for m in prompt], ensure_ascii=False)
        try:
            reply = self.calls.reply(case.id, "answer", text, lambda: self.target.ask(case, prompt))
        except BackendError as err:
            if err.fatal:
                raise
            row = EvaluationRow(case_id=case.id, group=case.group, error=err.kind)
            self.calls.journal.keep(case.id, {"row": to_json(row), "call": None})
            self.counts["failed"] += 1
            self.reasons[str(err)] += 1
            return
        call = self._call(case, prompt, reply, stored)
        row = evaluation_row(case, call, stored)
        self.calls.journal.keep(case.id, {"row": to_json(row), "call": to_json(call)})
        self.counts["answered"] += 1

    def _call(self, case: Case, prompt: Sequence[Message], reply: Reply, stored: Call | None) -> Call:
        """The answer as a call; its ids follow from evaluation, case and answer, so that sending it again changes nothing."""
        name = self.evaluation.name
        calls = tuple(ToolCall(t["name"], t["arguments"]) for t in reply.tool_calls)
        digest = hashlib.sha256("\x1f".join((name, case.id, reply.text)).encode("utf-8", "replace"))
        cost = self.calls.prices.of(reply)
        of = stored.traceparent if stored else f"00-{case.trace_id}-{'0' * 16}-01" if case.trace_id else ""
        return Call(
            trace_id=digest.hexdigest()[:32],
            span_id=digest.hexdigest()[32:48],
            start_time=utc_now(),
            duration_ns=int(self.calls.journal.answered_ms(case.id) * 1e6),
            name="evaluated answer",
            service=SERVICE,
            environment=EVALUATION + name,
            model_requested=self.target.model,
            model_answered=self.target.model,
            input_messages=tuple(prompt),
            output_messages=(Message("assistant", reply.text, tool_calls=calls),),
            tool_definitions=case.tools,
            usage=Usage(reply.input_tokens or None, reply.output_tokens or None),
            cost=cost or None,
            attributes={FOR: of} if of else {},
        )

    def _send(self, least: int = 1) -> None:
        """Send what waits, calls first: what has a row has its answer stored."""
        if self.client is None:
            return
        while len(waiting := self.calls.journal.unsent(_SEND_AT_ONCE)) >= least:
            bodies = list(waiting.values())
            if calls := [from_json(Call, b["call"]) for b in bodies if b["call"]]:
                self.client.send_calls(calls)
            self.client.add_evaluation_rows(self.evaluation.name, [b["row"] for b in bodies])
            self.calls.journal.mark_sent(list(waiting))


def evaluation_row(case: Case, call: Call, stored: Call | None) -> EvaluationRow:
    """The scores of both answers that need no judge."""
    return EvaluationRow(
        case_id=case.id,
        group=case.group,
        trace_id=call.trace_id,
        span_id=call.span_id,
        baseline_trace_id=stored.trace_id if stored else "",
        baseline_span_id=stored.span_id if stored else "",
        scores=_scores(case, call),
        baseline_scores=_scores(case, stored) if stored else {},
        slices={**(slices_of(stored) if stored else {}), **case.slices},
        failed_checks=tuple(failed_checks(case, call.output_text, _tool_calls(call))),
    )


def _scores(case: Case, call: Call) -> dict[str, float]:
    own = reference_scores(case, call.output_text, _tool_calls(call))
    own |= {"characters": float(len(call.output_text))}
    if call.duration_ns:
        own["latency_ms"] = call.duration_ns / 1e6
    return own | ({"cost": call.cost} if call.cost is not None else {})


def _tool_calls(call: Call) -> list[ToolCall]:
    return [t for m in call.output_messages for t in m.tool_calls]


def finished(one: Evaluation, rows: Sequence[EvaluationRow], cost: float, at: datetime | None) -> Evaluation:
    """The evaluation's state after a run; `at` is None where it was stopped."""
    num_failed = sum(bool(r.error) for r in rows)
    return replace(
        one,
        num_answered=len(rows) - num_failed,
        num_failed=num_failed,
        cost=cost,
        status="finished" if at else "stopped",
        finished_at=at,
    )
