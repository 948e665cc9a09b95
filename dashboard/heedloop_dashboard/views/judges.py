"""AI judges: what each did, and how far annotators confirm it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Interval, Judge, JudgeCard, Queue
from heedloop.schema import JudgeBackend, JudgeSpec, Run
from heedloop_dashboard import components, lists, panels, words
from heedloop_dashboard.charts import plots
from heedloop_dashboard.charts.parts import Dot
from heedloop_dashboard.fetch import Answer, ask, ask_seldom, current, read, write
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import judge_form

MAX_COMBINED = 5
SENT = "heedloop_judge_sent"
WHERE: Mapping[JudgeBackend, str] = {
    "endpoint": "Run the worker where the model can be reached",
    "checkpoint": "Run the worker where the checkpoint is, with the extra trainer",
    "reward": "Run the worker where the run's files are, with the extra trainer",
    "function": "Run the worker in the folder of the function's module",
}
STATES = {
    "unmeasured": "There is no evidence about this judge yet",
    "weak": "It is no better than chance at telling good answers from bad",
    "stale": "It was measured, but what it judges or how has changed since",
    "measured": "Its agreement with annotators is measured",
}


def show() -> None:
    """Draw one judge where the URL names it, else the list."""
    judge_id = (st.query_params.get("judge_id") or "").strip()
    if judge_id:
        _one(judge_id)
        return
    st.subheader("Judges", anchor=False)
    answer = read(all=ask(Client.judges))["all"]
    with panels.panel("judges"):
        panels.header(
            "Judges, newest first",
            "Models that judge answers. Their verdicts never count as user or annotator ratings. Select one for its card",
        )
        if answer.error is not None:
            panels.problem(answer.error)
        elif not answer.value:
            panels.empty("No judge yet. Make one below, or with: heedloop judge create")
        else:
            _list(answer.value)
    if _can_make():
        judge_form.show()


def _can_make() -> bool:
    return any(current().can(scope) for scope in ("review", "train", "admin"))


def _list(judges: Sequence[Judge]) -> None:
    cards = read(**{j.id: ask(Client.judge_card, j.id) for j in judges})
    known = {name: card.value for name, card in cards.items() if card.error is None}

    def of_card(text: Callable[[JudgeCard], str]) -> Callable[[Judge], str]:
        return lambda j: text(known[j.id]) if j.id in known else words.NONE

    columns: list[lists.Column[Judge]] = [
        lists.Column("Judge", lambda j: j.id, "mono"),
        lists.Column("State", of_card(lambda c: c.state)),
        lists.Column("Judges", lambda j: f"{', '.join(j.spec.names)} ({j.spec.form})"),
        lists.Column("Model", lambda j: j.spec.model),
        lists.Column("Judged", lambda j: words.count(j.calls.num_judged), "number"),
        lists.Column("Audited", of_card(lambda c: words.count(c.num_audits)), "number"),
        lists.Column(
            "Agreement",
            of_card(lambda c: words.interval(c.agreement) if c.agreement else words.NONE),
            "number",
        ),
        lists.Column("Cost", lambda j: f"{j.calls.cost:,.2f}", "number"),
    ]
    lists.show(
        "judge_rows",
        judges,
        columns,
        caption="Judges, newest first",
        open=lambda j: Open("judges", {"judge_id": j.id}),
        row_key=lambda j: j.id,
    )


def show_combined(chosen: Mapping[str, Any]) -> None:
    """A panel of the quality page: what measured judges and their audits say together of the answers that the page shows."""
    judges = read(judges=ask_seldom(Client.judges))["judges"]
    if judges.error is not None or not judges.value:
        return
    cards = read(**{j.id: ask_seldom(Client.judge_card, j.id, **chosen) for j in judges.value[:MAX_COMBINED]})
    known = [c.value for c in cards.values() if c.error is None and c.value.combined is not None]
    if not known:
        return
    with panels.panel("combined"):
        panels.header(
            "Estimated with a judge",
            "Annotators' rate among all judged answers, from audits and a measured judge; counted in no other number",
        )
        columns: list[lists.Column[JudgeCard]] = [
            lists.Column("Judge", lambda c: c.judge_id, "mono"),
            lists.Column("Question", lambda c: c.question),
            lists.Column("Combined rate", lambda c: words.interval(c.combined), "number"),
            lists.Column("Judged", lambda c: words.count(c.num_judged), "number"),
            lists.Column("State", lambda c: c.state),
        ]
        lists.show(
            "combined_rows",
            known,
            columns,
            caption="Estimated with a judge",
            open=lambda c: Open("judges", {"judge_id": c.judge_id}),
        )


# ---------------------------------------------------------------------------------------------------------- one


def _one(judge_id: str) -> None:
    panels.title("Judge", ("All judges", Open("judges")))
    name = st.query_params.get("name") or None
    answers = read(
        judge=ask(Client.judge, judge_id),
        card=ask(Client.judge_card, judge_id, name=name),
        queues=ask(Client.review_queues),
    )
    error = answers["judge"].error or answers["card"].error
    if error is not None:
        panels.problem(error)
        return
    judge, card = answers["judge"].value, answers["card"].value
    _state(card)
    if len(judge.spec.names) > 1:
        links = [(n, Open("judges", {"judge_id": judge_id, "name": n})) for n in judge.spec.names]
        components.links("dimensions", links, label="Dimensions", left=True)
    _figures(card)
    left, right = st.columns(2, gap="small")
    with left:
        rates = [
            ("Judge alone", card.judge_rate),
            ("Annotators alone", card.people_rate),
            ("Combined", card.combined),
        ]
        _dots(
            "rates",
            "Rate",
            "The combined one is annotators' rate among all judged answers, from both",
            card,
            rates,
        )
    with right:
        shares = [
            ("Agreement with annotators", card.agreement),
            ("Annotators with each other", card.people_agreement),
            ("Accepts good answers", card.sensitivity),
            ("Rejects bad answers", card.specificity),
        ]
        _dots(
            "shares",
            "How often it is right",
            "By audits; annotators' own agreement is the ceiling",
            card,
            shares,
        )
    left, right = st.columns(2, gap="small")
    with left, panels.panel("trust", stretch=True):
        panels.header(
            "Bias checks", "Its ratings minus annotators' (0 is no effect), and what it may decide alone"
        )
        _facts(card)
    with right, panels.panel("calls", stretch=True):
        panels.header("Runs", "What could not be read is counted, and is no verdict")
        _calls(judge)
    _work(judge, card, answers["queues"])
    with panels.panel("prompt"):
        panels.header("Prompt", f"{judge.spec.backend}, {judge.spec.model}")
        st.code(judge.spec.prompt or "(a model without a prompt)", language=None, wrap_lines=True)


def _state(card: JudgeCard) -> None:
    tone = {"measured": "good", "weak": "bad", "stale": "bad"}.get(card.state, "")
    why = "; ".join(card.reasons)
    text = f": {STATES[card.state]}." + (f" {why[:1].upper()}{why[1:]}." if why else "")
    components.finding("judge_state", lead=card.state.capitalize(), text=text, tone=tone)


def _figures(card: JudgeCard) -> None:
    worth = words.NONE if card.worth is None else f"{card.worth:,.0f}"
    left = words.NONE if card.labels_left is None else words.count(card.labels_left)
    components.cards(
        "judge_figures",
        [
            components.Card(
                "combined", "Combined rate", words.percent(words.estimate(card.combined)), words.spread(card.combined),
                "Annotators' rate among all judged answers. It counts in no other rate.",
            ),
            components.Card(
                "worth", "Labels are worth", worth, f"{card.num_audits:,} labels and {card.num_judged:,} judgements",
                "Without the judge, this many labels would give an equally narrow interval.",
            ),
            components.Card(
                "left", "Labels left", left, f"to ± {words.percent(card.half_width, digits=0)}",
                "How many more labels make the combined interval this narrow, if they stay worth what they are.",
            ),
            components.Card(
                "agreement", "Agreement", words.percent(words.estimate(card.agreement)), words.spread(card.agreement),
                "How often its verdict is the annotators'.",
            ),
        ],
    )  # fmt: skip


def _dots(
    key: str, title: str, caption: str, card: JudgeCard, values: Sequence[tuple[str, Interval | None]]
) -> None:
    dots = [Dot(label, v, v.n, v.n) for label, v in values if v is not None]
    panels.chart(
        f"judge_{key}",
        title,
        caption,
        Answer(card),
        lambda _: plots.dots(dots, panels.colours(), what="Rate", measure="Share", few=False),
        empty_text="Nothing was judged yet.",
    )


def _facts(card: JudgeCard) -> None:
    d, drift = card.deferral, card.drift
    alone = words.NONE
    if d is not None:
        alone = (
            f"{words.percent(d.share, digits=0)}, from confidence {d.threshold:.2f}"
            if d.threshold is not None
            else f"nothing below {words.percent(d.max_error, digits=0)} error"
        )
    rows = [
        ("Longer answers", _effect(card.length_effect)),
        ("Its own family", _effect(card.own_family)),
        ("Drift", words.NONE if drift is None else drift.state),
        ("May decide alone", alone),
        *(
            (
                f"Guideline {g.guideline.rpartition('/')[2]}",
                f"{words.percent(words.estimate(g.agreement))} of {words.plural(g.num_audits, 'audit')}",
            )
            for g in card.guidelines
        ),
    ]
    panels.facts("judge_facts", rows, caption="Bias checks")


def _effect(value: Interval | None) -> str:
    return words.NONE if value is None else f"{value.estimate:+.2f} ({value.low:+.2f}, {value.high:+.2f})"


def _calls(judge: Judge) -> None:
    c = judge.calls
    latency = (
        words.NONE
        if c.latency_ms_p50 is None
        else f"{c.latency_ms_p50:,.0f} ms (95%: {c.latency_ms_p95 or 0:,.0f})"
    )
    rows = [
        ("Judged", words.count(c.num_judged)),
        ("Unparsable", words.count(c.num_unparsable)),
        ("Failed", words.count(c.num_failed)),
        ("Calls", words.count(c.num_calls)),
        ("Tokens in, out", f"{c.input_tokens:,}, {c.output_tokens:,}"),
        ("Cost", f"{c.cost:,.4f}"),
        ("Time of an item", latency),
        ("Changed when asked again", words.NONE if c.rechecked is None else words.interval(c.rechecked)),
        ("Last run", words.clock(c.last_at)),
    ]
    panels.facts("judge_calls", rows, caption="Runs")


def _work(judge: Judge, card: JudgeCard, queues: Answer[list[Queue]]) -> None:
    with panels.panel("judge_work"):
        panels.header(
            "Run this judge",
            f"{WHERE[judge.spec.backend]}. Restarted, it continues where it stopped",
        )
        st.code(worker_command(judge.spec, _run(judge.spec)), language=None, wrap_lines=True)
        if not current().can("admin") or queues.error is not None or not card.num_judged:
            return
        sent = st.session_state.pop(SENT, None)
        if sent is not None:
            st.text(sent)
        known = {q.name or q.queue_id: q for q in queues.value if q.status == "open"}
        if not known:
            panels.empty("To check it, create a review queue that asks the same question.")
            return
        with st.form("judge_audit", border=False):
            left, middle, right = st.columns([2, 2, 1])
            queue = known[left.selectbox("Review queue", list(known))]
            what = middle.selectbox("Send", ["An audit: drawn at random", "Doubtful cases"])
            size = right.number_input("How many", 1, 5000, 50)
            if st.form_submit_button("Send to the queue", type="primary"):
                _send(judge, queue, str(what), int(size))


def _run(spec: JudgeSpec) -> Run | None:
    """The training run of a reward model; None where the judge is none of a run's."""
    if spec.backend != "reward":
        return None
    answer = read(run=ask(Client.run, spec.model))["run"]
    return None if answer.error is not None else answer.value


def worker_command(spec: JudgeSpec, run: Run | None) -> str:
    """The command that lets the judge judge, as it runs on the machine that has what it needs."""
    place = {
        "endpoint": " --endpoint http://127.0.0.1:8000/v1",
        "checkpoint": f" --folder {shlex.quote(spec.model)}",
        "reward": f" --folder {shlex.quote(run.checkpoint if run and run.checkpoint else spec.model)}",
        "function": "",
    }[spec.backend]
    budget = " --budget-calls 1000" if spec.backend == "endpoint" else ""
    return f"heedloop judge run {spec.id}{place} --sample 500{budget}"


def _send(judge: Judge, queue: Queue, what: str, size: int) -> None:
    how = {"judge": judge.id} | ({"size": size} if what.startswith("An audit") else {"limit": size})
    source = "audit" if "size" in how else "low_confidence"
    done = write(Client.fill_review_queue, queue.queue_id, source, **how)
    if panels.failed(done):
        return
    st.session_state[SENT] = f"{words.plural(done.value.added, 'answer')} added to {queue.name}."
    st.rerun()
