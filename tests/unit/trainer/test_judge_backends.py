"""Local models as judges: the verdicts' probabilities against the model's own logits, and reward models of every kind."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from heedloop.schema import Comparison, JudgeSpec, Message
from heedloop_trainer.evaluation.judge_backends import checkpoint, reward
from heedloop_trainer.methods.reward_linear import LinearRewardConfig, train_reward_linear

ASK = (Message("user", "How long does delivery take?"),)
SPEC = JudgeSpec(
    "n", "pointwise", "checkpoint", "m", prompt="{answer}", parser="token_probability", verdicts={"w1": 1.0, "w2": 0.0}
)  # fmt: skip


@pytest.fixture
def folder(policy, tokenizer, tmp_path: Path) -> Path:
    policy.model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_verdicts_have_the_probability_of_the_models_own_logits(folder: Path) -> None:
    found = checkpoint(SPEC, folder)("w5 w6 w7")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        shares = torch.softmax(model(torch.tensor([[7, 8, 9]])).logits[0, -1], -1)
    assert found["probabilities"] == pytest.approx({"w1": float(shares[3]), "w2": float(shares[4])}, rel=1e-4)
    assert (found["input_tokens"], found["output_tokens"]) == (3, 1)
    with pytest.raises(ValueError, match="same token"):
        checkpoint(
            JudgeSpec(
                "n",
                "pointwise",
                "checkpoint",
                "m",
                prompt="x",
                parser="token_probability",
                verdicts={"w1 w2": 1.0, "w1": 0.0},
            ),
            folder,
        )


def test_words_are_generated_up_to_the_limit(folder: Path) -> None:
    spec = JudgeSpec(
        "n",
        "pointwise",
        "checkpoint",
        "m",
        prompt="x",
        verdicts={"w1": 1.0, "w2": 0.0},
        parameters={"max_tokens": 5},
    )
    found = checkpoint(spec, folder)("w5 w6")
    assert found["output_tokens"] <= 5
    assert isinstance(found["text"], str)


def test_a_linear_reward_model_gives_the_probability_that_the_first_wins(tmp_path: Path) -> None:
    rows = [
        Comparison(ASK, chosen=f"It takes two days, order {n}.", rejected=f"No idea about order {n}!")
        for n in range(40)
    ]
    model = train_reward_linear(LinearRewardConfig(), rows)
    model.save(tmp_path)
    value = reward(JudgeSpec("n", "pairwise", "reward", "m"), tmp_path)
    better, worse = "It takes two days.", "No idea!"
    first, second = value(ASK, [better, worse]), value(ASK, [worse, better])
    assert first > 0.8
    assert first + second == pytest.approx(1)
    margin = float(model.margins([Comparison(ASK, chosen=better, rejected=worse)])[0])
    assert first == pytest.approx(1 / (1 + np.exp(-margin)))
    assert value(ASK, [better]) > value(ASK, [worse])
