"""The annotator's page as one component: it runs in the browser and talks to `review_api` by itself.

It is not isolated in a shadow root as the others are, because a selection inside one cannot be read in every browser;
its styles all stand under `.rv` or begin with `rv-`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamlit.components import v2

from heedloop_dashboard.navigation import Open, go

__all__ = ["work"]

_HERE = Path(__file__).parent
_PARTS = ("text", "ranges", "questions", "compare", "saving", "keys", "page")


def _component() -> Any:
    scripts = ["shared.js", *(f"review_{part}.js" for part in _PARTS), "review.js"]
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
    result = _REVIEW(
        key=f"review_{queue or 'queues'}", data={"queue": queue, "who": who}, on_open_change=lambda: None
    )
    if result.open:
        go(Open(result.open["page"], result.open.get("params") or {}))
