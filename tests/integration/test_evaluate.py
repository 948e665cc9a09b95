"""`heedloop evaluate` and `heedloop cases`: planted gains and losses are found, nothing is asked twice, a mistake stops a release."""

import argparse
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from chat_stub import Stub
from review_people import call
from server_process import ServerProcess, wait_for

from heedloop.schema import Author, Feedback, JudgeSpec, Target
from heedloop_cli.commands import cases, evaluate

NUM = 24
JUDGE = """
def rate(question, answer, **_):
    return float(answer.startswith("Right"))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    """Answers of which two in three are wrong; the first twelve were corrected by users, one of them is flagged as well."""
    one = ServerProcess(tmp_path_factory.mktemp("evaluate")).start()
    try:
        _fill(one)
        yield one
    finally:
        one.stop()


def _fill(one: ServerProcess) -> None:
    client = one.client()
    calls = [
        call(
            f"Question {n}: when does shop {chr(65 + n)} {'open' if n % 2 else 'close'}?",
            f"Right {n}." if n % 3 == 0 else f"Wrong {n}, at 7:15.",
            at_s=600 + n,
            tags=("hours",) if n % 2 else (),
            attributes={"heedloop.metadata.language": "en" if n < 12 else "de"},
            duration_ns=10**9,
        )
        for n in range(NUM)
    ]
    older = [call(f"An old {w}?", f"The old {w}.", at_s=9_000) for w in ("price list", "telephone number")]
    client.send_calls([*older, *calls])
    wait_for(lambda: len(client.calls().calls) == NUM + len(older), what="the calls")
    corrections = [
        Feedback(
            "correction",
            Target(trace_id=c.trace_id, span_id=c.span_id),
            correction=f"Right {n}, at {n + 9}:00.",
            author=Author("end_user", f"user-{n}"),
        )
        for n, c in enumerate(calls[:12])
    ]
    flag = Feedback("flag", corrections[1].target, category="inaccurate", author=Author("end_user", "user-x"))
    client.send_feedback([*corrections, flag])
    one.calls = calls
    rules = {"split_by": "time", "test_fraction": NUM / (NUM + len(older)), "validation_fraction": 0.0}
    assert client.create_snapshot("held out", rules=rules).num_rows["prompts"]["test"] == NUM


@pytest.fixture
def stub():
    with Stub() as one:
        one.says = lambda n, body: f"Right {n}, at {n + 9}:00."
        yield one


def command(module, server: ServerProcess, *argv: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.run(parser.parse_args([*argv, "--url", server.url, "--api-key", server.key]))


def evaluation(server: ServerProcess, stub: Stub, folder: Path, name: str, *more: str) -> list[str]:
    journal = str(folder / f"{name}.sqlite")
    return [stub.url, "--model", "new", "--name", name, "--journal", journal, "--timeout", "1", *more]


def test_gains_losses_and_slices_are_found(server, stub, tmp_path, monkeypatch, capsys) -> None:
    """A model that is right about all but German questions, next to production, and next to a worse model."""
    (tmp_path / "rated.py").write_text(JUDGE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    judge = server.client().create_judge(JudgeSpec("right", "pointwise", "function", "rated:rate")).id
    stub.says = lambda n, body: f"Right {n}, at {n + 9}:00." if n < 12 else f"Wrong {n}, at 7:15."
    held_out = ["--dataset", "held out", "--judge", judge]
    before = len(server.client().calls().calls)
    assert command(evaluate, server, *evaluation(server, stub, tmp_path, "good", *held_out)) == 0
    assert f"{NUM} answered" in capsys.readouterr().out
    found = server.client().evaluation("good")
    by_name = {m.name: m for m in found.metrics}
    assert found.num_cases == NUM
    assert by_name[judge].new == pytest.approx(12 / 24)
    assert by_name[judge].baseline == pytest.approx(8 / 24)
    assert by_name[judge].difference.estimate == pytest.approx(4 / 24)
    assert by_name["token_f1"].num_cases == 12
    assert by_name["token_f1"].new == 1.0
    assert by_name["token_f1"].verdict == "better"
    assert by_name["latency_ms"].verdict == "better"
    slices = {(s.name, s.value): {m.name: m for m in s.metrics} for s in found.slices}
    assert slices["language", "en"][judge].verdict == "better"
    assert slices["language", "de"][judge].difference.estimate == pytest.approx(-4 / 12)
    better = [m.better == "higher" for m in found.metrics]
    assert better == sorted(better, reverse=True), "regressions are listed by the first"
    pairs = server.client().evaluated_pairs("good", metric=judge, limit=4)
    lost = {int(re.search(r"\d+", p.baseline_answer)[0]) for p in pairs.pairs}
    assert lost == {12, 15, 18, 21}
    assert all(p.row.baseline_trace_id in {c.trace_id for c in server.calls} for p in pairs.pairs)
    queue = server.client().create_review_queue("pairs", [{"name": "preference", "kind": "comparison"}])
    items = [
        [{"trace_id": t, "span_id": s} for t, s in ((r.trace_id, r.span_id), (r.baseline_trace_id, r.baseline_span_id))]
        for r in (p.row for p in pairs.pairs)
    ]  # fmt: skip
    assert server.client().fill_review_queue(queue.queue_id, "targets", items=items).added == 4
    stub.says = lambda n, body: f"Wrong {n}, at 7:15."
    worse = evaluation(server, stub, tmp_path, "worse", *held_out, "--against", "good", "--gate")
    assert command(evaluate, server, *worse) == evaluate.GATE_CLOSED
    again = server.client().evaluation("worse", against="good")
    assert {m.name: m.verdict for m in again.metrics}["token_f1"] == "worse"
    assert "gate: closed" in capsys.readouterr().err
    assert len(server.client().calls().calls) == before, "its answers are no production calls"


def test_faults_are_retried_and_failures_counted(server, stub, tmp_path, capsys) -> None:
    kinds = ("429", "500", "garbage", "cut", "slow")
    stub.faults = lambda n, attempt: "500" if n == 20 else kinds[n % 5] if attempt == 1 and n % 2 else ""
    argv = evaluation(server, stub, tmp_path, "faulty", "--dataset", "held out", "--attempts", "2")
    assert command(evaluate, server, *argv, "--gate") == evaluate.GATE_CLOSED
    assert "1 of 24 cases have no answer" in capsys.readouterr().err
    rows = server.client().evaluation_rows("faulty")
    assert [r.error for r in rows if r.error] == ["http 500"]
    assert sum(stub.asked.values()) == NUM + NUM // 2 + 1
    stub.faults = lambda n, attempt: ""
    assert command(evaluate, server, *argv) == 0
    assert sum(stub.asked.values()) == NUM + NUM // 2 + 2, "only the failed one is asked again"
    assert server.client().evaluation("faulty").evaluation.num_failed == 0


def test_a_gate_that_compared_nothing_is_not_open(server, stub, tmp_path, monkeypatch, capsys) -> None:
    """Prompts without references or checks; a judge of whose replies none can be read; and what failed is said."""
    (tmp_path / "silent.py").write_text("def rate(question, answer, **_):\n    return None\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own.jsonl").write_text('{"prompt": "Question 1: when?"}\n')
    own = evaluation(server, stub, tmp_path, "bare", "--file", "own.jsonl", "--gate")
    assert command(evaluate, server, *own) == evaluate.NOT_RUN
    shown = capsys.readouterr()
    assert "it could not be told" in shown.err
    assert "  characters: 18 (1), compared with nothing" in shown.out
    assert command(evaluate, server, *own, "--allow", "latency_ms=5") == evaluate.GATE_CLOSED
    judge = server.client().create_judge(JudgeSpec("silent", "pointwise", "function", "silent:rate")).id
    held_out = evaluation(
        server, stub, tmp_path, "silent", "--dataset", "held out", "--gate", "--judge", judge
    )
    assert command(evaluate, server, *held_out) == evaluate.NOT_RUN
    assert f"{judge} gave no verdict: {2 * NUM} unparsable" in capsys.readouterr().err
    stub.faults = lambda n, attempt: "500"
    failing = evaluation(server, stub, tmp_path, "failing", "--dataset", "held out", "--attempts", "1")
    assert command(evaluate, server, *failing) == evaluate.NOT_RUN
    assert f"  {NUM} failed: " in capsys.readouterr().err


def test_examples_stand_behind_the_system_message(server, stub, tmp_path, capsys) -> None:
    """A liked answer of production becomes two turns before the question; the instructions stay first."""
    old = server.client().calls(text="price list").calls[0]
    thumb = Feedback(
        "rating", Target(old.trace_id, old.span_id), value=1, author=Author("end_user", "user-1")
    )
    server.client().send_feedback([thumb])
    prompt = [
        {"role": "system", "text": "Be brief."},
        {"role": "developer", "text": "In English."},
        {"role": "user", "text": "Question 3: an old price list?"},
    ]
    file = tmp_path / "asked.jsonl"
    file.write_text(
        json.dumps({"prompt": prompt, "reference": "The old\u2028price list."}, ensure_ascii=False)
    )
    argv = evaluation(server, stub, tmp_path, "shots", "--file", str(file), "--few-shot", "1")
    assert command(evaluate, server, *argv) == 0
    sent = [(m["role"], m["content"]) for m in stub.models[-1]["messages"]]
    assert sent == [
        ("system", "Be brief."),
        ("developer", "In English."),
        ("user", "An old price list?"),
        ("assistant", "The old price list."),
        ("user", "Question 3: an old price list?"),
    ]
    (tmp_path / "blind.py").write_text("def answer(question):\n    return question\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        patch.setenv("HEEDLOOP_EVALUATED", "")  # set by a function as target, and taken back here
        blind = ("blind:answer", "--file", str(file), "--few-shot", "1")
        assert command(evaluate, server, *blind) == 2
    assert "--few-shot needs a function with the argument messages" in capsys.readouterr().err


def test_a_budget_stops_it_and_a_second_run_goes_on(server, stub, tmp_path) -> None:
    argv = evaluation(server, stub, tmp_path, "thrifty", "--dataset", "held out")
    assert command(evaluate, server, *argv, "--budget-calls", "7") == evaluate.NOT_RUN
    assert server.client().evaluation("thrifty").evaluation.status == "stopped"
    assert command(evaluate, server, *argv, "--budget-calls", "30") == 0
    assert set(stub.asked.values()) == {1}
    assert server.client().evaluation("thrifty").evaluation.status == "finished"


@pytest.mark.parametrize("shots", [0, 1])
def test_a_checkpoint_goes_on_where_it_stopped(server, tmp_path, capsys, shots) -> None:
    """A tiny model of random weights gives its most likely answers, behind an example where it is shown one, each once."""
    pytest.importorskip("torch")
    from heedloop_trainer.generation.checkpoint import answerer
    from heedloop_trainer.nn.checkpoints import save_model
    from heedloop_trainer.nn.scratch import SmallShape, small_policy, train_tokenizer

    client, folder = server.client(), tmp_path / "tiny"
    old = client.calls(text="price list").calls[0]
    like = Feedback("rating", Target(old.trace_id, old.span_id), value=1, author=Author("end_user", "user-2"))
    client.send_feedback([like])
    wait_for(lambda: client.examples("An old price list?", 1).examples, what="the example")
    asked = [f"Is there an old price list of {year}?" for year in range(1990, 2000)]
    tokenizer = train_tokenizer(asked, vocab_size=300)
    save_model(small_policy(tokenizer, SmallShape(32, 2, 2, 64)), tokenizer, folder)
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"prompt": q}) + "\n" for q in asked))
    name = f"tiny-{shots}"
    argv = [
        str(folder),
        "--name",
        name,
        "--journal",
        str(tmp_path / "j.sqlite"),
        "--parameter",
        "max_tokens=6",
    ]
    argv += ["--file", str(tmp_path / "asked.jsonl"), "--few-shot", str(shots)]
    assert command(evaluate, server, *argv, "--budget-calls", "4") == evaluate.NOT_RUN
    assert client.evaluation(name).evaluation.status == "stopped"
    before = {r.case_id: r.trace_id for r in client.evaluation_rows(name)}
    assert command(evaluate, server, *argv) == 0
    assert f"{name}: 6 answered, 4 answered before; 10 calls" in capsys.readouterr().out
    rows = {r.case_id: r.trace_id for r in client.evaluation_rows(name)}
    assert len(before) == 4 and before.items() <= rows.items()
    wait_for(lambda: len(client.calls(environment=f"evaluation:{name}").calls) == 10, what="the answers")
    stored = [client.trace(t).spans[0] for t in rows.values()]
    shown = [("user", "An old price list?"), ("assistant", "The old price list.")][: 2 * shots]
    assert [[(m.role, m.text) for m in c.input_messages[:-1]] for c in stored] == [shown] * 10
    assert sorted(c.input_messages[-1].text for c in stored) == asked
    alone = answerer(folder, temperature=0.0, max_tokens=6)
    assert [c.output_text for c in stored] == [alone(c.input_messages, 1)[0] for c in stored]


def test_a_killed_evaluation_asks_nothing_twice(server, stub, tmp_path) -> None:
    """kill -9 while four calls are under way: what was answered is not asked again, and each answer is stored once."""
    argv = evaluation(server, stub, tmp_path, "killed", "--dataset", "held out", "--concurrency", "4")
    replied: Counter[int] = Counter()

    def faults(n: int, attempt: int) -> str:
        with stub.lock:
            if replied.total() >= 6:
                stub.held.clear()
            else:
                replied[n] += 1
                return ""
        stub.held.wait(60)
        return ""

    stub.faults = faults
    connection = ["--url", server.url, "--api-key", server.key]
    process = subprocess.Popen(
        [sys.executable, "-m", "heedloop_cli.main", "evaluate", *argv, "--timeout", "60", *connection],
        env={**os.environ},
        cwd=tmp_path,
    )
    wait_for(lambda: not stub.held.is_set() and sum(stub.asked.values()) >= 10, what="calls under way")
    wait_for(lambda: _answered(tmp_path / "killed.sqlite") == 6, what="the replies on disk")
    process.send_signal(signal.SIGKILL)
    process.wait()
    stub.faults = lambda n, attempt: ""
    stub.held.set()
    assert command(evaluate, server, *argv) == 0
    assert all(stub.asked[n] == 1 for n in replied)
    assert sum(stub.asked.values()) == NUM + 4
    client = server.client()
    assert client.evaluation("killed").evaluation.num_answered == NUM
    wait_for(lambda: len(client.calls(environment="evaluation:killed").calls) == NUM, what="the answers")


def _answered(path: Path) -> int:
    with sqlite3.connect(path) as db:
        return db.execute("SELECT count(*) FROM calls WHERE state = 'answered'").fetchone()[0]


RECORDED = """
import heedloop
heedloop.configure({url!r}, {key!r}, environment="production")

