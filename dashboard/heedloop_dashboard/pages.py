"""All pages: where each stands, what it is called, and which scope a key needs to be shown it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from heedloop_dashboard.auth.sessions import Session
from heedloop_dashboard.navigation import Open, go
from heedloop_dashboard.views import (
    alerts,
    compare,
    datasets,
    delivery,
    evaluations,
    experiments,
    failures,
    feedback,
    imports,
    jobs,
    judges,
    keys,
    prompts,
    quality,
    runs,
    search,
    session,
    settings,
    trace,
    traces,
    user,
)
from heedloop_dashboard.views.review import page as review
from heedloop_dashboard.views.review import queues as review_queues
from heedloop_dashboard.views.review import team


@dataclass(frozen=True, slots=True)
class PageEntry:
    """One page.

    Attributes:
        path: its address behind the dashboard's; empty for the first page.
        needs: the scopes of which the key must have one. The server decides anew at every question; this only keeps
            pages out of the navigation that could show nothing but a refusal.
        hidden: True keeps it out of the navigation: it is reached from another page.
    """

    path: str
    title: str
    icon: str
    show: Callable[[], None]
    needs: tuple[str, ...] = ("read",)
    hidden: bool = False


PAGES: tuple[PageEntry, ...] = (
    PageEntry("", "Quality", "finance", quality.show),
    PageEntry("review", "Review", "rate_review", review.show, needs=("annotate",)),
    PageEntry("review-queues", "Review queues", "fact_check", review_queues.show, needs=("review", "admin")),
    PageEntry("judges", "Judges", "balance", judges.show),
    PageEntry("team", "People", "group", team.show, needs=("admin",)),
    PageEntry("traces", "Traces", "forum", traces.show),
    PageEntry("feedback", "Feedback", "thumbs_up_down", feedback.show),
    PageEntry("failures", "Failures", "error", failures.show),
    PageEntry("compare", "Compare", "compare_arrows", compare.show),
    PageEntry("alerts", "Alerts", "notifications", alerts.show),
    PageEntry("datasets", "Datasets", "dataset", datasets.show),
    PageEntry("evaluations", "Evaluations", "labs", evaluations.show),
    PageEntry("prompts", "Prompts", "edit_note", prompts.show),
    PageEntry("experiments", "Experiments", "science", experiments.show),
    PageEntry("runs", "Runs", "model_training", runs.show),
    PageEntry("imports", "Imports", "move_to_inbox", imports.show),
    PageEntry("jobs", "Jobs", "hourglass_top", jobs.show, needs=("read", "train", "admin")),
    PageEntry("delivery", "Delivery", "local_shipping", delivery.show),
    PageEntry("keys", "Keys", "key", keys.show, needs=("admin",)),
    PageEntry("settings", "Settings", "settings", settings.show),
    PageEntry("trace", "Trace", "forum", trace.show, hidden=True),
    PageEntry("session", "Conversation", "forum", session.show, hidden=True),
    PageEntry("user", "User", "person", user.show, hidden=True),
    PageEntry("search", "Search", "search", search.show, hidden=True),
)
"""In the order of the navigation. An annotator's key (`annotate` alone) is shown the pages that need `annotate`."""


PATHS = tuple(entry.path for entry in PAGES)


def visible(session: Session) -> list[PageEntry]:
    """The pages that this key can use."""
    return [page for page in PAGES if any(session.can(scope) for scope in page.needs)]


def streamlit_pages(entries: Iterable[PageEntry]) -> dict[str, Any]:
    """As Streamlit takes them, by path; the bare address leads to the first one, wherever that stands."""
    made: dict[str, Any] = {}
    entries = list(entries)
    if entries and entries[0].path:
        first = Open(entries[0].path)
        entries.append(PageEntry("", "Start", "home", lambda: go(first), hidden=True))
    for entry in entries:
        made[entry.path] = st.Page(
            entry.show,
            title=entry.title,
            icon=f":material/{entry.icon}:",
            url_path=entry.path,
            default=not entry.path,
            visibility="hidden" if entry.hidden else "visible",
        )
    return made
