"""The form of a review queue: its questions, its guideline and its settings; to make one, and to change one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timezone
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Queue
from heedloop.schema import format_time, to_json
from heedloop_dashboard import panels
from heedloop_dashboard.fetch import current, write
from heedloop_dashboard.navigation import Open, go
from heedloop_dashboard.review.questions import KINDS, from_fields, lines, to_fields
from heedloop_dashboard.review.templates import TEMPLATES
from heedloop_dashboard.state import query, view_of
from heedloop_dashboard.views.review import staffing

_DRAFT = "heedloop_queue_draft"
FACTS = {
    "model": "Model", "provider": "Provider", "prompt_name": "Prompt", "prompt_version": "Version", "service": "Service",
    "environment": "Environment", "tags": "Tags", "start_time": "Time", "duration_ms": "Duration",
    "input_tokens": "Tokens in", "output_tokens": "Tokens out", "cost": "Cost", "status": "Status",
}  # fmt: skip
STATUSES = {"open": "Open", "paused": "Paused", "closed": "Closed", "archived": "Archived"}


def show_new() -> None:
    """A page with a queue to be made; the URL's filters go along to filling it."""
    panels.title("New review queue", ("All queues", Open("review-queues")))
    if not current().can("admin"):
        panels.empty("Your key can read queues but not create them: that needs the scope admin.")
        return
    draft = _draft()
    with panels.panel("begin"):
        panels.header("Start from", "A template; everything in it can be changed")
        chosen = st.segmented_control(
            "Start from",
            list(TEMPLATES),
            format_func=lambda t: TEMPLATES[t].title,
            default=draft["template"],
            label_visibility="collapsed",
            key="queue_template",
        )
        if chosen and chosen != draft["template"]:
            st.session_state[_DRAFT] = draft = _fresh(chosen)
    left, right = st.columns([1.25, 1], gap="small")
    with left:
        _questions(draft)
    with right:
        settings = _settings(draft["key"], None, draft["judgements_per_item"])
        guideline = _guideline(draft["key"], draft["guideline"], [])
        if st.button("Create queue", type="primary", width="stretch"):
            _make(draft, settings, guideline)


def _draft() -> dict[str, Any]:
    if _DRAFT not in st.session_state:
        st.session_state[_DRAFT] = _fresh("support")
    return st.session_state[_DRAFT]


def _fresh(template: str) -> dict[str, Any]:
    begin = TEMPLATES[template]
    return {
        "template": template,
        "key": f"new_{template}",
        "next": len(begin.questions),
        "questions": [{"id": i, **to_fields(q)} for i, q in enumerate(begin.questions)],
        "guideline": begin.guideline,
        "judgements_per_item": begin.judgements_per_item,
    }


def _make(draft: Mapping[str, Any], settings: Mapping[str, Any], guideline: Mapping[str, Any]) -> None:
    try:
        questions = [from_fields(_question_fields(draft["key"], q)) for q in draft["questions"]]
        body: dict[str, Any] = {**_checked(settings), "questions": questions}
    except ValueError as err:
        st.text(str(err))
        return
    if guideline["text"].strip():
        body["guideline"] = guideline
    answer = write(Client.create_review_queue, **body)
    if panels.failed(answer):
        return
    st.session_state.pop(_DRAFT, None)
    made: Queue = answer.value
    go(
        Open(
            "review-queues",
            {**view_of(query()), "queue": made.queue_id, "fill": st.query_params.get("fill", "filter")},
        )
    )


# ---------------------------------------------------------------------------------------------------- questions


def _questions(draft: dict[str, Any]) -> None:
    with panels.panel("questions"):
        panels.header(
            "Questions",
            "Asked in this order. After the first judgement, wording and help can still change and categories can be added",
        )
        for place, question in enumerate(draft["questions"]):
            _question(draft, place, question)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            kind = st.selectbox(
                "Add a question", list(KINDS), format_func=lambda k: KINDS[k], key=f"{draft['key']}_kind"
            )
            if st.button("Add", key=f"{draft['key']}_add", icon=":material/add:"):
                draft["questions"].append({"id": draft["next"], **to_fields({"kind": kind, "title": ""})})
                draft["next"] += 1
                st.rerun()


def _question(draft: dict[str, Any], place: int, question: dict[str, Any]) -> None:
    key = f"{draft['key']}_{question['id']}"
    with st.expander(_label(place, question), expanded=not question["title"], key=f"{key}_box"):
        st.text_input("Title", value=question["title"], max_chars=256, key=f"{key}_title")
        st.text_input(
            "Help", value=question["help"], max_chars=1000, key=f"{key}_help", placeholder="Optional"
        )
        _specific(key, question)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.checkbox("Required", value=question["required"], key=f"{key}_required")
            st.text_input(
                "Feedback name",
                value=question["name"],
                max_chars=64,
                key=f"{key}_name",
                placeholder="From the title",
                help="Its name in counts and exports; a question named thumb counts in the rates.",
            )
        with st.container(horizontal=True):
            if st.button("Up", key=f"{key}_up", disabled=place == 0, icon=":material/arrow_upward:"):
                _swap(draft, place, place - 1)
            if st.button(
                "Down",
                key=f"{key}_down",
                disabled=place == len(draft["questions"]) - 1,
                icon=":material/arrow_downward:",
            ):
                _swap(draft, place, place + 1)
            if st.button(
                "Remove", key=f"{key}_away", disabled=len(draft["questions"]) == 1, icon=":material/delete:"
            ):
                del draft["questions"][place]
                st.rerun()  # fmt: skip