@heedloop.trace
def ask(question):
    heedloop.thumbs_up(heedloop.handle())
    return "Recorded nowhere."

def answer(question):
    return ask(question)
"""


def test_what_the_app_records_meanwhile_counts_nowhere(server, tmp_path) -> None:
    """An app that is configured for production and rates its own answers; its outbox is not touched either."""
    client = server.client()
    (tmp_path / "recorded.py").write_text(RECORDED.format(url=server.url, key=server.key))
    (tmp_path / "own.jsonl").write_text('{"prompt": "Question 1?"}\n{"prompt": "Question 2?"}\n')
    before = len(client.calls(limit=500).calls), len(list(client.iter_feedback()))
    own = [sys.executable, "-m", "heedloop_cli.main", "evaluate", "recorded:answer", "--file", "own.jsonl"]
    env = {**os.environ, "HEEDLOOP_URL": server.url, "HEEDLOOP_API_KEY": server.key, "HOME": str(tmp_path)}
    subprocess.run([*own, "--name", "recorded"], cwd=tmp_path, env=env, check=True)
    wait_for(lambda: len(client.calls(environment="evaluation:recorded").calls) == 2, what="the answers")
    wait_for(lambda: not client.ledger().pending, what="all that came")
    assert (len(client.calls(limit=500).calls), len(list(client.iter_feedback()))) == before


APP = """
async def answer(question):
    number = int(question.split()[1].strip(":"))
    return f"Wrong {number}, at 7:15." if number in BAD else f"Right {number}, at {number + 9}:00."

