"""Where a click leads: pages by their path, with their query. The query holds the page's whole state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlencode

import streamlit as st

_PAGES = "heedloop_pages"


@dataclass(frozen=True, slots=True)
class Open:
    """A page of the dashboard and its query: texts, or lists of texts where a parameter is repeated."""

    page: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """As components take it."""
        return {"page": self.page, "params": dict(self.params)}


def register(pages: Mapping[str, object]) -> None:
    """Remember this session's pages by path, so that `go` finds them."""
    st.session_state[_PAGES] = dict(pages)


def go(target: Open) -> NoReturn:
    """Show another page; an unknown one leads to the first."""
    pages = st.session_state[_PAGES]
    page = pages.get(target.page) or next(iter(pages.values()))
    # a repeated name must come as one list: of pairs Streamlit keeps the last
    query = {k: [one for name, one in _pairs(target) if name == k] for k, _ in _pairs(target)}
    st.switch_page(page, query_params=query)


def start_over() -> NoReturn:
    """Show the first page, with nothing left of what was chosen or drawn before."""
    pages = st.session_state[_PAGES]
    st.session_state.clear()
    register(pages)
    go(Open(""))


def _pairs(target: Open) -> list[tuple[str, str]]:
    pairs = [(k, v) for k, v in target.params.items() if v is not None]
    return [(k, str(one)) for k, v in pairs for one in (v if isinstance(v, (list, tuple)) else [v])]


def href(target: Open) -> str:
    """A relative link."""
    query = urlencode(_pairs(target))
    return f"./{target.page}{'?' + query if query else ''}"
