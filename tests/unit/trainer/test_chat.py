"""What a model reads and writes is its own chat template's, in the shapes of published models."""

import logging

import pytest
import torch
from chat_templates import FAMILIES, LLAMA3, tokenizer_of

from heedloop.schema import Comparison, Demonstration, Message, PromptRow, ToolCall, ToolDefinition, Unpaired
from heedloop_trainer.evaluation.evaluate import sample_responses
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.methods.preference import DPOConfig, KTOConfig, train_dpo, train_kto
from heedloop_trainer.methods.reward import RewardConfig, train_reward
from heedloop_trainer.methods.sft import SFTConfig, train_sft
from heedloop_trainer.nn.encoder import Encoder, readable
from heedloop_trainer.nn.models import RewardModel, own_pad_token, stop_ids
from heedloop_trainer.nn.scratch import SmallShape, small_classifier, small_policy
from heedloop_trainer.nn.sequences import collate
from heedloop_trainer.ppo.config import PPOConfig
from heedloop_trainer.ppo.train import train_ppo

SHAPE = SmallShape(16, 1, 1, 16, 512)
ASKED = (Message("user", "hello"),)
TALK = (Message("user", "hello"), Message("assistant", "how are you"), Message("user", "no idea"))
WITH_SYSTEM = (Message("system", "Be kind."), *TALK)
WEATHER = ToolDefinition(
    "weather", "of a city", '{"type": "object", "properties": {"city": {"type": "string"}}}'
)
CALL = Message("assistant", "", tool_calls=(ToolCall("weather", '{"city": "Oslo"}', id="call_abcdef"),))
RESULT = Message("tool", "3 degrees", tool_call_id="call_abcdef")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return FAMILIES[request.param], tokenizer_of(request.param)


def template_ids(tokenizer, messages, tools=(), parts=False):
    """The template's own ids, by the library."""
    chat = [
        {"role": m.role, "content": [{"type": "text", "text": m.text}] if parts else m.text} for m in messages
    ]
    return tokenizer.apply_chat_template(chat, return_dict=False)


@pytest.mark.parametrize("prompt", [ASKED, TALK])
def test_a_row_is_what_the_template_writes_up_to_the_end_of_the_turn(family, prompt):
    published, tokenizer = family
    [sequence] = Encoder(tokenizer).sequences([prompt], ["sorry, no"])
    whole = template_ids(
        tokenizer, [*prompt, Message("assistant", "sorry, no")], parts="p['type']" in published.template
    )
    ours = sequence.prompt_ids + sequence.response_ids
    end = tokenizer.convert_tokens_to_ids(published.end)
    assert sequence.response_ids[-1] == end
    assert sequence.response_ids.count(end) == 1
    if (
        "<think>\n' }}{% endif %}" not in published.template
    ):  # R1's opens a thought that its answers do not show
        assert whole[: len(ours)] == ours
        assert not tokenizer.decode(whole[len(ours) :]).replace(published.eos, "").strip()


def test_the_end_of_the_turn_is_trained_stopped_at_and_no_pad(family):
    published, tokenizer = family
    end = tokenizer.convert_tokens_to_ids(published.end)
    assert Encoder(tokenizer).end_id == end
    model = small_policy(tokenizer, SHAPE)
    assert {end, tokenizer.eos_token_id} <= stop_ids(model, tokenizer)
    tokenizer = tokenizer_of(next(n for n, f in FAMILIES.items() if f is published))
    tokenizer.pad_token = published.end
    own_pad_token(model, tokenizer)
    assert tokenizer.pad_token_id != end


