"""The script that Streamlit runs for every page: who you are, where you are, then the page itself."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from heedloop_dashboard import auto_refresh, navigation, pages, project_switch, saved_views
from heedloop_dashboard.fetch import current
from heedloop_dashboard.state import keep_view
from heedloop_dashboard.theme import palette
from heedloop_dashboard.views import search

ICON, LOGO = (str(Path(__file__).parent / name) for name in ("icon.svg", "logo.svg"))

# Streamlit's own spacing, tightened to the look of the pages; only our own words stand in here.
STYLE = """<style>
.stMainBlockContainer { max-width: 1240px; padding-top: 2.3rem; padding-bottom: 4rem; }
[data-testid="stHeader"] { background: transparent; height: 2.6rem; min-height: 2.6rem; pointer-events: none; }
[data-testid="stHeader"] button, [data-testid="stHeader"] a { pointer-events: auto; }
.hl-title { font-size: 1.04rem; font-weight: 600; margin: 0; padding: 0; line-height: 1.5; letter-spacing: 0; }
.hl-caption { font-size: .9rem; color: var(--hl-muted); margin: 1px 0 0; line-height: 1.45; }
[class*="st-key-"][class*="_switch"] button { padding: 2px 6px; min-height: 0; opacity: .6; }
[class*="st-key-"][class*="_switch"] button:hover, [class*="st-key-"][class*="_switch"] button:focus-visible { opacity: 1; }
[class*="st-key-"][class*="_switch"] button [data-testid="stMarkdownContainer"] { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
a.hl-out { color: var(--hl-muted) !important; text-decoration: none; font-size: .93rem; }
a.hl-out:hover { text-decoration: underline; }
button[data-selected="true"] p { color: var(--hl-primary); }
.st-key-project { max-width: 180px; font-weight: 600; }
.st-key-project [data-testid="stText"] { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.hl-muted { color: var(--hl-muted); }
.hl-account { display: flex; gap: 16px; }
.st-key-head { margin-top: -.9rem; margin-bottom: .2rem; padding-right: 2rem; }
.st-key-head_search { max-width: 430px; min-width: 170px; margin-right: auto; }
@media (max-width: 1100px) {
  [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"] [data-testid="stVegaLiteChart"]) { flex-wrap: wrap; }
  [data-testid="stColumn"]:has([data-testid="stVegaLiteChart"]) { min-width: min(100%, 280px); }
  [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]:nth-child(3) [data-testid="stSelectbox"]) { flex-wrap: wrap; }
  [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]:nth-child(3) [data-testid="stSelectbox"]) > [data-testid="stColumn"] { flex: 1 1 40%; min-width: 40%; }
}
@media (max-width: 640px) { .stMainBlockContainer { padding: 3.4rem 14px 3rem; } }
</style>"""


def main() -> None:
    """Draw the page that the URL names."""
    st.set_page_config(page_title="heedloop", page_icon=ICON, layout="wide")
    st.logo(LOGO, size="large", icon_image=ICON)
    colours = palette(st.context.theme.type)
    st.html(STYLE.replace("var(--hl-muted)", colours.muted).replace("var(--hl-primary)", colours.link))
    session = current()
    shown = pages.streamlit_pages(pages.visible(session))
    if not shown:
        st.text("This key may neither read nor annotate, so there is nothing to show.")
        st.stop()
    navigation.register(shown)
    page = st.navigation(list(shown.values()), expanded=True)
    keep_view(page.url_path)
    if session.can("read"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="head"):
            project_switch.choice(session)
            search.box()
            saved_views.menu(page.url_path)
            auto_refresh.switch()
    with st.sidebar:
        if not session.can("read"):  # an annotator's page has no head: every line of it is for the answers
            project_switch.choice(session)
        project_switch.account(session)
    page.run()


main()
