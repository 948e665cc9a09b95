"""Episodes: what a policy writes to a prompt, in one turn, or in several that an environment's turns come between.

An environment is a Python function: it is given the conversation so far and gives the messages that follow, such as tool
results, or ends the episode. What it wrote stands in the sequence but carries no loss; the policy's turns are one response to
everything behind: log-probabilities, values and advantages run over the written tokens alone, from turn to turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from heedloop.schema import Message, PromptRow
from heedloop_trainer.generation.cached import Generation, Generator
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.sequences import TokenSequence
from heedloop_trainer.ppo.config import PPOConfig


@dataclass(frozen=True, slots=True)
class Step:
    """What an environment answers to a turn.

    Attributes:
        messages: what follows the turn, such as tool results; none ends the episode.
        reward: of the turn.
    """

    messages: tuple[Message, ...] = ()
    reward: float = 0.0


Environment = Callable[[tuple[Message, ...]], Step | Sequence[Message] | None]
"""Given a conversation that ends in the model's turn: the messages that follow (with the turn's reward, as a `Step`), or None or
no messages where the episode is over."""


@dataclass
class Episode:
    """One prompt and what came of it.

    Attributes:
        response_ids: everything behind the prompt; written: True on the tokens of the policy.
        log_probs: the sampler's, of the written tokens; rewards: the environment's, on the last token of each turn.
        turns: the messages behind the prompt.
        ended: False where the last turn was cut off.
    """

    prompt: PromptRow
    prompt_ids: list[int]
    response_ids: list[int] = field(default_factory=list)
    written: list[bool] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    turns: tuple[Message, ...] = ()
    ended: bool = False

    @property
    def sequence(self) -> TokenSequence:
        """Prompt and response, with what carries loss."""
        mask = None if all(self.written) else self.written
        return TokenSequence(self.prompt_ids, self.response_ids, self.ended, mask)

    def write(self, generation: Generation, text: str) -> None:
        """A turn of the policy."""
        count = len(generation.response_ids)
        self.response_ids = self.response_ids + generation.response_ids
        self.written = self.written + [True] * count
        self.log_probs = self.log_probs + list(generation.log_probs)
        self.rewards = self.rewards + [0.0] * count
        self.turns = (*self.turns, Message("assistant", text))
        self.ended = generation.ended

    def read(self, messages: tuple[Message, ...], ids: list[int]) -> None:
        """Turns of the environment."""
        self.response_ids = self.response_ids + ids
        self.written = self.written + [False] * len(ids)
        self.turns = (*self.turns, *messages)


def play(
    config: PPOConfig,
    sampler: Generator,
    encoder: Encoder,
    prompts: Sequence[PromptRow],
    prompt_ids: Sequence[list[int]],
    *,
    step: int,
    rows: Sequence[int],
    environment: Environment | None = None,
) -> list[Episode]:
    """One episode per prompt: a single answer, or with an environment at most `config.max_turns` turns of the policy.

    Args:
        step, rows: decide the random numbers: the rollout, and each prompt's place in it.

    Raises:
        PromptError: the chat template writes a turn otherwise once others follow it.
        ValueError: the environment gave something else than messages.
    """
    episodes = [Episode(p, ids) for p, ids in zip(prompts, prompt_ids, strict=True)]
    active = list(range(len(episodes)))
    for turn in range(1 if environment is None else config.max_turns):
        generations = sampler(
            [episodes[i].prompt_ids + episodes[i].response_ids for i in active],
            config.sampling,
            step=step * config.max_turns + turn,
            rows=[rows[i] for i in active],
        )
        going_on: list[int] = []
        for i, generation in zip(active, generations, strict=True):
            episodes[i].write(generation, encoder.decode(generation.response_ids))
            if environment is not None and generation.ended:
                is_last = turn + 1 == config.max_turns
                if _answered(episodes[i], environment, encoder, is_last=is_last):
                    going_on.append(i)
        active = going_on
        if not active:
            break
    return episodes


def _answered(episode: Episode, environment: Environment, encoder: Encoder, *, is_last: bool) -> bool:
    """The environment's answer to the last turn; True where the policy goes on."""
    prompt = episode.prompt
    answer = environment((*prompt.prompt, *episode.turns))
    found = answer if isinstance(answer, Step) else Step(tuple(answer or ()))
    if not all(isinstance(m, Message) for m in found.messages):
        raise ValueError(
            f"the environment must give messages (heedloop.schema.Message), a Step, or None, not {answer!r:.80}"
        )
    episode.rewards[-1] += found.reward
    if is_last or not found.messages:
        return False
    between = encoder.ids_between(prompt.prompt, episode.turns, found.messages, prompt.tools)
    episode.read(found.messages, between)
    return True
