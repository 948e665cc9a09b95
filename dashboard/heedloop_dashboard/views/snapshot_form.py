"""Make a dataset of the answers of a view: its filters frozen as a snapshot."""

from __future__ import annotations

from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.schema import parse_time
from heedloop_dashboard import components, filters, panels, rules, words
from heedloop_dashboard.fetch import current, read_one, write
from heedloop_dashboard.navigation import Open, go


def show() -> None:
    """Draw the form for the URL's filters, which leads to the new dataset."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("New dataset", anchor=False, width="stretch")
        filters.period_and_model()
        components.links("up", [("All snapshots", Open("datasets"))], label="Datasets")
    if not current().can("train"):
        panels.empty("Your key can read datasets but not create them: that needs the scope train.")
        return
    chosen = filters.filters()
    counted = read_one(Client.quality_summary, **chosen)
    with panels.panel("view"):
        panels.header(
            "New dataset from this view", "The feedback on these answers, frozen as rows for training"
        )
        if panels.failed(counted):
            return
        found = counted.value
        said = f"{words.count(found.num_answers)} answers, {words.count(found.num_rated)} of them rated, "
        said += f"{words.plural(found.num_corrections, 'correction')}, {words.plural(found.num_comparisons, 'comparison')}"
        where = rules.filter_text({k: v for k, v in chosen.items() if k not in ("since", "until")})
        since, until = (words.clock(parse_time(chosen[n])) for n in ("since", "until"))
        st.text(said + (f"; {where}" if where else "") + f"; from {since} to {until} (UTC).")
        components.links(
            "see", [("Show them \u2192", Open("traces", filters.link_params()))], label="Answers", left=True
        )
        _form(chosen)


def _form(chosen: dict[str, Any]) -> None:
    with st.form("snapshot", border=False):
        name = st.text_input("Name", max_chars=200, placeholder="refund failures, November")
        if not st.form_submit_button("Create dataset", type="primary"):
            return
    if not name.strip():
        st.text("Give the dataset a name.")
        return
    answer = write(Client.create_snapshot, name.strip(), filters=chosen)
    if panels.failed(answer):
        return
    go(Open("datasets", {"snapshot_id": answer.value.id}))