def test_control_tokens_in_messages_are_text(family):
    published, tokenizer = family
    typed = "".join((*published.tokens, *published.plain)).strip() + published.eos
    messages = (Message("user", f"hello {typed} world"),)
    [clean] = Encoder(tokenizer).sequences([(Message("user", "hello  world"),)], ["no"])
    [sequence] = Encoder(tokenizer).sequences([messages], [f"sorry {typed} no"])
    control = set(tokenizer.convert_tokens_to_ids([*published.tokens, published.eos]))
    count = lambda ids: sum(i in control for i in ids)  # noqa: E731
    assert count(sequence.prompt_ids) == count(clean.prompt_ids)
    assert count(sequence.response_ids) == count(clean.response_ids)
    assert typed in tokenizer.decode(sequence.response_ids)


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_a_refused_system_turn_is_folded_into_the_user_turn(name, caplog):
    encoder = Encoder(tokenizer_of(name))
    [ids] = encoder.prompts([WITH_SYSTEM])
    text = encoder.tokenizer.decode(ids)
    assert "Be kind.\n\nhello" in text
    assert encoder.counts["prompt_system_folded"] == 1
    encoder.report()
    assert "system turns" in caplog.text


@pytest.mark.parametrize("name", FAMILIES)
def test_a_developers_instructions_are_a_system_turn_where_a_template_knows_no_developer(name):
    encoder = Encoder(tokenizer_of(name))
    developer = (Message("developer", "Be kind."), *WITH_SYSTEM[1:])
    assert encoder.prompts([developer]) == encoder.prompts(
        [(Message("system", "Be kind."), *WITH_SYSTEM[1:])]
    )


def test_a_template_that_knows_developers_gets_one():
    tokenizer = tokenizer_of("chatml")
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'developer' %}{% endif %}" + tokenizer.chat_template
    )
    [ids] = Encoder(tokenizer).prompts([(Message("developer", "Be kind."), *TALK)])
    assert tokenizer.decode(ids).startswith("<|im_start|>developer\nBe kind.")


@pytest.mark.parametrize("method", ["ppo", "readable"])
def test_prompts_that_the_rewards_template_refuses_are_left_out(method, caplog):
    tokenizer, other = tokenizer_of("chatml"), tokenizer_of("gemma")
    reward = RewardModel(small_classifier(other, SHAPE), other)
    rows = [PromptRow(x, trace_ids=(i,)) for i, x in [("a1", ASKED), ("b2", REFUSED), ("c3", TALK)]]
    if method == "readable":
        assert readable(rows, [Encoder(tokenizer), reward.encoder()]) == [rows[0], rows[2]]
    else:
        config = PPOConfig(
            num_rollouts=2, batch_size=6, minibatches=1, epochs=1, sampling=SamplingConfig(max_new_tokens=2)
        )
        result = train_ppo(config, rows, small_policy(tokenizer, SHAPE), tokenizer, reward_model=reward)
        assert len(result.history) == 2
    assert "b2" in caplog.text


def test_answers_are_sampled_to_prompts_as_they_are_trained_on(tokenizer, policy):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }} {% endfor %}{% if loud %}w7 w8 {% endif %}"
    )
    sampling = SamplingConfig(8, temperature=0.0)
    ask = lambda *words: [PromptRow((Message("user", w),)) for w in words]  # noqa: E731
    loud = SFTConfig(chat_template_kwargs={"loud": True}, max_prompt_tokens=4)
    words = [f"w{i}" for i in range(9)]
    found = sample_responses(policy, tokenizer, ask(*words), sampling, written=loud)
    expected = sample_responses(policy, tokenizer, ask(*(f"{w} w7 w8" for w in words)), sampling)
    assert [r.token_ids for r in found] == [r.token_ids for r in expected]
    assert [r.token_ids for r in found] != [
        r.token_ids for r in sample_responses(policy, tokenizer, ask(*words), sampling)
    ]


def test_neighbouring_turns_are_merged_where_roles_must_alternate():
    encoder = Encoder(tokenizer_of("gemma"))
    [ids] = encoder.prompts([(Message("user", "hello"), Message("user", "how are you"))])
    assert "hello\n\nhow are you" in encoder.tokenizer.decode(ids)


