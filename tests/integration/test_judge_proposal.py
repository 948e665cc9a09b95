"""`heedloop judge improve --propose`: a model writes other instructions, held-out audits decide, and faults leave nothing behind."""

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from chat_stub import Stub
from forked_server import ForkedServer
from review_people import call
from server_process import ServerProcess, wait_for
from test_judge_worker import arguments, command, new_judge

from heedloop._call_spans import otlp_request
from heedloop.client import Client
from heedloop.schema import JudgeSpec
from heedloop_cli.judges.backends import BackendError
from heedloop_cli.judges.parsers import HOLE, Reply
from heedloop_cli.judges.proposal import Prompt, proposed_prompt
from heedloop_cli.judges.templates import TEMPLATES, guideline_prompt

NUM = 40
WORDS = [
    "amber",
    "basalt",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "glacier",
    "harbour",
    "island",
    "jasmine",
    "kelp",
    "lagoon",
    "maple",
    "nectar",
    "onyx",
    "prairie",
]
OLD, NEW = "Is it good?", "Three times as many is bad."
PROMPT = OLD + "\n\n{examples}# Question\n{question}\n\n# Answer\n{answer}"


def is_good(question: int) -> bool:
    return question % 3 > 0


def says(question: int, body: dict) -> str:
    """The judge goes by odd and even, but with the new instructions by what is true."""
    text = body["messages"][0]["content"]
    if body["model"] == "writer":
        return f"I see.\n<instructions>\n{NEW}\n</instructions>"
    question = int(re.findall(r"Question (\d+)", text)[-1])  # examples come before it
    good = is_good(question) if NEW in text else question % 2 == 0
    return f"VERDICT: {'YES' if good else 'NO'}"


@pytest.fixture
def stub():
    with Stub() as one:
        one.says = says
        yield one


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    one = ForkedServer(tmp_path_factory.mktemp("proposal")).start()
    rng, admin = random.Random(3), one.client()
    questions = [f"Question {n}: {' '.join(rng.choices(WORDS, k=9))}?" for n in range(NUM)]
    admin.send_otlp(otlp_request([call(q, f"Stored {n}.", at_s=60 + n) for n, q in enumerate(questions)]))
    wait_for(lambda: len(admin.calls(limit=100).calls) == NUM, what="the calls")
    queue = admin.create_review_queue("audits", [{"name": "thumb", "kind": "thumb"}]).queue_id
    admin.fill_review_queue(queue, "sample", size=NUM)
    ada = Client(one.url, admin.create_key("ada", ["annotate"], author_id="ada").key)
    while ahead := ada.next_assignments(queue).assignments:
        number = int(re.search(r"\d+", ahead[0].answers[0].text)[0])
        ada.submit_judgement(ahead[0].assignment_id, {"thumb": int(is_good(number))})
    yield one
    one.stop()


