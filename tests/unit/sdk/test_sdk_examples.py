"""`heedloop.examples` in an app: what it gives, what it notes on the call, and a server that is away."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import heedloop
from heedloop import _guard, testing
from heedloop._example_cache import MAX_KEPT, PATH
from heedloop._transport import Response

FOUND: dict[str, Any] = {
    "num_candidates": 9,
    "examples": [
        {"question": q, "answer": a, "why": "liked", "score": 0.5, "trace_id": "1" * 32, "span_id": "2" * 16, "feedback_ids": [f]}
        for q, a, f in (("near?", "Near.", "f1"), ("far?", "Far.", "f2"))
    ],
}  # fmt: skip


@heedloop.trace
def answer(question: str) -> str:
    return heedloop.examples(question, k=2).as_text()


def test_they_are_given_and_noted_on_the_call() -> None:
    with testing.recording() as seen:
        seen.transport.documents[PATH] = FOUND
        assert answer("q?") == "Question: far?\nAnswer: Far.\n\nQuestion: near?\nAnswer: Near."
        (call,) = seen.answers
        assert call.attributes["heedloop.examples"] == ["f1", "f2"]
        assert call.attributes["heedloop.metadata.few_shot"] == "yes"
        roles = [m["role"] for m in heedloop.examples("q?", 2).as_messages()]
        assert roles == ["user", "assistant", "user", "assistant"]


def test_a_server_that_is_away_is_asked_once_and_nothing_raises(caplog) -> None:
    asked: list[str] = []
    _guard._last_said.clear()
    with testing.recording() as seen, caplog.at_level(logging.WARNING, "heedloop"):

        def post(path: str, body: bytes, **more: object) -> Response:
            if path != PATH:
                return Response("accepted", 200)
            asked.append(path)
            return Response("later", reason="nobody there")

        seen.transport.post = post  # type: ignore[method-assign]
        assert [len(heedloop.examples(f"q {i}?")) for i in range(5)] == [0] * 5
        assert len(asked) == 1
        assert len([r for r in caplog.records if "no examples" in r.message]) == 1
    assert heedloop.examples("q?") == ()  # heedloop is off
    for k in (0, 21, "3", 2.5, None):
        with pytest.raises(ValueError, match="k: "):
            heedloop.examples("q?", k)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_question_that_is_refused_takes_no_other_its_examples(status: int) -> None:
    """One user's text that the server does not want, or one call's wrong argument."""
    asked: list[bytes] = []
    _guard._last_said.clear()
    with testing.recording() as seen:

        def post(path: str, body: bytes, **more: object) -> Response:
            asked.append(body)
            return (
                Response("refused", status, "no") if b"odd" in body else Response("accepted", 200, body=FOUND)
            )

        seen.transport.post = post  # type: ignore[method-assign]
        assert [len(heedloop.examples(q)) for q in ("odd?", "even?", "odd?")] == [0, 2, 0]
        assert len(asked) == 2, "nor is it asked again at once"


def test_what_is_kept_is_bounded_and_what_leaves_is_redacted() -> None:
    bodies: list[bytes] = []
    with testing.recording(options=heedloop.Options(redact=heedloop.Redactor())) as seen:

        def post(path: str, body: bytes, **more: object) -> Response:
            if path == PATH:
                bodies.append(body)
            return Response("accepted", 200, body=FOUND)

        seen.transport.post = post  # type: ignore[method-assign]
        for _ in range(3):
            heedloop.examples("I am ada@example.com, why?")
        assert len(bodies) == 1 and b"ada@" not in bodies[0]
        for i in range(MAX_KEPT + 10):
            heedloop.examples(f"q {i}?")
        assert seen.runtime.examples is not None and len(seen.runtime.examples._known) == MAX_KEPT