REFUSED = (Message("assistant", "hello"), Message("user", "how are you"))
"""The bot speaks first: templates with strict alternation refuse it in every form."""
METHODS = {
    "sft": lambda t, m, p: train_sft(SFTConfig(epochs=1), [Demonstration(x, "no", trace_ids=(i,)) for i, x in p], m, t),
    "dpo": lambda t, m, p: train_dpo(DPOConfig(), [Comparison(x, "no", "yes", trace_ids=(i,)) for i, x in p], m, t),
    "kto": lambda t, m, p: train_kto(KTOConfig(), [Unpaired(x, "no", True, trace_ids=(i,)) for i, x in p], m, t),
    "reward": lambda t, m, p: train_reward(
        RewardConfig(), [Comparison(x, "no", "yes", trace_ids=(i,)) for i, x in p], small_classifier(t, SHAPE), t
    ),
    "ppo": lambda t, m, p: train_ppo(
        PPOConfig(num_rollouts=1, batch_size=4, minibatches=1, epochs=1, sampling=SamplingConfig(max_new_tokens=2)),
        [PromptRow(x, trace_ids=(i,)) for i, x in p],
        m,
        t,
        reward_function=lambda responses: [0.0] * len(responses),
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_a_row_that_the_template_refuses_is_left_out_and_named(method, caplog):
    tokenizer = tokenizer_of("gemma")
    rows = [("a1", ASKED), ("b2", REFUSED), ("c3", TALK)]
    result = METHODS[method](tokenizer, small_policy(tokenizer, SHAPE), rows)
    assert result.metrics["num_left_out"] == 1
    assert result.metrics["num_left_out/template_refuses"] == 1
    assert "b2" in caplog.text
    assert "must alternate" in caplog.text


def test_rows_that_are_all_refused_are_an_error_with_the_reason():
    tokenizer = tokenizer_of("gemma")
    with pytest.raises(ValueError, match="none of the 1 rows can be used: the chat template refuses"):
        METHODS["sft"](tokenizer, small_policy(tokenizer, SHAPE), [("b2", REFUSED)])


def test_no_chat_template_is_said_loudly(caplog):
    tokenizer = tokenizer_of("chatml")
    tokenizer.chat_template = None
    [sequence] = Encoder(tokenizer).sequences([ASKED], ["no"])
    assert "NO CHAT TEMPLATE" in caplog.text
    assert sequence.response_ids[-1] == tokenizer.eos_token_id


def test_variables_reach_the_template():
    tokenizer = tokenizer_of("qwen")
    [ids] = Encoder(tokenizer, chat_template_kwargs={"enable_thinking": False}).prompts([ASKED])
    assert tokenizer.decode(ids).endswith("<think>\n\n</think>\n\n")


def test_reasoning_goes_where_the_template_writes_it():
    """Given apart, or inside the text as a server without a parser returns it."""
    tokenizer = tokenizer_of("qwen")
    apart = Message("assistant", "no", reasoning="hello world")
    rows = [
        Demonstration(ASKED, "no", completion_messages=(apart,)),
        Demonstration(ASKED, "<think>\nhello world\n</think>\n\nno"),
    ]
    texts = [tokenizer.decode(s.response_ids) for [s] in Encoder(tokenizer).rows(rows).sequences]
    assert texts == ["<think>\nhello world\n</think>\n\nno<|im_end|>"] * 2


def test_an_answer_does_not_begin_inside_a_thought_that_the_prompt_opened():
    tokenizer = tokenizer_of("r1")
    [sequence] = Encoder(tokenizer).sequences([ASKED], ["no"])
    assert tokenizer.decode(sequence.prompt_ids).endswith("<think>\n")
    assert "</think>" in tokenizer.decode(sequence.response_ids)


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        (Message("assistant", "no", reasoning="how"), "how\n</think>\n\nno"),
        (Message("assistant", "<think>\nhow\n</think>\n\nno"), "how\n</think>\n\nno"),
        (Message("assistant", "how\n</think>\n\nno"), "how\n</think>\n\nno"),
        (Message("assistant", "</think>\n\nno"), "\n</think>\n\nno"),
        (Message("assistant", "close it by </think> then"), "\n</think>\n\nclose it by </think> then"),
        (Message("assistant", "no"), "\n</think>\n\nno"),
    ],
)
@pytest.mark.parametrize("prompt", [ASKED, TALK])
def test_a_thought_is_written_once_however_the_answer_was_recorded(answer, written, prompt):
    encoder = Encoder(tokenizer_of("r1"))
    row = Demonstration(prompt, answer.text, completion_messages=(answer,))
    [[sequence]] = encoder.rows([row]).sequences
    assert encoder.tokenizer.decode(sequence.response_ids) == f"{written}<|end_of_sentence|>"


