"""A project with review queues: answers to judge, an annotator's key each, and what they said, read through the typed client."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dashboard_world as worlds
import requests
from dashboard_browser import START_S, signed_in_page
from playwright.sync_api import Browser, Page, expect

from heedloop.client import Client
from heedloop.responses import ReviewAssignment
from heedloop.schema import to_json

ANSWER = (
    "Thanks for reaching out 👩‍👩‍👧. Refunds are issued within 30 days of the return arriving at our warehouse. "
    "Your cafe\u0301 order came on 9 November, so the refund was sent yesterday."
)
THUMB = {"name": "thumb", "kind": "thumb", "title": "Your rating"}
WRONG = {
    "name": "wrong", "kind": "flags", "title": "What is wrong", "categories": ["Wrong fact", "Ignored policy", "Tone"],
    "severity": True, "required": False,
}  # fmt: skip
ACCURACY = {
    "name": "accuracy", "kind": "scale", "title": "Accuracy", "min": 1, "max": 5,
    "anchors": [
        {"value": 1, "label": "Wrong", "description": "Would mislead the customer."},
        {"value": 3, "label": "Mixed", "description": "Right in the main point."},
        {"value": 5, "label": "Right", "description": "Every statement holds."},
    ],
}  # fmt: skip
MARKS = {
    "name": "places",
    "kind": "ranges",
    "title": "Wrong places",
    "labels": ["Inaccurate", "Misleading"],
    "severity": True,
}
BETTER = {"name": "better", "kind": "correction", "title": "Better answer", "required": False}
NOTE = {"name": "note", "kind": "text", "title": "Note", "required": False}
ALL = [THUMB, WRONG, ACCURACY, MARKS, BETTER, NOTE]
GUIDELINE = {
    "text": "# Judge what the customer needs\n- Check every date against the policy.\n- A friendly answer that is wrong is bad.",
    "examples": [
        {"input": "Where is my refund?", "output": "On its way.", "verdict": "Bad", "why": "It says nothing."}
    ],
}


@dataclass
class Project:
    """A project of its own on a running server."""

    url: str
    key: str

    @property
    def api(self) -> Client:
        return Client(self.url, self.key)

    def annotator(self, name: str) -> str:
        """A key that may annotate and nothing else; its name is the author's id."""
        return self.api.create_key(name, ["annotate"]).key

    def answers(
        self, num: int, *, text: str = ANSWER, prefix: str = "a", **more: Any
    ) -> list[dict[str, str]]:
        """Stored answers with questions that differ; their targets, the newest first."""
        now = datetime.now(timezone.utc) - timedelta(minutes=3)
        spans, targets = [], []
        for i in range(num):
            trace, id = worlds.hexid(f"{prefix} trace {i}", 32), worlds.hexid(f"{prefix} span {i}", 16)
            chosen = {
                "question": f"Case {prefix}{i}: I returned the headphones and still have no refund. Order 88213.",
                "model": "large-2", "version": "v13", "topic": "refunds",
            } | more  # fmt: skip
            spans.append(
                worlds.answer_span(now - timedelta(seconds=i), trace=trace, id=id, answer=text, **chosen)
            )
            targets.append({"trace_id": trace, "span_id": id})
        before = self.api.ledger().stored
        worlds.post(self.url, self.key, spans)
        worlds.wait_until(lambda: self.api.ledger().stored >= before + num, "the answers are stored")
        return targets

    def queue(
        self, name: str, questions: list[dict[str, Any]], items: list[list[dict[str, str]]], **more: Any
    ) -> str:
        """A queue that holds these items; its id."""
        body = {"name": name, "questions": questions, **more}
        queue_id = str(self.api.review("POST", "queues", body)["queue_id"])
        added = self.api.review("POST", f"queues/{queue_id}/items", {"source": "targets", "items": items})
        assert added["added"] == len(items), added
        return queue_id

    def said(self, **filters: Any) -> list[dict[str, Any]]:
        """Stored feedback by annotators that was not taken back, as JSON."""
        found = self.api.iter_feedback(author_kind="annotator", **filters)
        return [to_json(f) for f in found if not f.retracted]


def project(server: tuple[str, str], name: str) -> Project:
    """A new, empty project."""
    return Project(server[0], Client(*server).create_project(name).key)


@contextmanager
def signed_in_as(browser: Browser, dashboard: str, key: str, **options: Any) -> Iterator[Page]:
    """A page in a browser context of its own for one person."""
    chosen: dict[str, Any] = {
        "viewport": {"width": 1366, "height": 768},
        "reduced_motion": "reduce",
        **options,
    }
    with signed_in_page(browser, dashboard, key, **chosen) as page:
        page.set_default_timeout(60_000)
        yield page


def open_queue(page: Page, dashboard: str, queue_id: str) -> None:
    """Go to the queue and wait for an answer."""
    page.goto(f"{dashboard}/review?queue={queue_id}")
    expect(page.locator(".rv[data-assignment]")).to_be_visible()


def current(page: Page) -> str | None:
    """The id of the assignment on screen."""
    return page.locator(".rv").get_attribute("data-assignment")


def save(page: Page) -> None:
    """Ctrl+Enter, and wait until another answer, or the end, stands there."""
    before = current(page)
    page.keyboard.press("Control+Enter")
    page.wait_for_function("(id) => document.querySelector('.rv').dataset.assignment !== id", arg=before)


def all_saved(page: Page) -> None:
    """Wait until the server has everything."""
    expect(page.locator(".rv-state")).to_have_text("Saved", timeout=40_000)


class Server:
    """A server that a test may kill: same folder, same port, started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.url = f"http://127.0.0.1:{port}"
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "heedloop_cli.main", "serve", "--port", str(self.port), "--data", str(self.folder / "data"),
            "--key-file", str(self.folder / "key"),
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.child = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            worlds.wait_until(self._is_ready, "the server is ready", timeout_s=START_S)
        except AssertionError:
            self.kill()
            raise

    def _is_ready(self) -> bool:
        assert self.child is not None and self.child.poll() is None, (self.folder / "log").read_text()
        try:
            return requests.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except requests.RequestException:
            return False

    def kill(self) -> None:
        """As a power cut would."""
        assert self.child is not None
        self.child.kill()
        self.child.wait()

    @property
    def key(self) -> str:
        return (self.folder / "key").read_text(encoding="utf-8").strip()


def judge_all(
    url: str, key: str, queue_id: str, answers: Callable[[ReviewAssignment], dict[str, Any]], num: int = 1000
) -> int:
    """Judge up to `num` items over REST, as another tool would; how many were left to judge."""
    client, done = Client(url, key), 0
    while done < num:
        found = client.next_assignments(queue_id).assignments
        if not found:
            break
        client.submit_judgement(found[0].assignment_id, answers(found[0]), duration_ms=9000)
        done += 1
    return done
