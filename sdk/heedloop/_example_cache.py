"""Examples that the server gave lately, and whether it is away."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from heedloop._guard import warn
from heedloop._transport import Transport
from heedloop.schema import SchemaError, from_json
from heedloop.schema._example import AnswerExample

PATH = "/v1/examples"
KEPT_S = 20.0
"""How long a response is used again: what was erased or retracted on the server is not used longer."""
MAX_KEPT = 256
AWAY_S = 10.0
"""After a failed request no other is tried for so long, so that answers do not wait for a server that is away."""


WRONG_REQUEST = (400, 413, 422)
"""The server does not want this question or these arguments; others are asked as before."""


class Examples(tuple[AnswerExample, ...]):
    """Examples, the most alike first."""

    __slots__ = ()

    def as_messages(self) -> list[dict[str, str]]:
        """Turns of a conversation to put before the question: `{"role", "content"}`, user and assistant in turn.

        The most alike is last, next to the question.
        """
        return [
            {"role": role, "content": text}
            for example in reversed(self)
            for role, text in (("user", example.question), ("assistant", example.answer))
        ]

    def as_text(self, *, question: str = "Question", answer: str = "Answer") -> str:
        """The same as one text for a prompt, each part behind its word; empty where there are none."""
        return "\n\n".join(f"{question}: {e.question}\n{answer}: {e.answer}" for e in reversed(self))


class ExampleCache:
    """What was found lately, and whether the server is away; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[float, Examples]] = OrderedDict()
        self._away_until = 0.0

    def find(self, transport: Transport, wanted: Mapping[str, Any], timeout_s: float) -> Examples:
        """The examples of a request; none, with a warning once a minute, where the server gives none in time."""
        body = json.dumps(wanted, sort_keys=True).encode()
        now = time.monotonic()
        with self._lock:
            kept = self._known.get(body)
            if kept is not None and now - kept[0] < KEPT_S:
                return kept[1]
            if now < self._away_until:
                return Examples()
        response = transport.post(PATH, body, content_type="application/json", timeout_s=timeout_s)
        if response.verdict != "accepted":
            warn("examples", f"no examples, answers are made without: {response.reason}")
        if response.verdict != "accepted" and response.status not in WRONG_REQUEST:
            with self._lock:
                self._away_until = time.monotonic() + AWAY_S
            return Examples()
        found = _read(response.body) if response.verdict == "accepted" else Examples()
        with self._lock:
            self._known[body] = (now, found)
            while len(self._known) > MAX_KEPT:
                self._known.popitem(last=False)
        return found


def _read(body: Any) -> Examples:
    try:
        return Examples(from_json(AnswerExample, e, strict=False) for e in body["examples"])
    except (KeyError, TypeError, SchemaError):
        warn("examples", "no examples, answers are made without: the response is none of this version")
        return Examples()
