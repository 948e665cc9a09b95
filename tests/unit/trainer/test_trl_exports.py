"""Exported rows with tool calls train two steps in TRL, each form by the trainer that takes it.

Skipped where TRL is not installed (it is no dependency). To run it, in an environment of its own:

    pip install trl==1.16.0 torch==2.13.0 pytest '.[trainer]'
    PYTHONPATH=tests/unit/trainer pytest --noconftest -o addopts= tests/unit/trainer/test_trl_exports.py
"""

import json

import pytest

trl = pytest.importorskip("trl", reason="TRL is not installed: exports are not tried in it")

from chat_templates import tokenizer_of  # noqa: E402
from datasets import load_dataset  # noqa: E402

from heedloop.schema import Comparison, Demonstration, Message, PromptRow, ToolCall, ToolDefinition, Unpaired  # noqa: E402
from heedloop_cli.commands.peer_columns import peer_row  # noqa: E402
from heedloop_trainer.nn.encoder import Encoder  # noqa: E402
from heedloop_trainer.nn.scratch import SmallShape, small_classifier, small_policy  # noqa: E402

TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] or '') }}"
    "{% for c in m['tool_calls'] or [] %}{{ '<tool_call>' + c['function']['name'] + c['function']['arguments'] | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS = (
    ToolDefinition("find", "Find an order.", '{"type": "object", "properties": {"id": {"type": "integer"}}}'),
    ToolDefinition("track", "", '{"type": "object", "properties": {"code": {"type": "string"}}}'),
)
ASK = Message("user", "where is it")
FIND = Message("assistant", "", tool_calls=(ToolCall("find", '{"id": 17}', "c1"),))
TRACK = Message("assistant", "hello", tool_calls=(ToolCall("track", '{"code": "AB"}', "c2"),))
WHOLE = (
    ASK,
    FIND,
    Message("tool", "code AB", tool_call_id="c1"),
    TRACK,
    Message("tool", "in Oslo", tool_call_id="c2"),
)
ROWS = {
    "demonstrations": [
        Demonstration(WHOLE, "it is in Oslo", tools=TOOLS),
        Demonstration((ASK,), 'find({"id": 17})', completion_messages=(FIND,), tools=TOOLS),
        Demonstration((ASK,), "no idea"),
    ],
    "comparisons": [
        Comparison(WHOLE, "in Oslo", "no idea", tools=TOOLS),
        Comparison((ASK,), "find", "track", chosen_messages=(FIND,), rejected_messages=(TRACK,), tools=TOOLS),
    ],
    "unpaired": [
        Unpaired(WHOLE, "in Oslo", True, tools=TOOLS),
        Unpaired((ASK,), "track", False, completion_messages=(TRACK,), tools=TOOLS),
    ],
    "prompts": [PromptRow(WHOLE, tools=TOOLS), PromptRow((ASK,), tools=TOOLS)],
}  # fmt: skip


@pytest.fixture
def parts():
    tokenizer = tokenizer_of("chatml")
    tokenizer.chat_template = TEMPLATE
    tokenizer.pad_token = "<|pad|>" if tokenizer.pad_token is None else tokenizer.pad_token
    return tokenizer, SmallShape(32, 2, 2, 64, 2048)


@pytest.fixture
def exported(tmp_path):
    """`exported(form)`: the dataset that TRL's users load from the file that `heedloop export --to trl` writes."""

    def load(form):
        file = tmp_path / f"{form}.jsonl"
        lines = [json.dumps(peer_row(row, "trl")) for row in ROWS[form] * 4]
        file.write_text("\n".join(lines) + "\n")
        return load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))

    return load


def settings(cls, tmp_path, **changes):
    common = {
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
    }
    return cls(output_dir=str(tmp_path / "out"), bf16=False, gradient_checkpointing=False, **common, **changes)  # fmt: skip


def saved(model, tokenizer, folder):
    """TRL loads its frozen reference by path."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def finish(trainer):
    done = trainer.train()
    assert trainer.state.global_step == 2
    assert done.training_loss == done.training_loss, "the loss is a number"


def test_sft(parts, exported, tmp_path):
    tokenizer, shape = parts
    model = small_policy(tokenizer, shape, seed=1)
    trainer = trl.SFTTrainer(
        model=model, args=settings(trl.SFTConfig, tmp_path, max_length=1024), processing_class=tokenizer,
        train_dataset=exported("demonstrations"),
    )  # fmt: skip
    seen = [list(row["input_ids"]) for row in trainer.train_dataset][:3]
    for row, ids in zip(ROWS["demonstrations"], seen, strict=True):
        [[sequence]] = Encoder(tokenizer, 2048).rows([row]).sequences
        own = sequence.prompt_ids + sequence.response_ids
        assert ids[: len(own)] == own, "TRL reads the tokens that our trainer reads"
    finish(trainer)


@pytest.mark.parametrize(("method", "form"), [("DPO", "comparisons"), ("KTO", "unpaired")])
def test_preferences(parts, exported, tmp_path, method, form):
    tokenizer, shape = parts
    path = saved(small_policy(tokenizer, shape, seed=1), tokenizer, tmp_path / "model")
    args = settings(getattr(trl, f"{method}Config"), tmp_path, max_length=1024)
    trainer = getattr(trl, f"{method}Trainer")(
        model=path, args=args, processing_class=tokenizer, train_dataset=exported(form)
    )
    finish(trainer)


def test_reward(parts, exported, tmp_path):
    tokenizer, shape = parts
    model = small_classifier(tokenizer, shape, seed=1)
    trainer = trl.RewardTrainer(
        model=model, args=settings(trl.RewardConfig, tmp_path, max_length=1024), processing_class=tokenizer,
        train_dataset=exported("comparisons"),
    )  # fmt: skip
    finish(trainer)


def test_grpo(parts, exported, tmp_path):
    tokenizer, shape = parts
    path = saved(small_policy(tokenizer, shape, seed=1), tokenizer, tmp_path / "model")
    args = settings(trl.GRPOConfig, tmp_path, num_generations=2, max_completion_length=8)
    trainer = trl.GRPOTrainer(
        model=path, args=args, processing_class=tokenizer, train_dataset=exported("prompts"),
        reward_funcs=lambda completions, **rest: [float(len(c[0]["content"])) for c in completions],
    )  # fmt: skip
    finish(trainer)