BAD = {bad}
"""
TEST = """
import asyncio
from app import answer
from heedloop import testing

@testing.cases("support", tolerance={tolerance})
def test_support(case):
    case.check(asyncio.run(answer(case.question)))
"""


def test_a_mistake_that_users_corrected_stops_the_next_release(server, tmp_path, monkeypatch, capsys) -> None:
    """The app's own pytest run and the gate find the planted mistake, without the server; a repaired app passes both."""
    assert command(cases, server, "make", "support") == 0
    assert command(cases, server, "make", "support") == 0
    assert [s.version for s in server.client().case_sets()] == [1], "nothing was said anew"
    file = tmp_path / "cases" / "support.jsonl"
    assert command(cases, server, "download", "support", "--to", str(file)) == 0
    assert "user-1" not in file.read_text(), "authors are pseudonyms"

    def released(bad: str, tolerance: float = 0.0) -> tuple[str, int]:
        (tmp_path / "app.py").write_text(APP.replace("{bad}", bad))
        (tmp_path / "test_app.py").write_text(TEST.replace("{tolerance}", str(tolerance)))
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "HEEDLOOP"))}
        own = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        tests = subprocess.run(own, cwd=tmp_path, env=env, capture_output=True, text=True)
        gate = [sys.executable, "-m", "heedloop_cli.main", "evaluate", "app:answer", "--file", str(file)]
        local = ["--local", "--gate", "--journal", ":memory:", "--tolerance", str(tolerance)]
        gated = subprocess.run([*gate, *local], cwd=tmp_path, env=env, capture_output=True, text=True)
        return tests.stdout, gated.returncode

    out, code = released("{4}")
    assert "1 failed, 11 passed" in out
    assert "correction by end_user" in out
    assert "Right 4, at 13:00." in out
    assert code == evaluate.GATE_CLOSED
    out, code = released("{4}", tolerance=0.1)
    assert "11 passed, 1 xfailed" in out
    assert code == 0
    out, code = released("{}")
    assert "12 passed" in out
    assert code == 0


def test_an_erasure_reaches_an_evaluation_and_its_cases(server, stub, tmp_path) -> None:
    client, gone = server.client(), server.calls[NUM - 1]
    client.send_feedback([Feedback("correction", Target(trace_id=gone.trace_id), correction="No shop 24.")])
    assert command(cases, server, "make", "erased") == 0
    argv = evaluation(server, stub, tmp_path, "erased", "--cases", "erased")
    assert command(evaluate, server, *argv) == 0
    row = next(r for r in client.evaluation_rows("erased") if r.baseline_trace_id == gone.trace_id)
    wait_for(lambda: client.trace(row.trace_id).spans, what="the answer")
    erased = client.erase(trace_id=gone.trace_id)
    wait_for(lambda: client.erasure(erased.erasure_id).left == {} or True, what="the erasure")
    assert row.trace_id not in {c.trace_id for c in client.iter_calls(environment="evaluation:erased")}
    assert gone.trace_id not in {c.trace_id for c in client.iter_cases("erased")}
