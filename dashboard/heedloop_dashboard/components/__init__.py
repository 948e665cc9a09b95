"""Our own parts of a page: cards, tables, conversations, differences, span trees.

Each is a JavaScript file that builds its nodes with `textContent` only, so that a prompt or an answer can never become
markup, a link or an image. Data goes in as JSON; a click on something inside the dashboard comes back as `open`, a page
with its query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamlit.components import v2

from heedloop_dashboard.navigation import Open, go

__all__ = [
    "cards",
    "chips",
    "clusters",
    "conversation",
    "diff",
    "feedback",
    "finding",
    "lineage",
    "links",
    "table",
    "tree",
]

_HERE = Path(__file__).parent


def _component(name: str) -> Any:
    code = "\n".join((_HERE / part).read_text(encoding="utf-8") for part in ("shared.js", f"{name}.js"))
    style = "\n".join((_HERE / part).read_text(encoding="utf-8") for part in ("base.css", f"{name}.css"))
    return v2.component(f"heedloop_{name}", js=code, css=style)


_CARDS = _component("cards")
_TABLE = _component("table")
_CONVERSATION = _component("conversation")
_DIFF = _component("diff")
_TREE = _component("tree")
_FINDING = _component("finding")
_FEEDBACK = _component("feedback")
_LINEAGE = _component("lineage")
_LINKS = _component("links")
_CHIPS = _component("chips")
_CLUSTERS = _component("clusters")


def _show(component: Any, key: str, data: dict[str, Any], *, height: Any = "content") -> None:
    result = component(key=key, data=data, height=height, on_open_change=_nothing)
    if result.open:
        go(Open(result.open["page"], result.open.get("params") or {}))


def _nothing() -> None:
    """Streamlit reports a trigger only where a callback is named for it."""


def cards(key: str, entries: list[dict[str, Any]]) -> None:
    """A row of figures: `key, label, value, delta, tone (good, bad or empty), note, help, points, open`."""
    _show(_CARDS, key, {"cards": entries})


def table(
    key: str,
    columns: list[dict[str, str]],
    rows: list[dict[str, Any]],
    *,
    caption: str,
    link: int = 0,
    tall: bool = False,
    plain: bool = False,
) -> None:
    """Rows of plain text.

    Args:
        columns: `key`, `label` and `kind` (empty, `number`, `mono`, `wide`, `thumb`).
        rows: `cells` in the columns' order, `open` (where a click leads), `opens` (the same per column key), `key`.
        caption: what the table holds, for screen readers.
        link: index of the column whose text is the row's link.
        tall: True lets a long table scroll inside its panel.
        plain: True shows no frame and no headings, for names and values.
    """
    _show(
        _TABLE,
        key,
        {"columns": columns, "rows": rows, "caption": caption, "link": link, "tall": tall, "plain": plain},
    )


def conversation(
    key: str,
    messages: list[dict[str, Any]],
    *,
    error: str | None = None,
    payloads: Sequence[Mapping[str, str]] = (),
) -> None:
    """A span's content: its error first, what it was given and gave back, its messages as bubbles.

    Args:
        messages: `role, text, reasoning, tool_calls, media, marks` (ranges with `start, end, label, severity`), `note`.
        payloads: `title` and `text`.
    """
    _show(_CONVERSATION, key, {"messages": messages, "error": error, "payloads": list(payloads)})


def diff(key: str, pieces: list[dict[str, str]], *, label: str) -> None:
    """A correction: pieces of `text` with `op` `same`, `gone` or `new`."""
    _show(_DIFF, key, {"pieces": pieces, "label": label})


def tree(key: str, spans: list[dict[str, Any]], *, selected: str, open: Open) -> None:
    """Spans as a tree with a waterfall.

    Args:
        spans: `span_id, name, depth, start, width (shares of the trace), duration, status, error, attempt`.
        open: the page of a span; its `span_id` is added.
    """
    _show(_TREE, key, {"spans": spans, "selected": selected, "open": open.to_json()})


def finding(
    key: str, *, lead: str, text: str, tone: str, action: str | None = None, open: Open | None = None
) -> None:
    """One sentence about what changed, with a button to the answers behind it."""
    target = None if open is None else {"page": open.page, "params": open.params}
    _show(_FINDING, key, {"lead": lead, "text": text, "tone": tone, "action": action, "open": target})


def feedback(key: str, entries: list[dict[str, Any]]) -> None:
    """Judgements: `title, tone, who, when, text, quote, id, open, retracted, current`."""
    _show(_FEEDBACK, key, {"entries": entries})


def lineage(key: str, steps: list[dict[str, Any]]) -> None:
    """What became of what, as a chain of ids: `kind`, `entries` (`id`, `about`, `open`), `here`, `none`."""
    _show(_LINEAGE, key, {"steps": steps})


def links(
    key: str,
    entries: Sequence[tuple[str, Open | None] | dict[str, Any]],
    *,
    label: str,
    left: bool = False,
    framed: bool = False,
) -> None:
    """Links inside the dashboard; one without a target is shown as not available; `framed` ones look like buttons."""
    shown = [e if isinstance(e, dict) else {"label": e[0], "open": e[1] and e[1].to_json()} for e in entries]
    side = ("left" if left else "") + (" framed" if framed else "")
    _show(_LINKS, key, {"links": shown, "label": label, "side": side})


def chips(key: str, entries: list[tuple[str, Open]]) -> None:
    """Filters in force; a link takes one away."""
    _show(_CHIPS, key, {"chips": [{"label": text, "open": target.to_json()} for text, target in entries]})


def clusters(key: str, entries: list[dict[str, Any]]) -> None:
    """Groups of answers: `id, name, count, share, about, words, examples (text, comment, note, open), open, actions`."""
    _show(_CLUSTERS, key, {"clusters": entries})