@pytest.fixture(scope="module")
def shared(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A judge of which no version is kept under its name."""
    with Stub() as one:
        one.says = says
        return audited_judge(server, one, tmp_path_factory.mktemp("shared"), "shared")


def audited_judge(server: ServerProcess, stub: Stub, folder: Path, name: str, **more) -> str:
    """A judge that has judged everything."""
    judge_id = new_judge(server, name, prompt=PROMPT, **more)
    assert command(arguments(server, judge_id, stub, folder)) == 0
    stub.asked.clear()
    stub.models.clear()
    return judge_id


def improve(server: ServerProcess, judge_id: str, stub: Stub, folder: Path, *more: str) -> int:
    _, *options = arguments(server, judge_id, stub, folder, "--propose", "--writer-model", "writer", *more)
    return command(["improve", *options])


def names_of(server: ServerProcess, name: str) -> list[str]:
    return [j.id for j in server.client().judges() if j.spec.name == name]


def test_better_instructions_are_kept(server, stub, tmp_path, capsys) -> None:
    judge_id = audited_judge(server, stub, tmp_path, "better")
    admin = server.client()
    found = admin.judge_disagreements(judge_id, limit=500)
    assert found.disagreements and 20 < found.num_exam == len(found.exam)
    prices = ["--price-input", "1", "--price-output", "2", "--writer-price-input", "100"]
    assert improve(server, judge_id, stub, tmp_path, *prices) == 0
    printed = capsys.readouterr().out
    assert f"-{OLD}\n+{NEW}\n" in printed
    assert f"on {found.num_exam} held-out audits" in printed
    # the writer read the answers that may be shown and none of the exam
    [asked] = [m["messages"][0]["content"] for m in stub.models if m["model"] == "writer"]
    texts = {c.trace_id: c.input_preview for c in admin.calls(limit=100).calls}
    assert all(texts[d.target.trace_id] in asked for d in found.disagreements[:20])
    assert not any(texts[t.trace_id] in asked for t in found.exam)
    assert OLD in asked
    assert "The model: YES. The annotators: NO." in asked
    # one call wrote, one judged each held-out answer, and both were paid for
    assert stub.asked.total() == 1 + found.num_exam
    cost = (20 * 100 + 10 * 2 + found.num_exam * (20 * 1 + 10 * 2)) / 1e6
    assert f"{1 + found.num_exam} calls, {cost:.4g} spent" in printed
    [kept] = [j for j in admin.judges() if j.spec.name == "better" and j.id != judge_id]
    assert kept.spec == replace(admin.judge(judge_id).spec, prompt=PROMPT.replace(OLD, NEW))
    assert (kept.calls.num_judged, kept.calls.num_calls) == (found.num_exam, found.num_exam)
    compared = admin.compare_judges(judge_id, kept.id)
    assert (compared.other.estimate, compared.num_answers) == (1, found.num_exam)
    assert compared.difference.low > 0
    # the same command again asks nothing and stores nothing
    assert improve(server, judge_id, stub, tmp_path, *prices) == 0
    assert stub.asked.total() == 1 + found.num_exam
    assert len(names_of(server, "better")) == 2


def test_what_is_not_surely_better_is_kept_only_on_request(server, stub, tmp_path, capsys) -> None:
    judge_id = audited_judge(server, stub, tmp_path, "same")
    stub.says = lambda q, body: says(q, body).replace(NEW, "Is it not bad?")
    assert improve(server, judge_id, stub, tmp_path) == 1
    assert "nothing is kept" in capsys.readouterr().out
    assert names_of(server, "same") == [judge_id]
    calls = stub.asked.total()
    assert improve(server, judge_id, stub, tmp_path, "--keep") == 0
    assert stub.asked.total() == calls
    assert len(names_of(server, "same")) == 2


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("429", "answered 429"),
        ("500", "answered 500"),
        ("401", "answered 401"),
        ("cut", "no whole answer"),
        ("garbage", "no chat completion"),
        ("Here you are: judge well.", "nothing between <instructions>"),
        ("<instructions>\nJudge by", "cut off by max_tokens"),
        ("<instructions> \n</instructions>", "nothing between <instructions>"),
        (f"<instructions>{'a' * 4001}</instructions>", "4,001 characters, at most 4,000"),
        (f"<instructions>{OLD}</instructions>", "changed nothing"),
    ],
)
def test_a_writer_that_fails_leaves_nothing(server, stub, shared, tmp_path, capsys, fault, sentence) -> None:
    stub.faults = lambda question, attempt: fault
    assert improve(server, shared, stub, tmp_path, "--attempts", "2") == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert "nothing is kept" in printed.err
    num = 1 if fault == "401" else 2
    assert f"{num} calls" in printed.out
    assert stub.asked.total() == num
    assert names_of(server, "shared") == [shared]


def test_an_exam_that_breaks_off_goes_on(server, stub, tmp_path, capsys) -> None:
    """The proposal and the verdicts that were paid for are not asked for again; nothing is stored before the end."""
    judge_id = audited_judge(server, stub, tmp_path, "broken")
    num = server.client().judge_disagreements(judge_id).num_exam
    bad: list[int] = []

    def faults(question: int, attempt: int) -> str:
        with stub.lock:
            if len(stub.models) == num // 2:
                bad.append(question)
        return "500" if question in bad else ""

    stub.faults = faults
    assert improve(server, judge_id, stub, tmp_path, "--attempts", "2", "--concurrency", "1") == 2
    assert "nothing is kept" in capsys.readouterr().err
    assert names_of(server, "broken") == [judge_id]
    stub.faults = lambda question, attempt: ""
    assert improve(server, judge_id, stub, tmp_path) == 0
    assert stub.asked.total() == 1 + num + 2
    assert [m["model"] for m in stub.models].count("writer") == 1


@pytest.mark.parametrize(
    ("budget", "calls"),
    [(["--budget-calls", "9"], 9), (["--budget-cost", "0.1", "--writer-price-output", "1000"], 0)],
)
def test_the_budget_holds_for_writer_and_judge(server, stub, shared, tmp_path, capsys, budget, calls) -> None:
    for _ in range(2):
        assert improve(server, shared, stub, tmp_path, *budget) == 1
        assert "budget is used up" in capsys.readouterr().err
    assert stub.asked.total() == calls
    assert names_of(server, "shared") == [shared]


def test_a_budget_without_prices_is_refused(server, stub, shared, tmp_path, capsys) -> None:
    assert improve(server, shared, stub, tmp_path, "--budget-cost", "0.1") == 2
    assert "limits nothing without --price-input" in capsys.readouterr().err
    assert stub.asked.total() == 0


def test_judges_that_follow_no_words_are_refused(server, stub, tmp_path, capsys) -> None:
    for backend in ("function", "reward"):
        judge_id = new_judge(
            server, f"no-{backend}", backend=backend, model="m:f", prompt="", verdicts={}, parser="number"
        )
        assert improve(server, judge_id, stub, tmp_path) == 2
        assert f"is a {backend} judge" in capsys.readouterr().err
    pair = new_judge(server, "no-pair", form="pairwise")
    assert improve(server, pair, stub, tmp_path) == 2
    assert "only pointwise" in capsys.readouterr().err
    idle = new_judge(server, "no-audits")
    assert improve(server, idle, stub, tmp_path) == 2
    assert "nothing to learn from" in capsys.readouterr().err
    assert stub.asked.total() == 0


def test_few_audits_try_nothing(server, stub, tmp_path, capsys) -> None:
    judge_id = new_judge(server, "few", prompt=PROMPT)
    stub.says = lambda question, body: f"VERDICT: {'NO' if is_good(question) else 'YES'}"
    assert command(arguments(server, judge_id, stub, tmp_path, "--limit", "10")) == 0
    found = server.client().judge_disagreements(judge_id)
    assert found.disagreements and 0 < found.num_exam < 10
    stub.asked.clear()
    assert improve(server, judge_id, stub, tmp_path) == 2
    assert "10 are needed" in capsys.readouterr().err
    assert stub.asked.total() == 0


def test_examples_and_a_proposal_go_together(server, stub, tmp_path) -> None:
    judge_id = audited_judge(server, stub, tmp_path, "both")
    assert improve(server, judge_id, stub, tmp_path, "--examples", "2") == 0
    [kept] = [j.spec for j in server.client().judges() if j.spec.name == "both" and j.id != judge_id]
    assert len(kept.examples) == 2
    assert NEW in kept.prompt
    judged = [m["messages"][0]["content"] for m in stub.models if m["model"] != "writer"]
    assert all(text.count("# Example question") == 2 for text in judged)


@pytest.mark.parametrize(
    "name", [n for n, t in TEMPLATES.items() if t.get("form", "pointwise") == "pointwise"]
)
def test_only_the_instructions_of_a_prompt_change(name: str) -> None:
    """The rest, from the paragraph of the first hole on, stays to the letter, and holes that were written are words."""
    spec = JudgeSpec(name="n", form="pointwise", backend="endpoint", model="m", **TEMPLATES[name])
    old = Prompt.of(spec.prompt)
    assert str(old) == spec.prompt
    assert old.instructions and not HOLE.search(old.instructions)
    made = proposed_prompt(
        spec, Reply("<instructions>no</instructions><instructions>Mind {answer}.\n</instructions>")
    )
    assert made == f"Mind answer.\n\n{old.rest}"
    assert HOLE.findall(made) == HOLE.findall(spec.prompt)


def test_prompts_of_other_shapes() -> None:
    guided = Prompt.of(guideline_prompt("Short.\n\nPolite."))
    assert guided.instructions.endswith("Short.\n\nPolite.")
    assert Prompt.of("Rate {answer}") == Prompt("", "Rate {answer}")
    assert str(Prompt("Mind.", "Rate {answer}")) == "Mind.\n\nRate {answer}"
    spec = JudgeSpec(
        name="n", form="pointwise", backend="endpoint", model="m", prompt="Rate {answer}", parser="number"
    )
    with pytest.raises(BackendError, match="nothing between"):
        proposed_prompt(spec, Reply(""))


def test_options_of_a_proposal_need_one(server, stub, tmp_path, capsys) -> None:
    judge_id = new_judge(server, "no-proposal")
    _, *options = arguments(server, judge_id, stub, tmp_path)
    assert command(["improve", *options]) == 2
    assert "belong to --propose" in capsys.readouterr().err
    connection = ["--url", server.url, "--api-key", server.key]
    local = audited_judge(server, stub, tmp_path, "no-endpoint")
    assert command(["improve", local, "--propose", *connection]) == 2
    assert "give --endpoint" in capsys.readouterr().err
