"""`heedloop demo --fast`: the whole road of one thumb, from the decorator to the model that was trained on it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from heedloop_cli.main import main


@pytest.mark.slow
def test_the_loop_closes(tmp_path: Path) -> None:
    report_file, data = tmp_path / "report.json", tmp_path / "demo"
    command = [sys.executable, "-m", "heedloop_cli.main", "demo", "--fast", "--no-serve", "--seed", "3"]
    done = subprocess.run(
        [*command, "--data", str(data), "--report", str(report_file)],
        capture_output=True,
        text=True,
        timeout=840,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads(report_file.read_text())

    assert [s["stage"] for s in report["stages"]] == ["base", "sft", "ppo"]
    for stage in report["stages"]:
        assert stage["num_answers"] == 40, "every held-out question of a fresh user is stored once"
        assert 0 < stage["num_rated"] <= 40
        assert stage["rate"]["low"] <= stage["rate"]["estimate"] <= stage["rate"]["high"]
    assert report["num_leaked"] == 0

    thread = report["thread"]
    assert len(thread["snapshots"]) == 2, "a thumb on the base model is in both snapshots"
    assert {method for _, method, _ in thread["runs"]} == {"sft", "reward", "ppo"}
    for number in (thread["feedback_id"], thread["trace_id"], *thread["snapshots"]):
        assert number in done.stdout

    assert report["evaluation"]["evaluation"]["num_answered"] > 0 and report["evaluation"]["num_cases"] > 0
    worse, better = (r["results"]["experiment"] for r in report["releases"])
    assert [s["share"] for s in worse["steps"]] == [0.05, 1.0], "the server ramps by itself"
    assert [a["name"] for a in better["spec"]["arms"]] == ["v2", "v4", "trained"]
    assert better["spec"]["arms"][2]["run"] in {
        run_id for run_id, method, _ in thread["runs"] if method == "ppo"
    }

    AutoModelForCausalLM.from_pretrained(data / "runs" / "ppo" / "checkpoint")
    AutoModelForSequenceClassification.from_pretrained(data / "runs" / "reward" / "checkpoint")


def test_a_folder_with_something_in_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious").write_text("mine")
    assert main(["demo", "--no-serve", "--data", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]
