"""`heedloop import`, `dataset` and `export` against a real server: everything once, everything counted."""

from __future__ import annotations

import gzip
import itertools
import json
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone

import pyarrow.parquet as pq
import pytest
import uvicorn
from temporary_stores import temporary_store

from heedloop.client import Client
from heedloop.schema import Author
from heedloop_cli.main import main
from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.settings import Settings
from heedloop_server.store.connection import Store


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, Store]]:
    """The address of a real server on a free port, and its store."""
    with temporary_store() as store:
        app = create_app(Settings(data=tmp_path_factory.mktemp("data")), store=store)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        started = threading.Event()
        startup = server.startup

        async def noticed(sockets=None) -> None:
            await startup(sockets)
            started.set()

        server.startup = noticed
        thread = threading.Thread(target=server.run)
        thread.start()
        assert started.wait(60)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", store
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(served, monkeypatch, tmp_path) -> Client:
    """A client of a fresh project; the commands find the same server and key in the environment."""
    url, store = served
    text, _ = make_key(store, f"shop_{secrets.token_hex(4)}", name="test", scopes=SCOPES)
    monkeypatch.setenv("HEEDLOOP_URL", url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HEEDLOOP_API_KEY", text)
    return Client(url, text)


def wait_until_stored(client: Client) -> dict:
    """The ledger once nothing waits for the store any more."""
    client.wait_until_stored(300)
    return client.ledger()


ALWAYS = {"since": "1970-01-02T00:00:00Z"}


def row(n: int, **changes) -> dict:
    judgements = [
        {"kind": "comparison", "ranks": [1, 2], "author": f"w{n % 7}", "strength": 1.0},
        {"kind": "thumb", "answer": 0, "value": True, "author": f"w{n % 7}"},
        {"kind": "correction", "answer": 1, "correction": f"Better {n}.", "author": f"w{n % 7}"},
    ]
    answers = [{"text": f"Good {n}.", "model": "m1"}, {"text": f"Bad {n}.", "model": "m2"}]
    return {
        "id": n,
        "prompt": f"Question {n * 7919} about {n}?",
        "answers": answers,
        "judgements": judgements,
        **changes,
    }


def write(path, rows):
    path.write_text(
        "".join(json.dumps(r) + "\n" if not isinstance(r, str) else r + "\n" for r in rows), encoding="utf-8"
    )
    return str(path)


def test_importing_twice_stores_once_and_balances(client, tmp_path, capsys):
    path = write(tmp_path / "f.jsonl", [row(n) for n in range(60)])
    assert main(["import", path]) == 0
    said = capsys.readouterr().out
    assert "60 read = 60 stored + 0 known + 0 left out + 0 unreadable" in said
    assert "180 read = 180 stored + 0 known + 0 left out" in said
    wait_until_stored(client)
    assert main(["import", path]) == 0
    said = capsys.readouterr().out
    assert "60 read = 0 stored + 60 known + 0 left out + 0 unreadable" in said
    assert "120 read = 0 stored + 120 known" in said
    assert sum(1 for _ in client.iter_feedback()) == 180
    assert sum(1 for _ in client.iter_calls(**ALWAYS)) == 120
    ledger = client.ledger().feedback
    assert ledger.received == ledger.stored + ledger.duplicate + ledger.rejected == 360


def test_wrong_lines_are_named_and_nothing_else_is_lost(client, tmp_path, capsys):
    rows = [row(0), "{broken", row(2, judgements=[{"kind": "vote"}]), row(3), row(4, prompt="")]
    assert main(["import", write(tmp_path / "f.jsonl", rows)]) == 1
    out, err = capsys.readouterr()
    assert "5 read = 2 stored + 0 known + 0 left out + 3 unreadable" in out
    for said in ("line 2: is no JSON", "line 3: judgements[0].kind", "line 5: prompt: is empty"):
        assert said in err
    assert sum(1 for _ in client.iter_feedback()) == 6


def test_what_was_said_comes_back_as_it_was(client, tmp_path):
    main(
        [
            "import",
            write(
                tmp_path / "f.jsonl",
                [row(1, created_at="2025-05-01T10:00:00Z", tags=["gold"], metadata={"topic": "tea"})],
            ),
        ]
    )
    wait_until_stored(client)
    found = {f.kind: f for f in client.iter_feedback()}
    assert set(found) == {"comparison", "rating", "correction"}
    assert found["correction"].correction == "Better 1."
    assert found["comparison"].ranking.strength == 1.0
    assert found["rating"].author == Author("annotator", "w1")
    assert found["rating"].created_at == datetime(2025, 5, 1, 10, tzinfo=timezone.utc)
    (call,) = client.trace(found["rating"].target.trace_id).spans
    assert call.start_time == datetime(2025, 5, 1, 10, tzinfo=timezone.utc)
    assert call.tags == ("gold",)
    assert call.attributes["heedloop.metadata.topic"] == "tea"
    assert call.model_answered == "m1"
    assert call.is_answer is True


def test_long_texts_go_in_several_bodies(client, tmp_path):
    long = "word " * 150_000
    judgements = [
        {"kind": "correction", "answer": 0, "correction": f"{n} {long}", "author": "w"} for n in range(1)
    ]
    rows = [row(n, answers=[f"{n} {long}"], judgements=judgements) for n in range(12)]
    assert main(["import", write(tmp_path / "f.jsonl", rows)]) == 0
    assert len({f.target.trace_id for f in client.iter_feedback()}) == 12
    assert wait_until_stored(client).stored == 12


def test_a_server_that_goes_away_leaves_a_balance_and_a_way_on(client, tmp_path, capsys, monkeypatch):
    path = write(tmp_path / "f.jsonl", [row(n) for n in range(2_000)])
    posts = itertools.count()

    class Leaving(Client):
        def send_feedback(self, feedback, **options):
            if next(posts):
                self.url = "http://127.0.0.1:9"
            return super().send_feedback(feedback, **options)

    monkeypatch.setattr("heedloop_cli.commands.connection.Client", Leaving)
    assert main(["import", path]) == 2
    out, err = capsys.readouterr()
    assert "1,666 read = 1,666 stored" in out
    assert "broken off" in out
    assert "Is the server running?" in err
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HEEDLOOP_URL", client.url)
    monkeypatch.setenv("HEEDLOOP_API_KEY", client._key)
    assert main(["import", path]) == 0
    assert "2,000 read = 2,000 stored + 0 known" in capsys.readouterr().out


def test_limit_and_project(client, tmp_path, capsys):
    path = write(tmp_path / "f.jsonl", [row(n) for n in range(9)])
    assert main(["import", path, "--limit", "4"]) == 0
    assert "4 read = 4 stored" in capsys.readouterr().out
    assert main(["import", path, "--project", client.me().project]) == 0
    assert "9 read = 5 stored + 4 known" in capsys.readouterr().out
    fresh = f"other_{secrets.token_hex(4)}"
    assert main(["import", path, "--project", fresh]) == 0
    made = capsys.readouterr().out
    assert "9 read = 9 stored" in made
    key = next(word for word in made.split() if word.startswith("hl_"))
    assert Client(client.url, key).me().project == fresh
    assert main(["import", path, "--project", fresh]) == 2
    assert "use a key of that project" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import", "/nowhere/f.jsonl"], "No such file"),
        (["import", "{file}", "--limit", "0"], "at least one row"),
        (["import", "{file}", "--time", "noon"], "not an RFC 3339 time"),
        (["import", "{file}", "--url", "http://127.0.0.1:9"], "Is the server running?"),
        (["import", "{file}", "--api-key", "hl_wrong"], "key"),
        (["dataset", "show", "nothing"], "no snapshot 'nothing'"),
        (["dataset", "create", "x", "--rule", "seed"], "NAME=VALUE"),
        (["dataset", "create", "x", "--rule", "colour=red"], "rules.colour"),
        (["dataset", "create", "x", "--rating", "meh"], "rating"),
        (["export", "nothing"], "no snapshot"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(client, tmp_path, capsys, arguments, said):
    path = write(tmp_path / "f.jsonl", [row(1)])
    assert main([a.format(file=path) for a in arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("heedloop: ")
    assert said in err
    assert "Traceback" not in err


def test_from_file_to_dataset_to_other_trainers(client, tmp_path, capsys):
    main(
        [
            "import",
            write(
                tmp_path / "f.jsonl",
                [row(n) for n in range(60)] + [row(99, judgements=[{"kind": "comparison", "ranks": [1, 1]}])],
            ),
        ]
    )
    rules = ("--rule", "seed=3", "--rule", "test_fraction=0.2")
    assert main(["dataset", "create", "mine", "--since", "2000-01-01", *rules]) == 0
    capsys.readouterr()
    assert main(["dataset", "show", "mine"]) == 0
    shown = capsys.readouterr().out
    for expected in ("comparisons", "the longer wins", "bag of words", "what it supports", "7 named"):
        assert expected in shown
    assert main(["dataset", "list"]) == 0
    assert "mine" in capsys.readouterr().out
    assert main(["dataset", "export", "mine", "--to", "trl", "--out", str(tmp_path / "trl")]) == 0
    assert "1 ties left out" in capsys.readouterr().out
    pairs = [
        json.loads(x)
        for s in ("train", "validation", "test")
        for x in (tmp_path / "trl" / f"comparisons-{s}.jsonl").read_text().splitlines()
    ]
    assert len(pairs) == 120
    ranked = next(
        p for p in pairs if p["chosen"][0]["content"] == "Good 5." and p["rejected"][0]["content"] == "Bad 5."
    )
    assert ranked == {
        "prompt": [{"role": "user", "content": "Question 39595 about 5?"}],
        "chosen": [{"role": "assistant", "content": "Good 5."}],
        "rejected": [{"role": "assistant", "content": "Bad 5."}],
        "margin": 1.0,
    }
    assert main(["export", "mine", "--to", "verl", "--out", str(tmp_path / "verl"), "--split", "train"]) == 0
    table = pq.read_table(tmp_path / "verl" / "prompts-train.parquet").to_pylist()
    assert set(table[0]) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    assert (
        main(
            [
                "export",
                "mine",
                "--to",
                "openrlhf",
                "--form",
                "demonstrations",
                "--out",
                str(tmp_path / "rlhf"),
            ]
        )
        == 0
    )
    line = json.loads((tmp_path / "rlhf" / "demonstrations-train.jsonl").read_text().splitlines()[0])
    assert set(line) == {"input", "output"}
    assert main(["export", "mine", "--to", "verl", "--form", "comparisons"]) == 2
    assert not list(tmp_path.rglob("*.part"))
    capsys.readouterr()
    assert main(["export", "mine", "--file-type", "parquet", "--out", str(tmp_path / "own")]) == 0
    whole = pq.read_table(tmp_path / "own" / "comparisons-train.parquet").to_pylist()
    snapshot = client.snapshots()[0]
    assert len(whole) == snapshot.num_rows["comparisons"]["train"]
    assert {"prompt", "chosen", "rejected", "weight", "group", "split", "feedback_ids"} <= set(whole[0])
    # Rows from corrections have no margin, those from rankings have one: the column is there whichever comes first.
    assert {row["margin"] for row in whole} == {None, 1.0}
    rated = pq.read_table(tmp_path / "own" / "rated-train.parquet").to_pylist()
    assert rated[0]["ratings"] == [{"name": "thumb", "value": 1.0}]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("tulu1_human_eval", 150),
        ("hh_harmless_pairs", 700),
        ("oasst_sample", 300),
        ("ukpconvarg1_pairs", 100),
        ("ukpconvarg1_args", 200),
    ],
)
def test_real_judgements_take_the_whole_road(shared, client, name, limit, capsys):
    path = shared / "data" / f"{name}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(x) for x in itertools.islice(file, limit)]
    expected = {
        "tulu1_human_eval": {"rating": 2 * limit, "comparison": limit},
        "hh_harmless_pairs": {"comparison": limit},
        "ukpconvarg1_pairs": {"comparison": sum(len(r.get("judgments", ())) for r in rows)},
        "ukpconvarg1_args": {"rating": sum(abs(r.get("up") or 0) + (r.get("down") or 0) for r in rows)},
        "oasst_sample": {
            "rating": sum(
                (r.get("emojis") or {}).get(e, 0)
                for r in rows
                if r.get("role") == "assistant"
                for e in ("+1", "-1")
            ),
            "comparison": sum(
                n > 1 for n in Counter(r.get("parent") for r in rows if r.get("rank") is not None).values()
            ),
        },
    }[name]
    assert main(["import", str(path), "--limit", str(limit)]) == 0
    assert f"{limit:,} read" in capsys.readouterr().out
    stored = Counter(f.kind for f in client.iter_feedback())
    assert stored == {k: n for k, n in expected.items() if n}
    snapshot = client.create_snapshot(name, rules={"max_author_share": 1.0})
    assert snapshot.num_feedback == sum(expected.values())
    if "comparison" in expected:
        pairs = list(client.snapshot_rows(snapshot.id, "comparisons"))
        ranked = [p for p in pairs if p.source == "comparison"]
        assert sum(p.weight for p in ranked) == pytest.approx(expected["comparison"], abs=0.01)
