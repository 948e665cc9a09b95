"""The judge worker against an endpoint that speaks the OpenAI protocol and fails in every way: nothing twice, nothing lost."""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from chat_stub import Stub
from forked_server import ForkedServer
from review_people import call
from server_process import ServerProcess, wait_for

from heedloop._call_spans import otlp_request
from heedloop.schema import JudgeSpec, Scale
from heedloop_cli.commands import judge, review
from heedloop_cli.judges.journal import Budget, Journal, OverBudget
from heedloop_cli.judges.parsers import Reply, parse
from heedloop_cli.judges.templates import TEMPLATES

NUM = 24
SPEC = {
    "form": "pointwise", "backend": "endpoint", "model": "stub", "prompt": "{question} :: {answer}", "verdicts": {"YES": 1.0, "NO": 0.0}
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    one = ForkedServer(tmp_path_factory.mktemp("worker")).start()
    admin = one.client()
    admin.send_otlp(
        otlp_request(
            [call(f"Question {n}?", f"Stored {n}.", at_s=60 + n, session_id=f"s{n % 3}") for n in range(NUM)]
        )
    )
    wait_for(lambda: len(admin.calls().calls) == NUM, what="the calls")
    yield one
    one.stop()


@pytest.fixture
def stub():
    with Stub() as one:
        yield one


def new_judge(server: ServerProcess, name: str, **more) -> str:
    return server.client().create_judge(JudgeSpec(name=name, **{**SPEC, **more})).id


def arguments(server: ServerProcess, judge_id: str, stub: Stub, folder: Path, *more: str) -> list[str]:
    endpoint = ["--endpoint", stub.url, "--journal", str(folder / "journal.sqlite"), "--timeout", "1"]
    return ["run", judge_id, *endpoint, "--url", server.url, "--api-key", server.key, *more]


def command(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    judge.add_arguments(parser)
    return judge.run(parser.parse_args(argv))


def ratings(server: ServerProcess, judge_id: str) -> dict[str, float]:
    """Trace -> value; there is one feedback per trace, each stored once."""
    found = list(server.client().iter_feedback(author_id=judge_id))
    assert len({f.target.trace_id for f in found}) == len(found)
    assert {f.author.kind for f in found} <= {"model"}
    for one in found[:3]:
        assert len(server.client().feedback_one(one.feedback_id).history) == 1
    return {f.target.trace_id: f.value for f in found}


def test_an_audit_is_drawn_for_the_judge_of_a_name(server, stub, tmp_path, capsys) -> None:
    judge_id = new_judge(server, "by-name", question="thumb")
    assert command(arguments(server, judge_id, stub, tmp_path)) == 0
    queue = server.client().create_review_queue("by name", [{"name": "thumb", "kind": "thumb"}]).queue_id
    parser = argparse.ArgumentParser()
    review.add_arguments(parser)
    where = ["--url", server.url, "--api-key", server.key]
    argv = ["fill", queue, "--source", "audit", "--size", f"{NUM}", *where]
    assert review.run(parser.parse_args([*argv, "--judge", "by-name"])) == 0
    assert f"{NUM} added" in capsys.readouterr().out
    assert review.run(parser.parse_args([*argv, "--judge", "nobody"])) != 0
    assert "names no judge" in capsys.readouterr().err


def test_faults_are_retried_and_what_cannot_be_read_is_counted(server, stub, tmp_path, capsys) -> None:
    """Every second question meets one fault, number 20 never gets through, 21 says nothing, 22 says both."""
    kinds = ("429", "500", "garbage", "cut", "slow")

    def faults(question: int, attempt: int) -> str:
        if question == 20:
            return "500"
        if question in (21, 22):
            return "I would rather not." if question == 21 else "VERDICT: YES or NO"
        return kinds[question % 5] if attempt == 1 and question % 2 else ""

    stub.faults = faults
    judge_id = new_judge(server, "faulty", parameters={"max_tokens": 50})
    argv = arguments(
        server, judge_id, stub, tmp_path, "--price-input", "1", "--price-output", "2", "--attempts", "3"
    )
    assert command(argv) == 0
    truth = {
        c.trace_id: int(re.search(r"\d+", c.input_preview)[0]) for c in server.client().calls(limit=100).calls
    }
    found = ratings(server, judge_id)
    assert {truth[t]: v for t, v in found.items()} == {
        n: float(n % 2 == 0) for n in range(NUM) if n not in (20, 21, 22)
    }
    calls = server.client().judge(judge_id).calls
    assert (calls.num_judged, calls.num_unparsable, calls.num_failed) == (NUM - 3, 2, 1)
    assert (
        calls.num_calls == sum(stub.asked.values()) == NUM + 11 + 2
    )  # one more for each faulty one, three for 20
    assert calls.cost >= (NUM - 1) * (20 * 1 + 10 * 2) / 1e6
    assert calls.input_tokens == (NUM - 1) * 20
    assert all(m["max_tokens"] == 50 and m["model"] == "stub" for m in stub.models)
    before = sum(stub.asked.values())
    stub.faults = lambda question, attempt: ""
    assert command(argv) == 0  # only the failed one is left
    assert sum(stub.asked.values()) == before + 1
    assert len(ratings(server, judge_id)) == NUM - 2
    assert f"{NUM - 1} judged before" in capsys.readouterr().out


def test_a_wrong_key_stops_at_once(server, stub, tmp_path, capsys) -> None:
    stub.faults = lambda question, attempt: "401"
    judge_id = new_judge(server, "locked")
    assert command(arguments(server, judge_id, stub, tmp_path, "--concurrency", "1")) == 2
    assert sum(stub.asked.values()) <= 2
    assert "401" in capsys.readouterr().err


@pytest.mark.parametrize(
    "budget", [["--budget-calls", "7"], ["--budget-cost", "0.00084", "--price-input", "6"]]
)
def test_a_budget_is_kept_over_runs(server, stub, tmp_path, budget: list[str]) -> None:
    """7 calls, or 0.00084 at 0.00012 a call: 7 at most. Faults cost calls too."""
    stub.faults = lambda question, attempt: "429" if attempt == 1 and question % 4 == 0 else ""
    judge_id = new_judge(server, "thrifty", parameters={"budget": budget[0], "max_tokens": 1})
    argv = arguments(server, judge_id, stub, tmp_path, *budget)
    assert command([*argv, "--limit", "3"]) == 0
    assert command(argv) == 1
    assert command(argv) == 1
    answered = len(ratings(server, judge_id))
    calls = sum(stub.asked.values())
    assert 3 <= answered <= 7
    if "calls" in budget[0]:
        assert calls == 7
    else:
        assert answered * 0.00012 <= 0.00084 + 1e-12


@pytest.mark.parametrize("answered", [2, 9])
def test_a_killed_worker_goes_on(server, stub, tmp_path, answered: int) -> None:
    """kill -9 while calls are under way: what was answered is not asked again, all is judged once, and the budget holds."""
    judge_id = new_judge(server, f"killed{answered}")
    budget = NUM + 4  # four calls are under way when it dies
    argv = arguments(server, judge_id, stub, tmp_path, "--budget-calls", str(budget))
    replied: Counter[int] = Counter()

    def faults(question: int, attempt: int) -> str:
        with stub.lock:
            if replied.total() >= answered:
                stub.held.clear()
            else:
                replied[question] += 1
                return ""
        stub.held.wait(60)
        return ""

    stub.faults = faults
    process = subprocess.Popen(
        [sys.executable, "-m", "heedloop_cli.main", "judge", *argv], env={**os.environ}
    )
    wait_for(
        lambda: not stub.held.is_set() and sum(stub.asked.values()) >= answered + 4, what="calls under way"
    )
    journal = Journal(tmp_path / "journal.sqlite", judge_id, Budget())
    wait_for(lambda: _answered(tmp_path) == answered, what="the replies on disk")
    journal.close()
    process.send_signal(signal.SIGKILL)
    process.wait()
    stub.faults = lambda question, attempt: ""
    stub.held.set()
    assert command(argv) == 0
    assert len(ratings(server, judge_id)) == NUM
    assert sum(stub.asked.values()) <= budget
    assert all(stub.asked[q] == 1 for q in replied)
    assert server.client().judge(judge_id).calls.num_judged == NUM


def _answered(folder: Path) -> int:
    import sqlite3

    with sqlite3.connect(folder / "journal.sqlite") as db:
        return db.execute("SELECT count(*) FROM calls WHERE state = 'answered'").fetchone()[0]


def test_another_machine_asks_nothing_again(server, stub, tmp_path) -> None:
    """Without the journal, the server knows what is judged."""
    judge_id = new_judge(server, "moved")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert command(arguments(server, judge_id, stub, tmp_path / "a", "--sample", "10", "--seed", "x")) == 0
    asked = set(stub.asked)
    assert len(asked) == 10
    assert command(arguments(server, judge_id, stub, tmp_path / "b")) == 0
    assert stub.asked == dict.fromkeys(range(NUM), 1)


def test_a_recheck_tells_whether_the_judge_is_still_the_same(server, stub, tmp_path) -> None:
    """Its feedback stays; the same day's check is paid for once."""
    judge_id = new_judge(server, "renamed")
    argv = arguments(server, judge_id, stub, tmp_path, "--text", "Stored", "--limit", "8")
    assert command(argv) == 0
    before = ratings(server, judge_id)
    stub.faults = lambda question, attempt: "VERDICT: YES"  # another model answers under the old name
    assert command([*argv, "--recheck"]) == 0
    changed = server.client().judge(judge_id).calls.rechecked
    assert (changed.n, changed.estimate) == (8, 0.5)
    assert ratings(server, judge_id) == before
    asked = stub.asked.total()
    assert command([*argv, "--recheck"]) == 0
    assert stub.asked.total() == asked


def test_pairs_in_both_orders_and_sessions(server, stub, tmp_path) -> None:
    """A judge that always prefers the first answer it is shown makes ties only."""
    admin = server.client()
    same = [call("Question 900?", f"Version {n}.", at_s=30 + n, tags=("pair",)) for n in range(2)]
    admin.send_otlp(otlp_request(same))
    wait_for(lambda: len(admin.calls(tag="pair").calls) == 2, what="the pair")
    verdicts = {"A": 1.0, "B": 0.0, "TIE": 0.5}
    prompt = "{question} [{answer_a}] [{answer_b}]"
    pair = new_judge(server, "pair", form="pairwise", question="preference", prompt=prompt, verdicts=verdicts)
    stub.faults = lambda question, attempt: "VERDICT: A"
    assert command(arguments(server, pair, stub, tmp_path, "--tag", "pair")) == 0
    [tie] = list(admin.iter_feedback(author_id=pair))
    assert (tie.kind, tie.ranking.ranks, tie.metadata["orders"]) == ("comparison", (1, 1), "disagree")
    shown = [re.findall(r"\[(.*?)\]", m["messages"][0]["content"]) for m in stub.models]
    assert shown[0] == shown[1][::-1]
    session = new_judge(server, "whole", form="session", question="resolved", prompt="{conversation}")
    stub.faults = lambda question, attempt: ""
    assert command(arguments(server, session, stub, tmp_path)) == 0
    assert {f.target.session_id for f in admin.iter_feedback(author_id=session)} == {"s0", "s1", "s2"}


def test_a_sample_is_of_pairs_and_of_whole_sessions_however_old(server, stub, tmp_path, capsys) -> None:
    """Ten prompts with two answers each, whose sessions are older than what a list has by default."""
    admin, month_s = server.client(), 31 * 86400
    pairs = [
        call(
            f"Question {1000 + n // 2}?",
            f"Old {n}.",
            at_s=month_s + n,
            tags=("old",),
            session_id=f"o{n // 2}",
        )
        for n in range(20)
    ]
    admin.send_otlp(otlp_request(pairs))
    since = "2020-01-01T00:00:00Z"
    wait_for(lambda: len(admin.calls(tag="old", since=since).calls) == 20, what="the pairs")
    prompt, verdicts = "{question} [{answer_a}] [{answer_b}]", {"A": 1.0, "B": 0.0}
    pair = new_judge(
        server, "drawn-pair", form="pairwise", question="preference", prompt=prompt, verdicts=verdicts
    )
    session = new_judge(server, "drawn-session", form="session", question="resolved", prompt="{conversation}")
    stub.says = lambda question, body: (
        "VERDICT: A" if "[" in body["messages"][0]["content"] else "VERDICT: YES"
    )
    for judge_id in (pair, session):
        argv = arguments(server, judge_id, stub, tmp_path, "--tag", "old")
        argv[argv.index("--journal") + 1] = str(tmp_path / f"{judge_id}.sqlite")
        assert command([*argv, "--sample", "4"]) == 0
        assert "nothing to judge among the answers of the last 30 days (--since)" in capsys.readouterr().out
        assert command([*argv, "--sample", "4", "--since", since]) == 0
        assert "4 judged;" in capsys.readouterr().out
    conversations = [
        m["messages"][0]["content"] for m in stub.models if "Assistant:" in m["messages"][0]["content"]
    ]
    assert [c.count("Old ") for c in conversations] == [2] * 4


def test_what_is_refused_as_it_is_fails_at_once_and_says_why(server, stub, tmp_path, capsys) -> None:
    stub.faults = lambda question, attempt: "400" if question % 2 else "Well, well."
    judge_id = new_judge(server, "refused")
    assert command(arguments(server, judge_id, stub, tmp_path, "--text", "Stored")) == 0
    assert stub.asked.total() == NUM
    said = capsys.readouterr().out
    assert f"{NUM // 2} failed, {NUM // 2} unparsable" in said
    assert 'answered 400: {"error": {"message": "no"}}' in said
    assert "such as 'Well, well.'" in said


@pytest.mark.parametrize(
    "wrong",
    [
        ["--budget-cost", "1"],
        ["--attempts", "0"],
        ["--concurrency", "0"],
        ["--timeout", "0"],
        ["--sample", "0"],
        ["--limit", "-1"],
    ],
)
def test_options_that_can_do_nothing_are_refused(server, stub, tmp_path, wrong: list[str]) -> None:
    judge_id = new_judge(server, "options")
    try:
        status = command([*arguments(server, judge_id, stub, tmp_path), *wrong])
    except SystemExit as end:
        status = end.code
    assert (status, stub.asked.total()) == (2, 0)


def test_a_judge_is_found_by_its_name(server) -> None:
    """Also where the name is the beginning of another's."""
    admin, judge_id = server.client(), new_judge(server, "kind")
    new_judge(server, "kinder")
    assert judge.find_judge(admin, "kind").id == judge_id
    with pytest.raises(ValueError, match="'kin' names 2 judges: "):
        judge.find_judge(admin, "kin")
    with pytest.raises(ValueError, match="'nobody' names no judge"):
        judge.find_judge(admin, "nobody")


def test_a_rubric_is_all_dimensions_or_nothing(server, stub, tmp_path) -> None:
    texts = {
        0: '{"clear": 4, "true": 5}',
        1: '{"clear": 4}',
        2: '{"clear": 9, "true": 1}',
        3: 'So: {"clear": 1, "true": 2, "x": {}}',
    }
    stub.faults = lambda question, attempt: texts[question % 4]
    spec = {"form": "rubric", "dimensions": ("clear", "true"), "parser": "json", "verdicts": {}}
    judge_id = new_judge(server, "rubric", scale=Scale(1, 5), **spec)
    assert command(arguments(server, judge_id, stub, tmp_path, "--text", "Stored")) == 0
    found = list(server.client().iter_feedback(author_id=judge_id))
    assert Counter(f.name for f in found) == {"clear": NUM / 2, "true": NUM / 2}
    assert server.client().judge(judge_id).calls.num_unparsable == NUM / 2


def test_judges_are_made_from_templates_and_guidelines_and_shown(server, tmp_path, capsys) -> None:
    """Every template is a judge; a guideline's text is in the prompt, its version in the spec; cards say that nothing is known yet."""
    connection = ["--url", server.url, "--api-key", server.key]
    for name in TEMPLATES:
        assert (
            command(["create", "--template", name, "--name", f"t-{name}", "--model", "stub", *connection])
            == 0
        )
    admin = server.client()
    asked = {j.spec.name: j.spec for j in admin.judges()}
    assert {f"t-{n}" for n in TEMPLATES} <= set(asked)
    assert asked["t-preference"].form == "pairwise"
    questions = [{"name": "thumb", "kind": "thumb"}]
    queue = admin.create_review_queue("guided", questions, guideline={"text": "Short is good."})
    assert command(["create", "--guideline", "guided", "--model", "stub", *connection]) == 0
    guided = next(j.spec for j in admin.judges() if j.spec.name == "guideline")
    assert guided.guideline == f"{queue.queue_id}/1"
    assert "Short is good." in guided.prompt
    capsys.readouterr()
    assert command(["list", *connection]) == 0
    assert guided.id in capsys.readouterr().out
    assert command(["card", guided.id[:14], *connection]) == 0
    assert "unmeasured" in capsys.readouterr().out
    assert command(["card", "t-", *connection]) == 2
    assert "names" in capsys.readouterr().err
    assert command(["improve", guided.id, *connection]) == 2
    assert "nothing to learn from" in capsys.readouterr().err
    other = asked["t-helpfulness"].id
    assert command(["compare", guided.id, other, *connection]) == 0
    assert "0 held-out audits" in capsys.readouterr().out
    assert command(["create", "--template", "tone", *connection]) == 2
    assert "--model" in capsys.readouterr().err


def test_a_function_judges(server, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "own_judge.py").write_text(
        "def even(question, **_):\n    return int(question.split()[1][:-1]) % 2 == 0\n"
        "def odd(answer):\n    return int(answer.split()[1][:-1]) % 2 if '13' not in answer else 'no number'\n"
    )
    monkeypatch.chdir(tmp_path)
    judge_id = new_judge(server, "coded", backend="function", model="own_judge:even", prompt="", verdicts={})
    argv = ["run", judge_id, "--url", server.url, "--api-key", server.key, "--text", "Stored"]
    assert command(argv) == 0
    assert sorted(ratings(server, judge_id).values()) == [0.0] * (NUM // 2) + [1.0] * (NUM // 2)
    named = new_judge(server, "named", backend="function", model="own_judge:odd", prompt="", verdicts={})
    assert command(["run", named, *argv[2:], "--attempts", "1"]) == 0
    assert sorted(ratings(server, named).values()) == [0.0] * (NUM // 2) + [1.0] * (NUM // 2 - 1)
    assert "could not convert string to float: 'no number'" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no module:function"):
        judge.backend_of(
            JudgeSpec(name="n", form="pointwise", backend="function", model="nowhere:f"),
            url=None,
            key_env="",
            folder=None,
            timeout_s=1,
        )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("VERDICT: YES", 1.0),
        ("It says NO at first.\nVerdict: **yes**", 1.0),
        ("YES\nVERDICT: NO", 0.0),
        ("NO", 0.0),
        ("", None),
        ("VERDICT:", None),
        ("KNOWN YESTERDAY", None),
        ("VERDICT: YES/NO", None),
        ("0", None),
        ("<think>Some say YES.</think>NO", 0.0),
        ("Some say YES. Hm.\n</think>\n\nVERDICT: NO", 0.0),
        ("<thinking>It is a clear YES", None),
    ],
)
def test_words_are_read_or_refused(text: str, value: float | None) -> None:
    found = parse(JudgeSpec(name="n", **SPEC), Reply(text))
    assert (None if found is None else found["thumb"]) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9", 9.0),
        ("8.5", 8.5),
        ("8,5", 8.5),
        ("Three flaws, so:\nScore: 8/10", 8.0),
        ("8 / 10.", 8.0),
        ("**2 out of 10**", 2.0),
        ("8 von 10", 8.0),
        ("评分：8／10", 8.0),
        ("8 (of 10)", 8.0),
        ("٩", 9.0),
        ("4/5", None),
        ("90%", None),
        ("7-8", None),
        ("7–8", None),
        ("7 to 8", None),
        ("11", None),
        ("-3", None),
        ("NaN", None),
        ("<think>10, I would say", None),
        ("10? No.</think>2", 2.0),
    ],
)
def test_numbers_are_read_on_the_scale_or_refused(text: str, value: float | None) -> None:
    spec = JudgeSpec(name="n", **{**SPEC, "parser": "number", "verdicts": {}, "scale": Scale(1, 10)})
    found = parse(spec, Reply(text))
    assert (None if found is None else found["thumb"]) == value


