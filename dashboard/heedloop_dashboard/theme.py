"""Colours and type of every page, and the palette that charts take theirs from. Both themes hold WCAG AA contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

FONT = "Inter, system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Palette:
    """What a chart needs to know about the theme; colours as CSS hex."""

    text: str
    muted: str
    grid: str
    background: str
    primary: str
    link: str
    bar: str
    bad: str
    good: str
    faint: str


LIGHT = Palette(
    text="#111827",
    muted="#5f6b7a",
    grid="#e8eaee",
    background="#ffffff",
    primary="#2563eb",
    link="#1f5ae0",
    bar="#8393ab",
    bad="#c2410c",
    good="#047857",
    faint="#c3cad5",
)
DARK = Palette(
    text="#e6e8ec",
    muted="#a3acba",
    grid="#252b35",
    background="#0e1117",
    primary="#5b94f8",
    link="#7aa8fa",
    bar="#8393ab",
    bad="#f0743e",
    good="#4ade9b",
    faint="#4a5361",
)


def palette(kind: str | None) -> Palette:
    """The palette of Streamlit's theme type, `light` or `dark`."""
    return DARK if kind == "dark" else LIGHT


def streamlit_options() -> dict[str, Any]:
    """The theme as Streamlit configuration options."""
    options: dict[str, Any] = {
        "theme.font": FONT,
        "theme.headingFont": FONT,
        "theme.baseFontSize": 14,
        "theme.baseRadius": "8px",
        "theme.buttonRadius": "8px",
        "theme.headingFontSizes": ["20px", "18px", "16px", "14.5px", "14px", "13px"],
        "theme.headingFontWeights": [650, 650, 600, 600, 600, 600],
        "theme.showWidgetBorder": True,
        "theme.showSidebarBorder": True,
        "theme.linkUnderline": False,
    }
    options |= _section("light", LIGHT, secondary="#f5f6f8", sidebar="#f6f7f9", border="#e3e6ea")
    options |= _section("dark", DARK, secondary="#171c25", sidebar="#141922", border="#2a313c")
    return options


def _section(
    name: Literal["light", "dark"], colours: Palette, *, secondary: str, sidebar: str, border: str
) -> dict[str, Any]:
    return {
        # a filled button's: its white words need a darker blue than a line in a chart
        f"theme.{name}.primaryColor": "#1f5ae0" if name == "light" else "#2f6ce0",
        f"theme.{name}.backgroundColor": colours.background,
        f"theme.{name}.secondaryBackgroundColor": secondary,
        f"theme.{name}.textColor": colours.text,
        f"theme.{name}.linkColor": colours.link,
        f"theme.{name}.borderColor": border,
        f"theme.{name}.grayTextColor": colours.muted,
        f"theme.{name}.redTextColor": "#b42318" if name == "light" else "#ff9a8b",
        f"theme.{name}.greenTextColor": colours.good,
        f"theme.{name}.sidebar.backgroundColor": sidebar,
        f"theme.{name}.sidebar.borderColor": border,
    }
