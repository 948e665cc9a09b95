"""What holds for the project: how long calls are kept, prices of models whose spans bring no cost, where feedback is pushed."""

from __future__ import annotations

from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Project
from heedloop_dashboard import panels, words
from heedloop_dashboard.fetch import current, read_one, write

_SAVED = "heedloop_settings_saved"
_SIGNED_WITH = "heedloop_webhook_signed_with"


def show() -> None:
    """Draw the settings; keys without the scope admin see them as they are."""
    st.subheader("Project settings", anchor=False)
    answer = read_one(Client.project)
    if panels.failed(answer):
        return
    found = answer.value
    if st.session_state.pop(_SAVED, False):
        st.text("Saved.")
    with panels.panel("project"):
        panels.header(found.project, f"Created {words.clock(found.created_at)} UTC")
        _retention(found)
    with panels.panel("prices"):
        panels.header("Prices", "US dollars per million tokens, for models whose spans carry no cost")
        _prices(found)
    with panels.panel("webhook"):
        panels.header("Feedback webhook", "Every new feedback is sent to this address, signed")
        _webhook(found)


def _webhook(found: Project) -> None:
    hook, admin = found.feedback_webhook, current().can("admin")
    if secret := st.session_state.pop(_SIGNED_WITH, None):
        st.text("The secret that signs it, shown this once:")
        st.code(secret, language=None)
    url = st.text_input(
        "Address (empty: none)", hook.url if hook else "", disabled=not admin, key="webhook_url"
    )
    imports = st.checkbox(
        "Send imported feedback too, one request each", bool(hook and hook.imports), disabled=not admin, key="webhook_imports"
    )  # fmt: skip
    if hook:
        st.text(f"{hook.num_waiting:,} waiting, {hook.num_failed:,} failed")
    if hook and hook.last_error:
        st.text(f"Last error: {hook.last_error}")
    if admin and st.button("Save webhook", key="save_webhook"):
        _save(feedback_webhook={"url": url.strip(), "imports": imports} if url.strip() else None)


def _retention(found: Project) -> None:
    admin = current().can("admin")
    days = st.number_input(
        "Days until calls without feedback are dropped (0: never)", 0, 36_500, found.retention_days, disabled=not admin
    )  # fmt: skip
    if admin and st.button("Save", key="save_retention", disabled=days == found.retention_days):
        _save(retention_days=int(days))


def _prices(found: Project) -> None:
    rows = [
        {"model": m, "input": p["input"], "output": p["output"], "cached_input": p.get("cached_input")}
        for m, p in sorted(found.prices.items())
    ]
    edited = st.data_editor(
        rows or [{"model": "", "input": None, "output": None, "cached_input": None}],
        num_rows="dynamic",
        disabled=not current().can("admin"),
        key="prices_table",
        column_config={
            "model": st.column_config.TextColumn("Model", help="As answers name it, such as gpt-5-mini"),
            "input": st.column_config.NumberColumn("Input", min_value=0.0, format="%.4g"),
            "output": st.column_config.NumberColumn("Output", min_value=0.0, format="%.4g"),
            "cached_input": st.column_config.NumberColumn(
                "Cached input", help="Empty: as input", min_value=0.0, format="%.4g"
            ),
        },
    )
    if not current().can("admin") or not st.button("Save prices", type="primary", key="save_prices"):
        return
    try:
        prices = prices_of(edited)
    except ValueError as err:
        st.text(str(err))
        return
    _save(prices=prices)


def prices_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Rows of the table as the API takes them; rows without a model are left out.

    Raises:
        ValueError: a price is missing, in words.
    """
    prices: dict[str, dict[str, float]] = {}
    for row in rows:
        model = str(row.get("model") or "").strip()
        given = {n: row[n] for n in ("input", "output", "cached_input") if row.get(n) is not None}
        if not model:
            continue
        if not {"input", "output"} <= given.keys():
            raise ValueError(f"{model[:80]} needs a price for input and for output; 0 is one.")
        prices[model] = {n: float(v) for n, v in given.items()}
    return prices


def _save(**changes: Any) -> None:
    answer = write(Client.update_project, **changes)
    if panels.failed(answer):
        return
    st.session_state[_SAVED] = True
    st.session_state[_SIGNED_WITH] = answer.value.webhook_secret
    st.rerun()
