"""kill -9 in the middle, the same command again: the undisturbed curve, bit for bit. And two processes equal one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from heedloop_trainer.runs.folder import RunFolder

PROGRAM = Path(__file__).with_name("training_program.py")
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class Programs:
    """Runs of `training_program`, each in a process of its own that is forked from one which has imported everything."""

    def __init__(self, folder: Path) -> None:
        self.stderr = folder / "stderr"
        with self.stderr.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM)], env=ENV, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )  # fmt: skip
        self.folder = folder

    def run(self, method: str, folder: Path, **more: int) -> list[int]:
        """The exit statuses of its ranks."""
        assert self.process.stdin and self.process.stdout
        print(
            json.dumps({"method": method, "folder": str(folder), **more}), file=self.process.stdin, flush=True
        )
        return json.loads(self.process.stdout.readline())

    def whole(self, method: str) -> Path:
        """The folder of an undisturbed run in one process, trained once."""
        if not (self.folder / method).exists():
            assert self.run(method, self.folder / method) == [0], self.stderr.read_text()
        return self.folder / method

    def stop(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory):
    started = Programs(tmp_path_factory.mktemp("programs"))
    yield started
    started.stop()


def curve(folder: Path) -> list[dict[str, float]]:
    """The metrics without the times, which no seed decides."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if not k.startswith("time/") and k != "step_s"} for r in rows]


@pytest.mark.parametrize(("method", "kill_at"), [("sft", 3), ("ppo", 3)])
def test_a_killed_run_goes_on_to_the_same_bits(programs, method, kill_at, tmp_path):
    """Killed after step 3 was logged; the last resume point is step 2, so steps 2 and 3 come again."""
    assert programs.run(method, tmp_path, kill_at=kill_at) == [-signal.SIGKILL]
    assert (tmp_path / "resume").exists()
    assert len(curve(tmp_path)) == kill_at + 1
    assert programs.run(method, tmp_path) == [0], programs.stderr.read_text()
    assert curve(tmp_path) == curve(programs.whole(method))
    whole = load_file(programs.whole(method) / "parameters.safetensors")
    resumed = load_file(tmp_path / "parameters.safetensors")
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.parametrize("method", ["sft", "reward", "ppo"])
def test_two_processes_equal_one(programs, method, tmp_path):
    """FSDP2 over gloo: parameters after all steps agree within 1e-5 with one process."""
    assert programs.run(method, tmp_path, num_ranks=2) == [0, 0], programs.stderr.read_text()
    first = load_file(programs.whole(method) / "parameters.safetensors")
    second = load_file(tmp_path / "parameters.safetensors")
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert (value - second[name]).abs().max() < 1e-5, name


def test_a_crash_while_saving_leaves_the_old_point_whole(tmp_path, monkeypatch):
    """The disk fills up during the second save: the first resume point is still there, and the error says what to do."""
    from heedloop_trainer.runs import folder as runs

    run = RunFolder.create(tmp_path, "sft", save_every=1)
    run.save_state(1, {"w": torch.ones(3)}, {"note": "first"})

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "save_file", full)
    with pytest.raises(OSError, match="free some disk space"):
        run.save_state(2, {"w": torch.zeros(3)}, {"note": "second"})
    state = RunFolder.create(tmp_path, "sft", save_every=1).load_state()
    assert state is not None
    assert (state.step, state.values["note"]) == (1, "first")
    assert torch.equal(state.tensors["w"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".resume")] == []


def test_the_other_processes_of_a_run_read_its_folder_and_write_nothing(tmp_path):
    """After a crash under torchrun all processes go on from the one resume point that the first one wrote."""
    first = RunFolder.create(tmp_path, "sft", save_every=1)
    for step in range(3):
        first.log(step, loss=1.0 - step / 10)
    first.save_state(2, {"w": torch.ones(3)}, {})
    before = {p.name: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    other = RunFolder.follow(tmp_path, save_every=1)
    assert other.id == first.id
    state = other.load_state()
    assert state is not None
    assert state.step == 2
    assert [r["step"] for r in other.history] == [0, 1]
    other.log(2, loss=0.5)
    other.save_state(3, {"w": torch.zeros(3)}, {})
    other.finish()
    assert {p.name: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_folder_goes_on_only_with_its_own_run(tmp_path):
    first = RunFolder.create(tmp_path, "sft", snapshot_id="a" * 16)
    again = RunFolder.create(tmp_path, "sft", snapshot_id="a" * 16)
    assert again.id == first.id
    with pytest.raises(ValueError, match="snapshot_id"):
        RunFolder.create(tmp_path, "sft", snapshot_id="b" * 16)
    with pytest.raises(ValueError, match="method"):
        RunFolder.create(tmp_path, "ppo", snapshot_id="a" * 16)
    with pytest.raises(ValueError, match="reward_models is None"):
        RunFolder.create(tmp_path, "sft", config={"reward_models": ["x"]}, snapshot_id="a" * 16)
    again.finish()
    with pytest.raises(ValueError, match="finished run"):
        RunFolder.create(tmp_path, "sft", snapshot_id="a" * 16)


def test_a_run_that_never_began_is_begun_anew_with_what_was_missing(tmp_path):
    RunFolder.create(tmp_path, "sft").fail(ValueError("give --model"))
    run = RunFolder.create(tmp_path, "sft", parent="base")
    assert run.record.parent == "base"
    run.log(0, loss=1.0)
    run.fail(ValueError("the power went"))
    with pytest.raises(ValueError, match="parent is 'base'"):
        RunFolder.create(tmp_path, "sft", parent="another")