def _label(place: int, question: Mapping[str, Any]) -> str:
    """A heading that no title can turn into markup: letters, digits, blanks, commas and hyphens of it."""
    title = "".join(c for c in question["title"] if c.isalnum() or c in " ,-")[:60].strip()
    return f"{place + 1}. {KINDS[question['kind']]}" + (f", {title}" if title else "")


def _specific(key: str, question: Mapping[str, Any]) -> None:
    kind = question["kind"]
    if kind in ("category", "choices", "flags", "ranges"):
        label = {
            "category": "Categories, one per line",
            "choices": "Categories, one per line",
            "flags": "Categories, one per line",
        }.get(kind, "Labels, one per line")
        st.text_area(label, value=question["choices"], key=f"{key}_choices", height=120)
    if kind == "category":
        st.checkbox("Ordered from worst to best", value=question["ordered"], key=f"{key}_ordered")
    if kind in ("thumb", "scale", "category"):
        st.text_input(
            "Path to the model's verdict",
            value=question["verdict"],
            max_chars=1000,
            key=f"{key}_verdict",
            placeholder="Automatic",
            help="For answers that are verdicts: a path in their JSON such as result.label, or a pattern such as /Verdict: (.+)/",
        )
    if kind in ("flags", "ranges"):
        st.checkbox("Ask for severity", value=question["severity"], key=f"{key}_severity")
        st.checkbox(
            "Severity is required", value=question["severity_required"], key=f"{key}_severity_required"
        )
    if kind == "comparison":
        st.checkbox("Ask how strong the preference is", value=question["strength"], key=f"{key}_strength")
    st.text_input(
        "Ask only if",
        value=question["when"],
        max_chars=1000,
        key=f"{key}_when",
        placeholder="Always",
        help="An earlier question's name and answers, such as: thumb = bad, or: accuracy = 1, 2",
    )
    if kind not in ("ranges", "correction", "comparison", "ranking"):
        st.checkbox("In sessions: ask for each turn", value=question["per_answer"], key=f"{key}_per_answer")
    if kind in ("scale", "number"):
        low, high = st.columns(2)
        low.number_input("From", value=int(question["min"]), step=1, key=f"{key}_min")
        high.number_input("To", value=int(question["max"]), step=1, key=f"{key}_max")
    if kind == "scale":
        st.text_area("What the steps mean", value=question["anchors"], key=f"{key}_anchors", height=110,
                     placeholder="1 = Wrong: would mislead the customer\n5 = Right: every statement holds")  # fmt: skip