def test_a_rubric_may_write_shares_of_its_scale() -> None:
    spec = {"form": "rubric", "dimensions": ("clear", "true"), "parser": "json", "verdicts": {}}
    spec = JudgeSpec(name="n", scale=Scale(1, 5), **{**SPEC, **spec})
    assert parse(spec, Reply('{"clear": "4/5", "true": "2"}')) == {"clear": 4.0, "true": 2.0}
    assert parse(spec, Reply('{"clear": "8/10", "true": 2}')) is None


def test_probabilities_of_the_next_token() -> None:
    spec = JudgeSpec(name="n", **{**SPEC, "parser": "token_probability"})
    assert parse(spec, Reply(probabilities={"YES": 0.3, "NO": 0.1}))["thumb"] == pytest.approx(0.75)
    assert parse(spec, Reply(probabilities={})) is None


def test_the_journal_holds_its_budget_among_threads(tmp_path) -> None:
    journal = Journal(tmp_path / "j.sqlite", "n@1", Budget(calls=50, cost=1.0))
    refused = []

    def spend() -> None:
        for n in range(20):
            try:
                number = journal.begin(f"i{n}", "first", 0.02)
            except OverBudget:
                refused.append(n)
            else:
                journal.end(number, Reply("x"), 0.02, 1.0)

    threads = [threading.Thread(target=spend) for _ in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    calls, cost = journal.spent()
    assert (calls, round(cost, 9), len(refused)) == (50, 1.0, 50)
    journal.close()