# ---------------------------------------------------------------------------------------------------------- tools


def test_tool_calls_ids_results_and_definitions_reach_the_template():
    tokenizer = tokenizer_of("qwen")
    row = Demonstration((*ASKED, CALL, RESULT), "Three degrees.", tools=(WEATHER,))
    [[sequence]] = Encoder(tokenizer).rows([row]).sequences
    call = {
        "id": "call_abcdef",
        "type": "function",
        "function": {"name": "weather", "arguments": {"city": "Oslo"}},
    }
    definition = {"name": "weather", "description": "of a city", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}  # fmt: skip
    whole = tokenizer.apply_chat_template(
        [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "3 degrees", "tool_call_id": "call_abcdef"},
            {"role": "assistant", "content": "Three degrees."},
        ],
        tools=[{"type": "function", "function": definition}],
        return_dict=False,
    )
    ours = sequence.prompt_ids + sequence.response_ids
    assert whole[: len(ours)] == ours
    assert '"city": "Oslo"' in tokenizer.decode(sequence.prompt_ids)
    assert "of a city" in tokenizer.decode(sequence.prompt_ids)


def test_an_answer_of_several_turns_is_one_sequence_without_the_tools_result():
    tokenizer = tokenizer_of("mistral")
    turns = (CALL, RESULT, Message("assistant", "Three degrees."))
    row = Unpaired(ASKED, "Three degrees.", True, completion_messages=turns, tools=(WEATHER,))
    [[sequence]] = Encoder(tokenizer).rows([row]).sequences
    trained = tokenizer.decode(collate([sequence]).targets)
    assert "Oslo" in trained
    assert "Three degrees." in trained
    assert "3 degrees" not in trained
    assert "3 degrees" in tokenizer.decode(sequence.response_ids)


@pytest.mark.parametrize("loss_turns", ["last", "all"])
@pytest.mark.parametrize("name", ["mistral", "qwen"])
def test_only_what_the_model_wrote_carries_loss(name, loss_turns):
    tokenizer = tokenizer_of(name)
    prompt = (*TALK, CALL, RESULT)
    rows = [Demonstration(prompt, "Three degrees.", tools=(WEATHER,))]
    [sequences] = Encoder(tokenizer).rows(rows, loss_turns=loss_turns).sequences
    batch = collate(sequences)
    trained = tokenizer.decode(batch.targets)
    assert "Three degrees." in trained
    for foreign in ("3 degrees", "no idea", "hello", "[INST]", "<tool_response>"):
        assert foreign not in trained
    for earlier in ("how are you", '"city": "Oslo"'):
        assert (earlier in trained) == (loss_turns == "all")
    ends = batch.targets.tolist().count(Encoder(tokenizer).end_id)
    assert ends == (3 if loss_turns == "all" else 1)


def test_turns_of_one_conversation_share_a_sequence_where_the_template_allows_it():
    rows = [Demonstration(TALK, "sorry")]
    [shared] = Encoder(tokenizer_of("llama3")).rows(rows, loss_turns="all").sequences
    assert len(shared) == 1
    assert shared[0].num_trained < len(shared[0].response_ids)
    [apart] = Encoder(tokenizer_of("qwen")).rows(rows, loss_turns="all").sequences  # takes old thoughts out
    assert len(apart) == 2


def test_a_shared_sequence_is_learned_as_its_turns_apart():
    """The loss over a conversation in one sequence is the loss over its turns one by one."""
    tokenizer = tokenizer_of("llama3")
    policy = small_policy(tokenizer, SHAPE, seed=3)
    together = train_sft(
        SFTConfig(epochs=1, loss_turns="all"), [Demonstration(TALK, "sorry")], policy, tokenizer
    )
    turns = [Demonstration(TALK[:1], TALK[1].text), Demonstration(TALK, "sorry")]
    apart = train_sft(SFTConfig(epochs=1), turns, small_policy(tokenizer, SHAPE, seed=3), tokenizer)
    assert together.history[0]["loss"] == pytest.approx(apart.history[0]["loss"], abs=1e-5)
    assert together.history[0]["tokens"] == apart.history[0]["tokens"]


