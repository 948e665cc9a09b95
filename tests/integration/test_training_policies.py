"""`heedloop train` where a policy writes: rejection sampling, an environment, rewards from files, a second dataset mixed in."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from server_process import ServerProcess
from training_world import QUICK, liked_snapshot

from heedloop.client import Client
from heedloop.schema import Demonstration, Message, PromptRow
from heedloop_cli.main import main
from heedloop_trainer.evaluation.evaluate import sample_responses
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.methods.sft import SFTConfig, demonstration_loss, train_sft
from heedloop_trainer.nn.checkpoints import load_policy, load_tokenizer, save_model
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.nn.scratch import SmallShape, small_policy, train_tokenizer

Train = Callable[..., int]
REWARDS = """
from measures import share


def more_e(responses):
    return [share(r.text) for r in responses]


def nothing(responses):
    return [0.0] * len(responses)


def too_few(responses):
    return [1.0]


def one_number(responses):
    return 1.0


def not_finite(responses):
    return [float("nan")] * len(responses)
"""
ENVIRONMENT = """
from pathlib import Path

from heedloop.schema import Message
from heedloop_trainer.ppo.episodes import Step
from measures import share


def environment(messages):
    with (Path(__file__).parent / "seen.txt").open("a") as file:
        file.write(" ".join(m.role for m in messages) + "\\n")
    if messages[-2].role == "user":
        return Step((Message("tool", "go on"),), share(messages[-1].text))
    return Step(reward=share(messages[-1].text))
"""
MEASURES = """
def share(text):
    return 4 * sum(c == "e" for c in text) / max(1, len(text))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The user's folder: their functions, and one module that both import."""
    made = tmp_path_factory.mktemp("policies")
    for name, text in (("rewards", REWARDS), ("world", ENVIRONMENT), ("measures", MEASURES)):
        (made / f"{name}.py").write_text(text)
    return made


@pytest.fixture(scope="module")
def place(folder) -> Iterator[tuple[Client, str, tuple[str, ...]]]:
    """A client, a snapshot, and the options that lead to them."""
    server = ServerProcess(folder).start()
    key, snapshot = liked_snapshot(server, folder, "policies")
    yield (
        Client(server.url, key),
        snapshot,
        ("--snapshot", snapshot, "--url", server.url, "--api-key", key),
    )
    server.kill()


@pytest.fixture(scope="module")
def train(place) -> Train:
    def run(method: str, out: Path, *args: object) -> int:
        return main(["train", method, "--out", *map(str, (out, *args)), *place[2]])

    return run


@pytest.fixture(scope="module")
def base(folder, place) -> Path:
    """A small policy that ends its answers, which random weights do not."""
    rows = list(place[0].snapshot_rows(place[1], "demonstrations"))
    tokenizer = train_tokenizer([m.text for r in rows for m in r.prompt] + [r.completion for r in rows])
    policy = small_policy(tokenizer, SmallShape(64, 2, 2, 128), seed=1)
    train_sft(SFTConfig(epochs=4, optimiser=OptimiserConfig(1e-2)), rows, policy, tokenizer)
    save_model(policy, tokenizer, folder / "base")
    return folder / "base"


def manifest(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())


