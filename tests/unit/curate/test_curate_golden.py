"""Snapshots of planted worlds keep their ids: a faster way to make them must give the same bytes.

`HEEDLOOP_WRITE_GOLDEN=1` writes the file anew; do so only where rows are meant to change.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from random import Random

from curate_cases import START, call, correction, flag, ranking, thumb

from heedloop.schema import DATASET_FORMS, Call, Message, ToolCall, ToolDefinition
from heedloop_server.curate import Judgement, Rules, curate
from heedloop_server.curate.judged_calls import TRUNCATED
from heedloop_server.filters import CallFilters
from heedloop_server.snapshots import SnapshotRequest, _snapshot
from heedloop_server.store.datasets.snapshots import row_texts

GOLDEN = Path(__file__).parent / "golden" / "snapshot_ids.json"
SUBJECTS = ("late parcel", "Größe 42", "refund of order 17", "refund of order 18")
SYSTEMS = ((), (Message("system", "Today is March 1, 2026. Be kind."),), (Message("system", "Be brief."),))
RULES = (
    Rules(forms=DATASET_FORMS),
    Rules(forms=DATASET_FORMS, consensus="majority", context="similar", group_by=("prompt", "user")),
    Rules(forms=DATASET_FORMS, reject_flags=("unsafe",), split_by="time"),
    Rules(forms=DATASET_FORMS, context="any", near_duplicate=0.5, group_by=("session",), reserve_random=True),
)


def planted_calls(random: Random) -> list[Call]:
    calls: list[Call] = []
    for n in range(1, 90):
        subject = random.choice(SUBJECTS)
        words = " ".join(random.choice(("please", "where is my order")) for _ in range(2))
        question = (Message("user", random.choice((f"A {subject}, {words}", f"What about a {subject}?"))),)
        before = question + (Message("assistant", "Which one?"), Message("user", "The blue one."))
        made = call(
            n,
            messages=random.choice(SYSTEMS) + random.choice((question, question, before)),
            answer=random.choice(("Two days.", " Two days. ", "Sorry.", "", f"About {subject}: {words}")),
            operation="chat",
            session_id=random.choice((None, None, f"s{n // 4}")),
            user_id=random.choice((None, f"u{n % 7}")),
            status=random.choice(("ok", "ok", "ok", "error")),
            attributes={TRUNCATED: "gen_ai.input.messages"} if random.random() < 0.05 else {},
        )
        if random.random() < 0.1:
            asked = ToolCall(name="find", arguments='{"b": 1, "a": 2}', id=f"c{n}")
            tool = ToolDefinition(name="find", type="function")
            made = replace(
                made,
                output_messages=(Message("assistant", "", tool_calls=(asked,)),),
                tool_definitions=(tool,),
            )
        calls.append(made)
    return calls


def planted_judgements(random: Random) -> list[Judgement]:
    judgements: list[Judgement] = []
    for n in range(1, 90):
        author, chance = f"j{random.randrange(5)}", random.random()
        if chance < 0.35:
            judgements.append(thumb(n, random.random() < 0.6, author, solicited=random.random() < 0.3))
        elif chance < 0.45:
            judgements.append(correction(n, random.choice(("Three days.", "Two days.", " ")), author))
        elif chance < 0.5:
            judgements.append(flag(n, random.choice(("unsafe", "pii")), author))
        elif chance < 0.65:
            others = random.sample([*range(1, n), *range(n + 1, 95)], 1)
            judgements.append(ranking([n, *others], random.choice(([1, 1], [2, 1], [1, 2])), author))
    return list({j.feedback_id: j for j in judgements}.values())


def snapshot_id(seed: int) -> str:
    random, rules = Random(seed), RULES[seed % len(RULES)]
    calls = planted_calls(random)
    made = curate(calls[:80], planted_judgements(random), rules, relatives=calls[80:])
    now = datetime(2026, 4, 1, tzinfo=timezone.utc)
    asked = SnapshotRequest("all", CallFilters(since=START), rules, now, now)
    snapshot = _snapshot("p", asked, made, {form: row_texts(rows) for form, rows in made.rows.items()})
    num_rows = sum(sum(splits.values()) for splits in snapshot.num_rows.values())
    return f"{snapshot.id} {snapshot.num_feedback} {num_rows}"


def test_planted_snapshots_keep_their_ids() -> None:
    ids = [snapshot_id(seed) for seed in range(16)]
    if os.environ.get("HEEDLOOP_WRITE_GOLDEN") == "1":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(ids, indent=0) + "\n", encoding="utf-8")
    assert ids == json.loads(GOLDEN.read_text(encoding="utf-8"))