def _question_fields(key: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """The question's fields as they stand on the page."""
    state = st.session_state
    return {
        name: state.get(f"{key}_{question['id']}_{name}", value)
        for name, value in question.items()
        if name != "id"
    }


def _swap(draft: dict[str, Any], a: int, b: int) -> None:
    questions = draft["questions"]
    questions[a], questions[b] = questions[b], questions[a]
    st.rerun()


# ----------------------------------------------------------------------------------------------------- settings


def _settings(key: str, queue: Queue | None, judgements_per_item: int) -> dict[str, Any]:
    """The fields, as of `queue` where there is one; `judgements_per_item` is what they begin with."""
    with panels.panel("settings"):
        panels.header("Settings", "Who judges, how much, and what annotators see")
        due = queue.due_at if queue else None
        shown = [f for f in queue.show if f in FACTS] if queue else []
        fields = {
            "name": st.text_input("Name", value=queue.name if queue else "", max_chars=256, key=f"{key}_name"),
            "description": st.text_input("Description", value=queue.description if queue else "", max_chars=1000, key=f"{key}_about", placeholder="Optional"),
            "judgements_per_item": st.number_input("Annotators per answer", 1, 1000, judgements_per_item, key=f"{key}_num"),
            "gold_share": st.slider("Gold answers (%)", 0, 50, round(100 * (queue.gold_share or 0)) if queue else 0, key=f"{key}_gold",
                                    help="Answers with a known judgement, mixed in without telling annotators."),
            "lease_min": st.number_input("Minutes until an untouched answer goes to another annotator", 1, 43_200, max(1, (queue.lease_s if queue else 1800) // 60), key=f"{key}_lease"),
            "due": st.date_input("Due", value=due.date() if due else None, key=f"{key}_due"),
            "show": st.multiselect("Call details shown", list(FACTS), default=shown, format_func=lambda f: FACTS[f], key=f"{key}_show",
                                   help="Show only what is needed to judge: model names bias."),
            "suggestions": st.checkbox("Show what models suggest (never filled in)", value=bool(queue and queue.suggestions), key=f"{key}_suggest"),
            "annotators": st.text_area("Only these annotators, one per line", value="\n".join((queue and queue.annotators) or []), key=f"{key}_who", height=80,
                                       placeholder="All annotators, or group:legal"),
        }  # fmt: skip
        return fields | {"staffing": staffing.fields(key, queue)}


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the API takes them; raises ValueError."""
    if not settings["name"].strip():
        raise ValueError("Give the queue a name.")
    due: date | None = settings["due"]
    return {
        "name": settings["name"].strip(),
        "description": settings["description"].strip(),
        "judgements_per_item": int(settings["judgements_per_item"]),
        "gold_share": settings["gold_share"] / 100,
        "lease_s": int(settings["lease_min"]) * 60,
        "due_at": format_time(datetime.combine(due, time(23, 59), timezone.utc)) if due else None,
        "show": list(settings["show"]),
        "suggestions": settings["suggestions"],
        "annotators": lines(settings["annotators"]),
        **staffing.checked(settings["staffing"]),
    }


def settings_form(queue: Queue) -> None:
    """The settings of a queue that is there."""
    key = f"queue_{queue.queue_id}"
    settings = _settings(key, queue, queue.judgements_per_item or 1)
    status = st.segmented_control(
        "Status",
        list(STATUSES),
        default=queue.status,
        format_func=lambda s: STATUSES[s],
        key=f"{key}_status",
    )
    if not st.button("Save settings", type="primary", key=f"{key}_save"):
        return
    try:
        body: dict[str, Any] = {**_checked(settings), "status": status or queue.status}
    except ValueError as err:
        st.text(str(err))
        return
    kept = [f for f in queue.show if f not in FACTS]
    body["show"] = [*body["show"], *kept]
    _show_result(write(Client.change_review_queue, queue.queue_id, **body))


def questions_form(queue: Queue) -> None:
    """Change the questions of a queue that is there; the server says why where stored answers forbid it."""
    name = f"heedloop_questions_{queue.queue_id}_{queue.questions_version}"
    draft: dict[str, Any] = st.session_state.setdefault(
        name,
        {
            "key": name,
            "next": len(queue.questions),
            "questions": [{"id": i, **to_fields(to_json(q))} for i, q in enumerate(queue.questions)],
        },
    )
    _questions(draft)
    if not st.button("Save questions", type="primary", key=f"{name}_save"):
        return
    try:
        questions = [from_fields(_question_fields(draft["key"], q)) for q in draft["questions"]]
    except ValueError as err:
        st.text(str(err))
        return
    _show_result(write(Client.change_review_queue, queue.queue_id, questions=questions))


def upkeep(queue: Queue) -> None:
    """Leases that are ended, and a queue that is taken away."""
    with panels.panel("upkeep"):
        panels.header(
            "Maintenance", "Drafts are kept. Judgements remain as feedback even if the queue is deleted"
        )
        leased = queue.counts.leased if queue.counts else 0
        if st.button(f"Release answers in progress ({leased:,})", disabled=not leased, key="release_leases"):
            _show_result(write(Client.release_leases, queue.queue_id))
        sure = st.checkbox("I want to delete this queue", key=f"{queue.queue_id}_sure")
        if st.button("Delete queue", disabled=not sure, key="delete_queue"):
            answer = write(Client.delete_review_queue, queue.queue_id)
            if answer.error is not None:
                panels.problem(answer.error)
            else:
                go(Open("review-queues"))


def _show_result(answer: Any) -> None:
    if answer.error is not None:
        panels.problem(answer.error)
    else:
        st.rerun()


# ---------------------------------------------------------------------------------------------------- guideline


def _guideline(key: str, text: str, examples: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    with panels.panel("guideline"):
        panels.header("Guideline", "Shown next to every answer. # starts a heading, - a list item")
        written = st.text_area(
            "Guideline",
            value=text,
            height=170,
            key=f"{key}_rules",
            label_visibility="collapsed",
            max_chars=200_000,
        )
        count = st.number_input("Examples", 0, 20, len(examples), key=f"{key}_examples")
        return {"text": written, "examples": [_example(key, i, examples) for i in range(int(count))]}


def _example(key: str, i: int, examples: Sequence[Mapping[str, str]]) -> dict[str, str]:
    given = examples[i] if i < len(examples) else {}
    fields = {"input": "Asked", "output": "Answered", "verdict": "Verdict", "why": "Why"}
    with st.container(border=True):
        return {
            name: st.text_input(
                f"{label} ({i + 1})", value=given.get(name, ""), key=f"{key}_ex{i}_{name}", max_chars=10_000
            )
            for name, label in fields.items()
        }


def guideline_form(queue: Queue) -> None:
    """A new version of a queue's guideline."""
    now = queue.guideline
    key = f"rules_{queue.queue_id}_{now.version}"
    new = _guideline(key, now.text, now.examples)
    back = st.checkbox("Ask again about answers judged under older versions", key=f"{key}_back")
    if st.button(f"Save as version {now.version + 1}", type="primary", key=f"{key}_save"):
        _show_result(write(Client.set_guideline, queue.queue_id, **new, send_back=back))
