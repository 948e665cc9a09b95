"""A queue's judgements as another tool's file, and judgements that were made in another tool."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from heedloop.client import Client, ReviewFormat
from heedloop.responses import ImportedJudgements, Queue
from heedloop_dashboard import components, panels, words
from heedloop_dashboard.fetch import current, write
from heedloop_dashboard.navigation import Open

FORMATS: dict[ReviewFormat, str] = {
    "jsonl": "JSON Lines",
    "label_studio": "Label Studio",
    "argilla": "Argilla",
}
_SHOWN = 50
_TAKEN = "heedloop_judgements_taken"
_NUM_TAKEN = "heedloop_judgements_taken_num"


def show(queue: Queue) -> None:
    """Draw both ways; taking judgements in is for admins."""
    taken = st.session_state.pop(_TAKEN, None)
    if taken is not None:
        _show_import(queue, taken)
    with panels.panel("export"):
        panels.header("Export to another tool", "All answers with all judgements")
        _export(queue)
    if current().can("admin"):
        with panels.panel("import"):
            panels.header(
                "Import from another tool",
                "Annotators and times are kept. Importing the same file again changes nothing",
            )
            _import(queue)


def _format(key: str) -> ReviewFormat:
    return st.selectbox("Format", list(FORMATS), format_func=lambda f: FORMATS[f], key=key, width=260)


def _export(queue: Queue) -> None:
    chosen = _format("exchange_export")
    hidden = st.checkbox(
        "Pseudonyms instead of annotators' names", help="Stable within a queue; identities stay hidden"
    )
    predictions = chosen != "jsonl" and st.checkbox(
        "As predictions", help="For tools whose users are not the annotators"
    )
    client, queue_id = current().client, queue.queue_id
    ending = "jsonl" if chosen == "jsonl" else "json"
    st.download_button(
        "Export with pseudonyms" if hidden else "Export with names",
        data=lambda: b"".join(
            client.export_review(queue_id, fmt=chosen, pseudonyms=hidden, as_predictions=predictions)
        ),
        file_name=f"heedloop-review-{queue_id}.{ending}",
        mime="application/octet-stream",
        on_click="ignore",
        icon=":material/download:",
    )
    if chosen != "jsonl":
        _settings(chosen, queue_id)


def _settings(chosen: Literal["label_studio", "argilla"], queue_id: str) -> None:
    """What the tool's project has to be made with before the file fits it."""
    client = current().client
    st.download_button(
        "Labelling configuration" if chosen == "label_studio" else "Dataset settings",
        data=lambda: client.review_settings(queue_id, fmt=chosen),
        file_name="labelling-config.xml" if chosen == "label_studio" else "settings.json",
        mime="application/octet-stream",
        on_click="ignore",
        icon=":material/download:",
        help="Create the tool's project with it so that the export fits",
    )


def _import(queue: Queue) -> None:
    chosen = _format("exchange_import")
    taken = st.session_state.get(_NUM_TAKEN, 0)
    # another key after each import: the uploader is empty again
    file = st.file_uploader("File", type=["json", "jsonl", "ndjson"], key=f"exchange_file_{taken}")
    # not a form: its button can be pressed while a file that was chosen is still on its way, and then gets none
    if not st.button("Import", type="primary", disabled=file is None) or file is None:
        return
    try:
        answer = write(Client.import_review, queue.queue_id, file.getvalue(), fmt=chosen)
    except ValueError as err:
        st.text(str(err))
        return
    if panels.failed(answer):
        return
    st.session_state[_TAKEN] = answer.value
    st.session_state[_NUM_TAKEN] = taken + 1
    st.rerun()


def _show_import(queue: Queue, done: ImportedJudgements) -> None:
    refused = [(r.annotator, r.error) for r in done.results if r.error is not None]
    components.finding(
        "imported",
        lead=words.plural(done.stored, "judgement"),
        text=f" stored; {done.duplicate:,} already there, {len(refused):,} refused.",
        tone="bad" if refused else "good",
        action="See them",
        open=Open("review-queues", {"queue": queue.queue_id}),
    )
    if not refused:
        return
    heads = [
        {"key": "where", "label": "Entry", "kind": "mono"},
        {"key": "who", "label": "Annotator", "kind": ""},
        {"key": "why", "label": "Reason", "kind": "wrap"},
    ]
    rows = [{"cells": [error.field, who, error.message]} for who, error in refused[:_SHOWN]]
    with panels.panel("refused"):
        panels.header("Refused", f"{min(len(refused), _SHOWN):,} of {len(refused):,}")
        components.table("refused_rows", heads, rows, caption="Refused judgements", link=-1)
