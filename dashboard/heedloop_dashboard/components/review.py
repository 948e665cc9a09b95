"""The annotator's page as one component: it runs in the browser and talks to `review_api` by itself.

It is not isolated in a shadow root as the others are, because a selection inside one cannot be read in every browser;
its styles all stand under `.rv` or begin with `rv-`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamlit.components import v2

from heedloop_dashboard.navigation import Open, go

_HERE = Path(__file__).parent
_PARTS = (
    "shared", "review_text", "review_markdown", "review_ranges", "review_questions", "review_compare", "review_saving", "review_keys",
    "review_page", "review_views", "review", "review_settle", "review_mount",
)  # fmt: skip
"""In this order: each uses what stands before it."""


def _component() -> Any:
    scripts = [f"{part}.js" for part in _PARTS]
    styles = ["base.css", "review.css", "review_questions.css"]
    code, style = (
        "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names) for names in (scripts, styles)
    )
    return v2.component("heedloop_review", js=code, css=style, isolate_styles=False)


_REVIEW = _component()


def work(queue: str | None, *, who: str) -> None:
    """The list of queues, or the work in one.

    Args:
        who: names the person to this browser's storage, so that two people on one computer keep apart.
    """
    _show(f"review_{queue or 'queues'}", {"queue": queue, "who": who})


def adjudicate(queue: str, item: str, *, who: str, admin: bool) -> None:
    """One item with everybody's judgements, and the reviewer's word over them; an admin may make it gold."""
    _show(f"settle_{item}", {"queue": queue, "item": item, "who": who, "admin": admin})


def _show(key: str, data: dict[str, str | bool | None]) -> None:
    result = _REVIEW(key=key, data=data, on_open_change=lambda: None)
    if result.open:
        go(Open(result.open["page"], result.open.get("params") or {}))
