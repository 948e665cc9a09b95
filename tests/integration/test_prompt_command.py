"""`heedloop prompt` against a server: push, diff, label, pull; and optimise, whose winner held-out corrections must confirm."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_stub import Stub
from forked_server import ForkedServer
from review_people import call
from server_process import ServerProcess, wait_for

from heedloop.schema import Author, Feedback, JudgeSpec, Prompt, Target
from heedloop_cli.commands import prompt

NUM = 90


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Ninety answers that users corrected."""
    one = ForkedServer(tmp_path_factory.mktemp("prompts")).start()
    try:
        client = one.client()
        calls = [call(f"Question {n}: {'x' * (n % 7)} {n * 7919}?", f"Wrong {n}.") for n in range(NUM)]
        client.send_calls(calls)
        wait_for(lambda: len(client.calls(limit=200).calls) == NUM, what="the calls")
        client.send_feedback(
            Feedback(
                "correction",
                Target(trace_id=c.trace_id, span_id=c.span_id),
                correction=f"Right {n}, of {n * 7919}.",
                author=Author("end_user", f"user-{n}"),
            )
            for n, c in enumerate(calls)
        )
        client.make_cases("corrected")
        yield one
    finally:
        one.stop()


def command(server: ServerProcess, *argv: str) -> int:
    parser = argparse.ArgumentParser()
    prompt.add_arguments(parser)
    return prompt.run(parser.parse_args([*argv, "--url", server.url, "--api-key", server.key]))


def test_push_diff_label_pull(server, tmp_path: Path, capsys) -> None:
    text, chat = tmp_path / "a.txt", tmp_path / "b.json"
    text.write_text("Answer {{question}} briefly.\n")
    chat.write_text('{"messages": [{"role": "system", "text": "Be kind."}], "settings": {"temperature": 0}}')
    assert command(server, "push", "faq", str(text), "--label", "production") == 0
    text.write_text("Answer {{question}} in one sentence.\n")
    assert command(server, "push", "faq", str(text), "--note", "shorter") == 0
    assert capsys.readouterr().out == "faq 1 production\nfaq 2\n"
    assert command(server, "diff", "faq", "production") == 0
    assert capsys.readouterr().out == "Answer {{question}} [-briefly-]{+in one sentence+}.\n"
    assert command(server, "label", "faq", "production", "latest") == 0
    assert command(server, "pull", "faq", "--label", "production") == 0
    assert capsys.readouterr().out.endswith("Answer {{question}} in one sentence.\n")
    assert command(server, "push", "faq", str(chat)) == 0
    assert command(server, "diff", "faq", "2", "3") == 0
    assert "settings: {} -> {" in capsys.readouterr().out
    assert command(server, "list") == 0
    assert "faq: 3 versions" in capsys.readouterr().out
    assert command(server, "label", "faq", "production", "none") == 0
    assert command(server, "pull", "faq", "--label", "production") == 2
    assert "heedloop prompt list" in capsys.readouterr().err


@pytest.mark.parametrize("helps", [True, False])
def test_only_words_that_held_out_corrections_confirm_are_stored(server, tmp_path, capsys, helps) -> None:
    """The model obeys "Be exact"; the one that proposes says it, or says what changes nothing."""
    pytest.importorskip("gepa")
    name = f"support-{helps}"
    first = server.client().create_prompt(Prompt(name, "Be kind.")).prompt
    proposed = "Be exact and kind." if helps else "Be very kind."

    def says(n: int, body: dict) -> str:
        if body["model"] == "thinker":
            return f"```\n{proposed}\n```"
        return f"Right {n}, of {n * 7919}." if "exact" in body["messages"][0]["content"] else f"Wrong {n}."

    with Stub() as stub:
        stub.says = says
        code = command(
            server, "optimise", name, "--label", "latest", "--cases", "corrected", "--endpoint", stub.url,
            "--model", "answerer", "--reflection-model", "thinker", "--calls", "60",
        )  # fmt: skip
    versions = server.client().prompt(name).versions
    if helps:
        assert code == 0, capsys.readouterr()
        assert (versions[0].prompt.text, versions[0].labels) == ("Be exact and kind.", ["candidate"])
        assert f"optimised from {first.version}" in versions[0].note
    else:
        assert code == 1, capsys.readouterr()
        assert [v.prompt.text for v in versions] == ["Be kind."]


def test_the_search_reads_a_judge_as_judge_run_does(server) -> None:
    """A verdict that holds another one: what the proposing model sees is the mean of 0 for the words and the judge's 1."""
    pytest.importorskip("gepa")
    spec = JudgeSpec(
        "strict", "pointwise", "endpoint", "judge", prompt="{examples}{question}\n{answer}",
        verdicts={"BAD": 0.0, "NOT BAD": 1.0},
    )  # fmt: skip
    judge = server.client().create_judge(spec).id
    server.client().create_prompt(Prompt("judged", "Be kind."))
    says = {"thinker": "```\nBe very kind.\n```", "judge": "BAD would be worse.\nVERDICT: NOT BAD"}
    with Stub() as stub:
        stub.says = lambda n, body: says.get(body["model"], f"Wrong {n}.")
        code = command(
            server, "optimise", "judged", "--label", "latest", "--cases", "corrected", "--endpoint", stub.url,
            "--model", "answerer", "--reflection-model", "thinker", "--judge", "strict", "--calls", "60",
        )  # fmt: skip
    asked = {n: [b["messages"][-1]["content"] for b in stub.models if b["model"] == n] for n in says}
    assert code == 1
    assert asked["thinker"] and all("Score 0.50 of 1." in text for text in asked["thinker"])
    assert all("{" not in text for text in asked["judge"])
    assert judge.startswith("strict@")