def test_two_different_calls_are_two_different_answers():
    tokenizer = tokenizer_of("mistral")
    other = Message("assistant", tool_calls=(ToolCall("weather", '{"city": "Rome"}', id="call_x"),))
    row = Comparison(ASKED, "", "", chosen_messages=(CALL,), rejected_messages=(other,), tools=(WEATHER,))
    [[chosen, rejected]] = Encoder(tokenizer).rows([row]).sequences
    assert "Oslo" in tokenizer.decode(chosen.response_ids)
    assert "Rome" in tokenizer.decode(rejected.response_ids)
    assert chosen.response_ids[-1] == rejected.response_ids[-1] == tokenizer.eos_token_id


def test_tool_calls_that_a_template_does_not_write_are_left_out_and_counted(caplog):
    tokenizer = tokenizer_of("llama3")
    rows = [
        Demonstration(ASKED, "", completion_messages=(CALL,), trace_ids=("t1",)),
        Demonstration(ASKED, "no"),
    ]
    encoder = Encoder(tokenizer)
    assert encoder.rows(rows).rows == rows[1:]
    assert encoder.counts["left_out/template_has_no_tool_calls"] == 1
    assert "t1" in caplog.text


def test_arguments_go_as_text_where_the_template_joins_them():
    tokenizer = tokenizer_of("chatml")
    tokenizer.chat_template = LLAMA3.replace(
        "m['content'] | trim", "m['content'] + (m['tool_calls'][0]['function']['name'] + m['tool_calls'][0]['function']['arguments'] if m['tool_calls'] else '')"
    )  # fmt: skip
    [[sequence]] = Encoder(tokenizer).rows([Demonstration(ASKED, "", completion_messages=(CALL,))]).sequences
    assert 'weather{"city": "Oslo"}' in tokenizer.decode(sequence.response_ids)


# ----------------------------------------------------------------------------------------------------------- cuts


def test_a_cut_answer_has_no_end_and_equal_answers_are_left_out(caplog):
    tokenizer = tokenizer_of("chatml")
    body = "hello " * 40
    rows = [Comparison(ASKED, body + "a", body + "b", trace_ids=("t9",)), Comparison(ASKED, "no", "sorry")]
    result = train_dpo(DPOConfig(max_response_tokens=8), rows, small_policy(tokenizer, SHAPE), tokenizer)
    assert result.metrics["num_left_out/equal_answers"] == 1
    assert result.metrics["num_rows"] == 1
    assert result.metrics["num_answer_cut"] >= 2
    assert "t9" in caplog.text
    [sequence] = Encoder(tokenizer, 1024, 8).sequences([ASKED], [body])
    assert not sequence.ended
    assert Encoder(tokenizer).end_id not in sequence.response_ids
    [sequence] = Encoder(tokenizer).sequences([ASKED], ["no"], ended=[False])
    assert Encoder(tokenizer).end_id not in sequence.response_ids


LONG = "Documents: " + "the library opens at nine. " * 60 + "Question: when does it open?"


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma"])
def test_a_long_prompt_keeps_the_system_turn_and_both_ends_of_its_longest_message(name):
    encoder = Encoder(tokenizer_of(name), max_prompt_tokens=200)
    prompt = (Message("system", "Never give medical advice."), Message("user", "hello"), Message("assistant", "how are you"), Message("user", LONG))  # fmt: skip
    [ids] = encoder.prompts([prompt])
    text = encoder.tokenizer.decode(ids)
    assert len(ids) <= 200
    assert len(ids) > 150
    for whole in ("Never give medical advice.", "hello", "how are you", "Documents: ", "when does it open?"):
        assert whole in text
    assert encoder.num_cut == 1


