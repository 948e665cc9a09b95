"""The one callable from captured bodies to call records, with the contract of the captures' scorer (docs/normalise.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from heedloop.schema import Call, to_json
from heedloop_server.ingest.otlp import Encoding, decompress, encoding_of, parse_logs, parse_traces
from heedloop_server.normalise import LogContent, normalise_logs, normalise_request
from heedloop_server.normalise.joins import join

Body = tuple[str, Mapping[str, str], bytes]
_MAX_BYTES = 256 << 20


def records(bodies: Iterable[Body]) -> list[dict[str, Any]]:
    """One record per LLM or embedding call in the bodies.

    Args:
        bodies: (signal, headers with lower-case names, body as received), in any order; other signals than `traces` and
            `logs` are left out.

    Returns:
        `Call`s as JSON-ready dictionaries, provider calls that came as several spans once.
    """
    calls, contents = _received(bodies)
    return [to_json(c) for c in join(calls, (), contents) if c.operation]


def _received(bodies: Iterable[Body]) -> tuple[list[Call], list[LogContent]]:
    calls: list[Call] = []
    contents: list[LogContent] = []
    for signal, headers, body in bodies:
        if signal == "traces":
            calls += normalise_request(parse_traces(*_plain(headers, body)))
        elif signal == "logs":
            found = normalise_logs(parse_logs(*_plain(headers, body)))
            contents += [c for c in found if isinstance(c, LogContent)]
    return calls, contents


def _plain(headers: Mapping[str, str], body: bytes) -> tuple[bytes, Encoding]:
    plain = decompress(body, headers.get("content-encoding", ""), limit=_MAX_BYTES)
    return plain, encoding_of(headers.get("content-type", ""))
