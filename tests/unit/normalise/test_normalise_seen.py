"""Clients that once were read wrong: a few spans each, as the client sent them (`seen/`), and what they must become.

Captured from real packages against a fake provider on loopback; `expected` was written from the provider's side of the
conversation. A field that `expected` does not name is not compared; null and empty mean that it must be empty.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from heedloop_server.ingest.scored import records

SEEN = Path(__file__).parent / "seen"


def bodies_of(capture: dict[str, Any]) -> list[tuple[str, dict[str, str], bytes]]:
    headers = {"content-type": "application/json"}
    return [(b["signal"], headers, json.dumps(b["body"]).encode()) for b in capture["bodies"]]


def differences(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Where `found` lacks what `wanted` names."""
    if isinstance(wanted, dict) and wanted and isinstance(found, dict) and path != "/params":
        return [d for k, v in wanted.items() for d in differences(v, found.get(k), f"{path}/{k}")]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [d for i, v in enumerate(wanted) for d in differences(v, found[i], f"{path}/{i}")]
    same = wanted == found or (not wanted and not found)
    return [] if same else [f"{path}: {found!r} is not {wanted!r}"]


@pytest.mark.parametrize("path", sorted(SEEN.glob("*.json")), ids=lambda p: p.stem)
@pytest.mark.parametrize("reverse", [False, True], ids=["as sent", "last first"])
def test_a_client_seen_before_is_read_right(path: Path, reverse: bool) -> None:
    capture = json.loads(path.read_text())
    bodies = bodies_of(capture)
    found = records(bodies[::-1] if reverse else bodies)
    assert len(found) == len(capture["expected"]), capture["note"]
    for wanted in capture["expected"]:
        closest = min((differences(wanted, f) for f in found), key=len)
        assert not closest, f"{capture['note']} {closest}"
