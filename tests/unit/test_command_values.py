"""Files and options of the commands that hold the wrong thing: one sentence that names them, never a traceback."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

import pytest

from heedloop_cli.commands import evaluate, experiment, judge, prompt, review

ARMS = ["define", "e", "--arm", "a={}", "--arm", "b={}"]
KEY = ["--url", "http://127.0.0.1:9", "--api-key", "hl_0123456789ab_" + "x" * 43]


def refused(module: ModuleType, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    assert module.run(parser.parse_args([*argv, *KEY])) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("text", ["[1]", "3", "{", "", '"text"', "\xff"])
@pytest.mark.parametrize(
    ("module", "argv"),
    [(experiment, ["define", "--file"]), (judge, ["create", "--file"]), (prompt, ["push", "p"])],
    ids=["experiment", "judge", "prompt"],
)
def test_a_file_without_an_object_is_named(module, argv, text: str, tmp_path: Path, capsys) -> None:
    file = tmp_path / "wrong.json"
    file.write_bytes(text.encode("latin-1"))
    assert f"{file} " in refused(module, [*argv, str(file)], capsys)


def test_a_file_of_questions_that_is_no_json_is_named(tmp_path: Path, capsys) -> None:
    file = tmp_path / "wrong.json"
    file.write_bytes(b"\xff")
    assert f"{file} is no JSON" in refused(review, ["create", "q", "--questions", str(file)], capsys)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--arm", "c={bad"), ("--weight", "a=heavy"), ("--guardrail", "error"), ("--guardrail", "error:x"), ("--ramp", "5%,1")],
)  # fmt: skip
def test_an_option_of_an_experiment_is_named(option: str, value: str, capsys) -> None:
    assert option in refused(experiment, [*ARMS, option, value], capsys)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--limit", "0"], "--limit: 0"),
        (["--limit", "-1"], "--limit: -1"),
        (["--allow", "token_f1=much"], "--allow token_f1"),
        (["--parameter", "temperature=warm"], "--parameter temperature"),
    ],
)
def test_an_option_of_an_evaluation_is_named(more: list[str], says: str, tmp_path: Path, capsys) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text('{"prompt": "Where?"}\n')
    argv = ["http://127.0.0.1:9/v1", "--model", "m", "--file", str(file), "--local", *more]
    assert says in refused(evaluate, argv, capsys)


@pytest.mark.parametrize("target", ["./nowhere", "nowhere", "nowhere:", ":f", "./no.where:f", "broken_app:f", "raising_app:f"])  # fmt: skip
def test_a_target_that_is_none_is_named(target: str, tmp_path: Path, capsys, monkeypatch) -> None:
    """Also a module whose own code fails when it is imported, with the place where it did."""
    (tmp_path / "broken_app.py").write_text("def f(:\n")
    (tmp_path / "raising_app.py").write_text("import sys\n[][3]\n")
    (tmp_path / "one.jsonl").write_text('{"prompt": "Where?"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HEEDLOOP_EVALUATED", "")  # set by a function as target, and taken back here
    err = refused(evaluate, [target, "--file", "one.jsonl", "--local"], capsys)
    assert target.partition(":")[0] in err
    assert "raising_app.py, line 2" in err or not target.startswith("raising")
