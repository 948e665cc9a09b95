"""What can be done with the answers that were chosen in a list: flag or tag them, add them to a queue, make a dataset or cases of them."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from heedloop.client import Client
from heedloop.schema import Feedback, Target
from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.fetch import current, read_one, write
from heedloop_dashboard.navigation import Open, go
from heedloop_dashboard.state import merged, query, view_of
from heedloop_dashboard.views import judge_panel

_CHOSEN = "heedloop_chosen_answers"
_DONE = "heedloop_chosen_done"
_ACTIONS = {
    "flag": ("Flag", "feedback"),
    "tag": ("Tag", "feedback"),
    "queue": ("Add to queue", "admin"),
    "dataset": ("Create dataset", "train"),
    "cases": ("Create cases", "train"),
}
"""Action -> its words and the scope that it needs."""


def actions() -> list[dict[str, str]]:
    """Those that this key may take."""
    session = current()
    return [{"key": k, "label": label} for k, (label, scope) in _ACTIONS.items() if session.can(scope)]


def begin(action: str, keys: Sequence[str]) -> None:
    """Ask what is missing for an action on answers, named as `trace:span`."""
    if action == "dataset":
        traces = list(dict.fromkeys(key.partition(":")[0] for key in keys))
        period = {n: v for n, v in view_of(query()).items() if n in ("period", "since", "until")}
        go(Open("datasets", merged({**period, "new": "1"}, {"trace": traces})))
    st.session_state[_CHOSEN] = (action, list(keys))
    st.rerun()


def show() -> None:
    """Draw what an action that was begun needs, or what the last one did."""
    done = st.session_state.pop(_DONE, None)
    if done:
        components.finding("bulk_done", lead=done[0], text=done[1], tone="good", action=done[2], open=done[3])
    action, keys = st.session_state.get(_CHOSEN, ("", []))
    if not action:
        return
    targets = [Target(trace_id=t, span_id=s) for t, _, s in (key.partition(":") for key in keys)]
    with panels.panel("bulk"):
        panels.header(f"{_ACTIONS[action][0]}: {words.plural(len(keys), 'answer')}", _ABOUT[action])
        _FORMS[action](targets)
        if st.button("Cancel", key="bulk_cancel", type="tertiary"):
            st.session_state.pop(_CHOSEN)
            st.rerun()


def _flag(targets: Sequence[Target]) -> None:
    with st.form("bulk_flag", border=False):
        category, severity, comment = judge_panel.flag_fields("bulk")
        if not st.form_submit_button("Flag them", type="primary") or not category:
            return
    author = judge_panel.author()
    flags = [
        Feedback("flag", t, category=category, severity=severity, comment=comment or None, author=author)
        for t in targets
    ]
    answer = write(Client.send_feedback, flags)
    if panels.failed(answer):
        return
    _finish(
        f"{words.plural(answer.value.stored, 'answer')} flagged",
        Open("traces", filters.link_params(flag=category)),
    )


def _tag(targets: Sequence[Target]) -> None:
    known = filters.values_of("tag")
    with st.form("bulk_tag", border=False):
        add = st.multiselect(
            "Add tags", known, accept_new_options=True, max_selections=20, placeholder="Tags"
        )
        remove = st.multiselect(
            "Remove tags", known, max_selections=20, placeholder="Tags", help="Tags that the app sent stay"
        )
        if not st.form_submit_button("Save tags", type="primary") or not (add or remove):
            return
    answer = write(Client.tag_calls, targets, add=add, remove=remove)
    if panels.failed(answer):
        return
    _finish(
        f"Tags of {words.plural(answer.value.num_calls, 'answer')} changed",
        Open("traces", filters.link_params(tag=add)),
    )


def _queue(targets: Sequence[Target]) -> None:
    found = read_one(Client.review_queues)
    if panels.failed(found):
        return
    names = {q.queue_id: q.name for q in found.value}
    if not names:
        st.text("There is no review queue yet. Create one on the page Review queues.")
        return
    with st.form("bulk_queue", border=False):
        queue = st.selectbox("Choose a queue", list(names), format_func=lambda q: names[q])
        if not st.form_submit_button("Add to queue", type="primary"):
            return
    items = [[{"trace_id": t.trace_id, "span_id": t.span_id}] for t in targets]
    answer = write(Client.fill_review_queue, queue, "targets", items=items)
    if panels.failed(answer):
        return
    text = f"{words.plural(answer.value.added, 'answer')} added to {names[queue]}"
    _finish(text, Open("review-queues", {"queue": queue}))


def _cases(targets: Sequence[Target]) -> None:
    with st.form("bulk_cases", border=False):
        name = st.text_input("Name of the set", max_chars=64, placeholder="refunds").strip()
        if not st.form_submit_button("Create cases", type="primary") or not name:
            return
    period = {n: v for n, v in filters.filters().items() if n in ("since", "until")}
    traces = list(dict.fromkeys(t.trace_id for t in targets))
    answer = write(Client.make_cases, name, filters={**period, "trace": traces})
    if panels.failed(answer):
        return
    made = answer.value
    text = f"{words.plural(made.num_cases, 'case')} in version {made.version} of {made.name}"
    _finish(text, Open("evaluations"))


def _finish(lead: str, target: Open) -> None:
    st.session_state.pop(_CHOSEN)
    st.session_state[_DONE] = (lead, ".", "Show", target)
    st.rerun()


_ABOUT = {
    "flag": "The flag is stored as feedback under your name",
    "tag": "Tags are filtered and counted like those that the app sent",
    "cases": "Answers with a correction, a flag or an adjudication become cases of an evaluation",
    "queue": "Answers already in the queue are not added again",
}
_FORMS = {"flag": _flag, "tag": _tag, "queue": _queue, "cases": _cases}