def test_many_turns_lose_their_oldest_whole():
    encoder = Encoder(tokenizer_of("chatml"), max_prompt_tokens=200)
    turns = [Message(("user", "assistant")[i % 2], f"hello world {i:02}") for i in range(41)]
    [ids] = encoder.prompts([(Message("system", "Be kind."), *turns)])
    text = encoder.tokenizer.decode(ids)
    assert "Be kind." in text
    assert "hello world 40" in text
    assert "hello world 00" not in text
    assert "[…]" not in text
    kept = [m for m in turns if m.text in text]
    assert kept == turns[-len(kept) :]
    assert kept[0].role == "user"


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("turns", [1, 21])
def test_instructions_stay_whole_in_a_long_prompt(role, turns):
    encoder = Encoder(tokenizer_of("chatml"), max_prompt_tokens=300)
    rules = "Never say sorry, and never say please. " * 4
    talk = [Message(("user", "assistant")[i % 2], f"hello {i} " * (900 // turns)) for i in range(turns)]
    [ids] = encoder.prompts([(Message(role, rules), *talk)])
    assert len(ids) <= 300
    assert rules in encoder.tokenizer.decode(ids)


def test_a_system_turn_that_leaves_no_room_leaves_the_row_out():
    encoder = Encoder(tokenizer_of("chatml"), max_prompt_tokens=50)
    rows = [Demonstration((Message("system", LONG), *ASKED), "no"), Demonstration(ASKED, "no")]
    assert encoder.rows(rows).rows == rows[1:]
    assert encoder.counts["left_out/prompt_too_long"] == 1
    strict = Encoder(tokenizer_of("chatml"), max_prompt_tokens=50, long_prompts="leave_out")
    assert strict.rows([Demonstration((Message("user", LONG),), "no"), rows[1]]).rows == rows[1:]


def test_the_share_that_was_cut_is_a_warning(caplog):
    tokenizer = tokenizer_of("chatml")
    rows = [Demonstration((Message("user", LONG),), "no"), Demonstration(ASKED, "no")]
    with caplog.at_level(logging.WARNING):
        result = train_sft(
            SFTConfig(epochs=1, max_prompt_tokens=60), rows, small_policy(tokenizer, SHAPE), tokenizer
        )
    assert result.metrics["num_prompt_cut"] == 1
    assert "1 of 2 distinct prompts (50%) were cut to max_prompt_tokens 60" in caplog.text


def test_shares_are_of_what_is_cut_not_of_rows(caplog):
    """A comparison has two answers, and many may share one prompt: no share is above 100%."""
    encoder = Encoder(tokenizer_of("chatml"), max_response_tokens=5)
    short = Comparison(ASKED, "no", "yes")
    encoder.rows([Comparison(ASKED, "hello " * 9 + end, LONG) for end in ("a", "b", "c")] + [short])
    with caplog.at_level(logging.WARNING):
        encoder.report()
    assert "6 of 8 answers (75%) were cut to max_response_tokens 5" in caplog.text
    assert "prompts" not in caplog.text


def test_a_reward_model_is_judged_at_the_lengths_it_was_trained_on(tmp_path):
    from heedloop_trainer.evaluation.evaluate import reward_margins
    from heedloop_trainer.nn.checkpoints import load_reward_model, save_model
    from heedloop_trainer.nn.models import RewardModel
    from heedloop_trainer.nn.optimiser import OptimiserConfig

    tokenizer = tokenizer_of("chatml")
    body = "hello " * 1100
    rows = [Comparison(ASKED, body + "please", body + "sorry")] * 4
    torch.manual_seed(0)
    model = small_classifier(tokenizer, SmallShape(16, 1, 1, 16, 4096))
    config = RewardConfig(epochs=1, batch_size=4, max_response_tokens=3000, optimiser=OptimiserConfig(1e-2))
    train_reward(config, rows, model, tokenizer)
    save_model(model, tokenizer, tmp_path)
    for judge in (RewardModel(model, tokenizer), load_reward_model(tmp_path)):
        assert judge.encoder().max_response_tokens == 3000
        assert reward_margins(judge.eval(), rows).all()
