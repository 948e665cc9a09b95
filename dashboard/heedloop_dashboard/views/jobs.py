"""Jobs: long work of the server, how far it is, what it made, and cancelling one."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Job
from heedloop_dashboard import lists, panels, words
from heedloop_dashboard.fetch import ask, read, write
from heedloop_dashboard.navigation import Open


def show() -> None:
    """Draw what runs, each with its bar and a button that cancels it, and the list of all."""
    st.subheader("Jobs", anchor=False)
    answer = read(all=ask(Client.jobs))["all"]
    running = [j for j in answer.value or () if not j.is_over]
    if running:
        with panels.panel("running"):
            panels.header(
                "Running", "Started again where their server ends; cancelled, nothing of them is kept"
            )
            for job in running:
                _running(job)
    lists.panel(
        "jobs",
        "Jobs, newest first",
        "Snapshots, queue fills, clusters, erasures, undone imports, backups and exports of 90 days",
        answer,
        COLUMNS,
        empty_text="No jobs yet. A snapshot, an export or a queue's filling is one.",
        open=_made,
        row_key=lambda j: j.id,
    )


def _running(job: Job) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        share = min(1.0, job.done / job.total) if job.total else 0.0
        st.progress(share, text=f"{_name(job)} by {job.started_by}: {_progress(job)}", width="stretch")
        if job.can_cancel and st.button("Cancel", key=f"cancel_{job.id}"):
            if panels.failed(write(Client.cancel_job, job.id)):
                return
            st.rerun()


def _name(job: Job) -> str:
    return job.kind.replace("_", " ").capitalize()


def _progress(job: Job) -> str:
    """How far a job is: its state, what is done of what, and the time left where that is known."""
    if job.error:
        return job.error
    parts = [job.state] if not job.is_over else []
    if job.done or job.total:
        whole = f" of {words.count(job.total)}" if job.total else ""
        parts.append(f"{words.count(job.done)}{whole} {job.unit}")
    if job.left_s is not None:
        parts.append(f"{words.duration(job.left_s * 1e9)} left")
    return ", ".join(parts)


def _took(job: Job) -> str:
    if job.started_at is None or job.ended_at is None:
        return ""
    return words.duration((job.ended_at - job.started_at).total_seconds() * 1e9)


def _made(job: Job) -> Open | None:
    """Where the dashboard shows what a job made."""
    path = job.result.path if job.result else None
    if job.kind == "snapshot" and path:
        return Open("datasets", {"snapshot_id": path.rsplit("/", 1)[1]})
    pages = {"queue_fill": "review-queues", "clusters": "failures", "import_undo": "imports"}
    return Open(pages[job.kind]) if job.state == "done" and job.kind in pages else None


COLUMNS: Sequence[lists.Column[Job]] = (
    lists.Column("Kind", _name),
    lists.Column("Started", lambda j: words.clock(j.created_at)),
    lists.Column("By", lambda j: j.started_by),
    lists.Column("State", lambda j: j.state),
    lists.Column("Took", _took, "number"),
    lists.Column("Progress", _progress, "wide"),
    lists.Column("Job id", lambda j: j.id, "mono"),
)