def history(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def mean_share(model: Path, prompts: Sequence[PromptRow]) -> float:
    """Share of the letter e in a model's answers, which no function here is asked for."""
    sampling = SamplingConfig(max_new_tokens=24, seed=9)
    answers = sample_responses(load_policy(model), load_tokenizer(model), prompts, sampling)
    return sum(r.text.count("e") / max(1, len(r.text)) for r in answers) / len(answers)


def test_rejection_sampling_learns_the_best_of_its_own_answers(folder, place, train, base):
    out = folder / "rejection"
    reward = ("--reward-function", folder / "rewards.py:more_e", "--num-candidates", 6)
    assert train("rejection", out, "--model", base, *reward, *QUICK, "--sampling-max-new-tokens", 24) == 0
    found = manifest(out)
    metrics = found["metrics"]
    assert metrics["score_best"] > metrics["score_mean"] + 0.05
    prompts = list(place[0].snapshot_rows(place[1], "prompts"))
    num_trained = sum(p.split == "train" for p in prompts)
    assert 0 < metrics["num_rows"] <= num_trained, "one demonstration a prompt at most"
    assert mean_share(out / "checkpoint", prompts) > mean_share(base, prompts) + 0.005
    assert found["config"]["reward_function"].endswith("rewards.py:more_e")
    assert found["parent"] == str(base)
    assert "Demonstrations" in (out / "checkpoint" / "README.md").read_text()
    assert place[0].run(found["id"]).method == "rejection"


def test_rejection_sampling_looks_at_held_out_demonstrations(folder, train, base):
    reward = ("--reward-function", folder / "rewards.py:more_e", "--num-candidates", 4, "--limit", 8)
    looks = ("--eval-every", 1, "--max-steps", 1, "--sampling-max-new-tokens", 24)
    assert train("rejection", folder / "looked", "--model", base, *reward, *looks) == 0
    assert manifest(folder / "looked")["metrics"]["validation_loss"] > 0


def test_an_environment_answers_the_policys_turns_and_pays_for_them(folder, train, base):
    out = folder / "environment"
    several = ("--environment", folder / "world.py:environment", "--max-turns", 2, "--rollouts", 6)
    sizes = ("--batch-size", 32, "--minibatches", 2, "--max-response-tokens", 24, "--learning-rate", "2e-3")
    learned = ("--kl", 0, "--truncation", "score", "--max-prompt-tokens", 64)
    assert train("grpo", out, "--model", base, *several, *sizes, *learned) == 0
    roles = set((folder / "seen.txt").read_text().splitlines())
    assert roles == {"user assistant", "user assistant tool assistant"}
    paid = [row["objective/environment"] for row in history(out)]
    assert len(paid) == 6
    assert max(paid[3:]) > paid[0], "what the environment pays for is learned"
    assert manifest(out)["config"]["environment"].endswith("world.py:environment")
    load_policy(out / "checkpoint")


def test_a_second_dataset_is_mixed_in_and_learned(folder, place, train, base):
    other = [("Sing.", "La la la la."), ("Sing\u2028again.", "La la."), ("Sing low.", "La.")]
    file = folder / "general.jsonl"
    roles = ("user", "assistant")
    chats = [[{"role": r, "content": t} for r, t in zip(roles, pair, strict=True)] for pair in other]
    file.write_text("".join(json.dumps({"messages": chat}, ensure_ascii=False) + "\n" for chat in chats))
    settings = ("--model", base, *QUICK, "--epochs", 2)
    assert train("sft", folder / "alone", *settings) == 0
    assert train("sft", folder / "mixed", *settings, "--mix", f"{file}:0.5") == 0
    counts = [manifest(folder / n)["metrics"]["num_rows"] for n in ("alone", "mixed")]
    assert counts[1] == 2 * counts[0], "half of all rows come from the file"
    rows = [Demonstration((Message("user", q),), a) for q, a in other]
    alone, mixed = (
        demonstration_loss(SFTConfig(), rows, load_policy(model), load_tokenizer(model))
        for model in (folder / "alone" / "checkpoint", folder / "mixed" / "checkpoint")
    )
    assert mixed < 0.5 * alone
    assert manifest(folder / "mixed")["config"]["mix"] == f"{file}:0.5"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("sft", "--mix", "general.jsonl"), "--mix wants FILE:SHARE"),
        (("sft", "--mix", "general.jsonl:2"), "with a share between 0 and 1"),
        (("sft", "--mix", "nowhere.jsonl:0.5"), "--mix cannot read nowhere.jsonl"),
        (("dpo", "--mix", "chats.jsonl:0.5"), "line 1 of chats.jsonl is no row of comparisons"),
        (("rejection", "--num-candidates", 1), "num_candidates must be 2 or more, not 1"),
        (("rejection",), "rejection needs --reward-model FOLDER, --reward-function FILE.py:NAME, or both"),
        (("rejection", "--reward-function", "rewards.py:nothing"), "better than its others"),
        (("rejection", "--reward-function", "rewards.py:too_few"), "gave 1 numbers for"),
        (("rejection", "--reward-function", "rewards.py:one_number"), "must give a list of numbers"),
        (("grpo", "--reward-function", "rewards.py:one_number"), "must give a list of numbers"),
        (("rejection", "--reward-function", "rewards.py:not_finite"), "the reward of response 0 is nan"),
        (("grpo", "--reward-function", "rewards.py:missing"), "no reward function at 'rewards.py:missing'"),
        (("grpo", "--environment", "missing.py:step"), "no environment at 'missing.py:step'"),
        (("rloo", "--environment", "world.py:environment", "--max-turns", 0), "max_turns must be 1 or more"),
    ],
)
def test_what_is_wrong_with_a_file_or_a_function_is_said(
    folder, train, base, tmp_path, monkeypatch, capsys, args, sentence
):
    monkeypatch.chdir(folder)
    (folder / "chats.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}]}\n')
    short = () if args[0] == "rejection" else ("--max-prompt-tokens", 64)
    sampled = () if args[0] in ("sft", "dpo") else ("--max-response-tokens", 8)
    assert train(args[0], tmp_path / "run", "--model", base, "--limit", 8, *args[1:], *short, *sampled) == 2
    assert sentence in capsys.readouterr().err
