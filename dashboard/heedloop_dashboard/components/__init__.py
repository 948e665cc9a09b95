"""Our own parts of a page: cards, tables, conversations, differences, span trees.

Each is a JavaScript file that builds its nodes with `textContent` only, so that a prompt or an answer can never become
markup, a link or an image. Data goes in as JSON; a click on something inside the dashboard comes back as `open`, a page
with its query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from streamlit.components import v2

from heedloop_dashboard.navigation import Open, go

__all__ = [
    "Card",
    "cards",
    "chips",
    "clusters",
    "columns",
    "conversation",
    "diff",
    "feedback",
    "finding",
    "hits",
    "lineage",
    "links",
    "table",
    "timeline",
    "tree",
]

_HERE = Path(__file__).parent


def _component(name: str, *more: str) -> Any:
    scripts = ("shared.js", *(f"{other}.js" for other in more), f"{name}.js")
    code = "\n".join((_HERE / part).read_text(encoding="utf-8") for part in scripts)
    style = "\n".join((_HERE / part).read_text(encoding="utf-8") for part in ("base.css", f"{name}.css"))
    return v2.component(f"heedloop_{name}", js=code, css=style)


_CARDS = _component("cards")
_TABLE = _component("table")
_CONVERSATION = _component("conversation", "review_markdown")
_DIFF = _component("diff")
_TREE = _component("tree")
_FINDING = _component("finding")
_FEEDBACK = _component("feedback")
_LINEAGE = _component("lineage")
_LINKS = _component("links")
_CHIPS = _component("chips")
_CLUSTERS = _component("clusters")
_TIMELINE = _component("timeline")
_HITS = _component("hits")


def _show(component: Any, key: str, data: dict[str, Any], *, height: Any = "content") -> Any:
    result = component(key=key, data=data, height=height, on_open_change=_nothing, on_act_change=_nothing)
    if result.open:
        go(Open(result.open["page"], result.open.get("params") or {}))
    return result.act


def _nothing() -> None:
    """Streamlit reports a trigger only where a callback is named for it."""


@dataclass(frozen=True, slots=True)
class Card:
    """One figure of a row.

    Attributes:
        key: what a test or a script finds it by.
        delta: how it changed, coloured by `tone`.
        points: of the line under it; None leaves a gap.
        open: where it leads.
    """

    key: str
    label: str
    value: str
    note: str = ""
    help: str = ""
    delta: str | None = None
    tone: Literal["", "good", "bad"] = ""
    points: Sequence[float | None] | None = None
    open: Open | None = None


def cards(key: str, entries: Sequence[Card]) -> None:
    """A row of figures."""
    _show(_CARDS, key, {"cards": [asdict(c) | {"open": c.open and c.open.to_json()} for c in entries]})


def columns(texts: Sequence[str], numbers: Sequence[str]) -> list[dict[str, Any]]:
    """The columns of a table: those of texts, then those of numbers, each with its label as its key."""
    kinds = [(label, "") for label in texts] + [(label, "number") for label in numbers]
    return [{"key": label, "label": label, "kind": kind} for label, kind in kinds]


def table(
    key: str,
    columns: Sequence[Mapping[str, Any]],
    rows: list[dict[str, Any]],
    *,
    caption: str,
    link: int = 0,
    tall: bool = False,
    plain: bool = False,
    actions: Sequence[Mapping[str, str]] = (),
) -> Mapping[str, Any] | None:
    """Rows of plain text; returns what was just chosen to be done with rows, as `action` and `keys`.

    Args:
        columns: `key`, `label` and `kind` (empty, `number`, `mono`, `wide`, `thumb`); of one that sorts the list also
            `open` (the list sorted so) and `sorted` (`ascending` or `descending`, where it is).
        rows: `cells` in the columns' order, `open` (where a click leads), `opens` (the same per column key), `key`.
        actions: `key` and `label` of what can be done with rows, each of which then has `pick`, its own key.
        caption: what the table holds, for screen readers.
        link: index of the column whose text is the row's link.
        tall: True lets a long table scroll inside its panel.
        plain: True shows no frame and no headings, for names and values.
    """
    data = {"columns": columns, "rows": rows, "caption": caption, "link": link, "tall": tall, "plain": plain}
    return _show(_TABLE, key, {**data, "actions": list(actions)})


def conversation(
    key: str,
    messages: list[dict[str, Any]],
    *,
    error: str | None = None,
    payloads: Sequence[Mapping[str, str]] = (),
) -> None:
    """A span's content: its error first, what it was given and gave back, its messages as bubbles.

    Args:
        messages: `role, text, reasoning, tool_calls, media, images` (data URIs), `marks` (ranges with `start, end, label, severity`), `note`, `open`,
            `error`, `feedback` (as the component of that name).
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


def timeline(key: str, data: dict[str, Any]) -> None:
    """Small charts on one time axis, as `charts.timelines` makes them."""
    _show(_TIMELINE, key, data)


def hits(key: str, entries: list[dict[str, Any]]) -> None:
    """Found texts: `where, about, thumb (up, down or empty), text, marks (ranges of code points), open`."""
    _show(_HITS, key, {"hits": entries})
