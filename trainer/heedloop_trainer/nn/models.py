"""Models: what a policy, a reward model and a value model compute, over `transformers` classes.

A policy is an `AutoModelForCausalLM`, a reward or value model an `AutoModelForSequenceClassification`; both are saved
with `save_pretrained` as safetensors and load anywhere with `from_pretrained`. The wrappers here call the model's body
once and its head only where a response is predicted, which is most of the saving at real vocabulary sizes.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from heedloop.schema import Message
from heedloop_trainer.nn.chat import end_of_turn
from heedloop_trainer.nn.encoder import Encoder, PromptConfig
from heedloop_trainer.nn.heads import (
    Traits,
    adjust_logits,
    examine,
    no_noise,
    own_logits,
    own_states,
    plain_model,
)
from heedloop_trainer.nn.sequences import Batch, TokenSequence, collate, micro_batches
from heedloop_trainer.ppo.losses import TokenLogProbs, length_mask, selective_log_probs

CLASSIFIER_HEADS = ("score", "classifier", "classification_head", "pooler", "head")
"""Names of what is trained whole beside adapters, and at a rate of its own where it is fresh."""

HEAD_CHUNK = 1 << 26
"""Logits held at once, in numbers: 2^26 float32 are 256 MiB. Above this the head works in chunks that are recomputed."""


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy that is never trained: the reference policy."""
    twin = copy.deepcopy(model).eval()
    return twin.requires_grad_(False)


def with_lora(
    model: nn.Module,
    *,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] = (),
    seed: int = 0,
) -> nn.Module:
    """Low-rank adapters (arXiv 2106.09685) on linear layers of the body; only they are trained.

    A classifier's head is trained whole. Needs the `lora` extra.

    Args:
        rank: of each adapter.
        alpha: the adapters' output is scaled by alpha / rank; twice the rank where None.
        targets: names of the layers that get one (`q_proj`, `v_proj`, …); all linear layers of the body where empty.

    Raises:
        ValueError: no layer has one of the names in `targets`.
    """
    from peft import LoraConfig, get_peft_model

    heads = [n for n, _ in model.named_children() if n in CLASSIFIER_HEADS]
    torch.manual_seed(seed)
    settings = LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=0.0,
        target_modules=list(targets) or "all-linear",
        modules_to_save=heads or None,
        task_type="SEQ_CLS" if heads else "CAUSAL_LM",
    )
    return get_peft_model(model, settings)


def trains_adapters(model: nn.Module) -> bool:
    """True where only LoRA adapters of the model are trained."""
    return hasattr(model, "disable_adapter")


def _is_fresh(model: nn.Module) -> bool:
    """True where adapters change nothing yet: their second matrices are zero."""
    return not any(bool(p.any()) for n, p in model.named_parameters() if "lora_B" in n)


def reference_policy(
    model: nn.Module, reference: nn.Module | None = None, *, bfloat16: bool = False
) -> Policy:
    """The frozen policy that KL penalties and DPO compare with.

    Args:
        model: the policy that will be trained.
        reference: another model to hold on to; frozen in place. Where None, the policy as it is now: a copy, or for a
            fresh LoRA the same weights with the adapters off, which needs none.
    """
    if reference is not None and reference is not model:
        return Policy(reference.requires_grad_(False), bfloat16=bfloat16).eval()
    if trains_adapters(model) and _is_fresh(model):
        return _WithoutAdapter(model, bfloat16=bfloat16)
    return Policy(frozen_copy(model), bfloat16=bfloat16).eval()


def stop_ids(model: nn.Module, tokenizer: Any) -> frozenset[int]:
    """The ids that really end a response: the end of a turn by the chat template, the tokenizer's and the generation
    configuration's end tokens."""
    found = {end_of_turn(tokenizer), tokenizer.eos_token_id}
    generation = getattr(plain_model(model), "generation_config", None)
    ids = getattr(generation, "eos_token_id", None)
    found |= set(ids if isinstance(ids, (list, tuple)) else [ids])
    return frozenset(i for i in found if i is not None)


class _Mixed(nn.Module):
    """A wrapped model with its arithmetic: float32, or bfloat16 autocast over float32 master weights."""

    def __init__(self, model: nn.Module, *, bfloat16: bool = False) -> None:
        super().__init__()
        self.model = no_noise(model)
        self.bfloat16 = bfloat16
        self.steady = True

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def train(self, mode: bool = True) -> _Mixed:
        """As every module's; a model that training mode makes random stays in evaluation mode."""
        super().train(mode)
        if not self.steady:
            self.model.eval()
        return self

    def hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """Last hidden states, [B, L, H], of ids padded on the right."""
        return own_states(self.model, ids, use_cache=False).last_hidden_state

    def arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        if not self.bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


class Policy(_Mixed):
    """Log-probabilities of responses under a causal language model: the model's own distribution, in every family.

    Raises:
        ValueError: the model is not causal, or wants more than token ids.
    """

    def __init__(self, model: nn.Module, *, bfloat16: bool = False) -> None:
        super().__init__(model, bfloat16=bfloat16)
        self.traits: Traits = examine(model)
        self.steady = self.traits.steady
        self.train(self.model.training)

    def forward(self, batch: Batch, *, temperature: float = 1.0, with_entropy: bool = False) -> TokenLogProbs:
        """Log-probabilities of every response token, float32 [N] in the batch's flat order."""
        if self.traits.whole:
            logits = self.response_logits(batch)
            return selective_log_probs(
                logits, batch.targets, temperature=temperature, with_entropy=with_entropy
            )
        with self.arithmetic():
            hidden = self.hidden(batch.ids)[batch.rows, batch.columns]
        return self._head(hidden, batch.targets, temperature, with_entropy)

    def response_logits(self, batch: Batch) -> torch.Tensor:
        """Logits of every response token, [N, V] in the batch's flat order."""
        if not self.traits.whole:
            with self.arithmetic():
                return self.logits(self.hidden(batch.ids)[batch.rows, batch.columns])
        columns = batch.columns.unique()
        with self.arithmetic():
            logits = own_logits(self.model, batch.ids, columns, use_cache=False)
        return logits[batch.rows, torch.searchsorted(columns, batch.columns)]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[N, H] hidden states to [N, V] logits, as the whole model would give them; not where `traits.whole`."""
        plain = plain_model(self.model)
        with self.arithmetic():
            return adjust_logits(plain.get_output_embeddings()(hidden), plain.config)

    def next_logits(self, ids: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """Logits [B, V] of the token that follows `ids` [B, T].

        Args:
            inputs: the forward's own arguments, such as `past_key_values`, `position_ids`, `attention_mask`.
        """
        with self.arithmetic():
            if self.traits.whole:
                return own_logits(self.model, ids, 1, **inputs)[:, -1]
            hidden = own_states(self.model, ids, **inputs).last_hidden_state
        return self.logits(hidden[:, -1])

    def _head(
        self, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, with_entropy: bool
    ) -> TokenLogProbs:
        def one(part: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            out = selective_log_probs(
                self.logits(part), wanted, temperature=temperature, with_entropy=with_entropy
            )
            return out.log_probs, out.entropy

        size = max(1, HEAD_CHUNK // plain_model(self.model).config.get_text_config().vocab_size)
        if len(hidden) <= size:
            return TokenLogProbs(*one(hidden, targets))
        chunks = [
            checkpoint(one, h, t, use_reentrant=False)
            for h, t in zip(hidden.split(size), targets.split(size), strict=True)
        ]
        log_probs = torch.cat([c[0] for c in chunks])
        return TokenLogProbs(log_probs, torch.cat([c[1] for c in chunks]) if with_entropy else None)


class PolicyWithValues(Policy):
    """Actor and critic on one body: log-probabilities and, by a head that starts at zero, the values of the states."""

    def __init__(self, model: nn.Module, *, bfloat16: bool = False) -> None:
        super().__init__(model, bfloat16=bfloat16)
        embeddings = plain_model(model).get_output_embeddings()
        self.value_head = nn.Linear(embeddings.weight.shape[1], 1, bias=False).to(embeddings.weight.device)
        nn.init.zeros_(self.value_head.weight)

    def forward(self, batch: Batch, *, temperature: float = 1.0, with_entropy: bool = False) -> TokenLogProbs:
        """As `Policy`'s, with the values before each response token [N] and after the last one [B]."""
        with self.arithmetic():
            hidden = self.hidden(batch.ids)
            states = hidden[batch.rows, batch.columns]
            last = hidden[torch.arange(len(hidden), device=hidden.device), batch.lengths - 1]
            values = self.value_head(torch.cat([states, last]))[:, 0].float()
        if self.traits.whole:  # the body runs twice, which families whose head is not known pay for
            out = super().forward(batch, temperature=temperature, with_entropy=with_entropy)
        else:
            out = self._head(states, batch.targets, temperature, with_entropy)
        return TokenLogProbs(out.log_probs, out.entropy, *values.split([len(states), len(last)]))


class _WithoutAdapter(Policy):
    """The base model under a LoRA. It shares its weights with the policy, so it is never moved, frozen or saved."""

    def forward(self, batch: Batch, *, temperature: float = 1.0, with_entropy: bool = False) -> TokenLogProbs:
        with self.model.disable_adapter(), torch.no_grad():
            return super().forward(batch, temperature=temperature, with_entropy=with_entropy)


class ValueModel(_Mixed):
    """A critic: the value of every state of a response, with the classification head as value head."""

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Values before each response token, float32 [N], and after the last one, float32 [B]."""
        with self.arithmetic():
            hidden = self.hidden(batch.ids)
            last = hidden[torch.arange(len(hidden), device=hidden.device), batch.lengths - 1]
            states = torch.cat([hidden[batch.rows, batch.columns], last])
            values = self.model.score(states)[:, 0].float()
        return values[: len(batch.rows)], values[len(batch.rows) :]


class RewardModel(_Mixed):
    """A reward model: one number (or several, by name) per prompt and completion.

    Causal models give the number at the sequence's last real token, found from its length; encoders by their own forward, under
    an attention mask. `gain` and `bias`, kept in the model's
    configuration, bring rewards to mean 0 and variance 1 on the rows the model was fitted on.
    """

    def __init__(self, model: nn.Module, tokenizer: Any = None, *, bfloat16: bool = False) -> None:
        super().__init__(model, bfloat16=bfloat16)
        self.tokenizer = tokenizer

    @property
    def causal(self) -> bool:
        """True where the number is read at the last token, as of every causal family."""
        return hasattr(plain_model(self.model), "score")

    @property
    def is_normalised(self) -> bool:
        """True where gain and bias have been fitted: rewards have a scale that is to be kept."""
        return "gain" in _reward_settings(self.model)

    @property
    def gain(self) -> float:
        return float(_reward_settings(self.model).get("gain", 1.0))

    @property
    def bias(self) -> float:
        return float(_reward_settings(self.model).get("bias", 0.0))

    @property
    def temperature(self) -> float:
        """What raw differences are divided by to be log-odds; fitted on held-out comparisons, 1 where there were none."""
        return float(_reward_settings(self.model).get("temperature", 1.0))

    def calibrate(self, temperature: float) -> None:
        """Store the calibration temperature inside the model's own configuration."""
        _reward_settings(self.model)["temperature"] = temperature

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the outputs; the first is the reward that PPO uses."""
        return tuple(_reward_settings(self.model).get("dimensions", ("reward",)))

    def normalise(self, *, gain: float, bias: float) -> None:
        """Store the gain and bias that `score` applies, inside the model's own configuration."""
        _reward_settings(self.model).update(gain=gain, bias=bias)

    def keep_text_settings(self, config: PromptConfig) -> None:
        """Store how long prompts and answers were in training, and how they were written, inside the configuration."""
        _reward_settings(self.model)["text"] = {
            n: getattr(config, n)
            for n in ("max_prompt_tokens", "max_response_tokens", "chat_template_kwargs", "long_prompts")
        }

    def encoder(self) -> Encoder:
        """What turns prompts and answers into sequences as this model was trained on them."""
        return Encoder(self.tokenizer, **_reward_settings(self.model).get("text", {}))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Raw outputs at each sequence's last token, float32 [B, num_outputs]: `from_pretrained`'s own logits."""
        with self.arithmetic():
            if not self.causal:
                mask = length_mask(batch.lengths, batch.ids.shape[1]).long()
                return self.model(input_ids=batch.ids, attention_mask=mask).logits.float()
            hidden = self.hidden(batch.ids)
            last = hidden[torch.arange(len(hidden), device=hidden.device), batch.lengths - 1]
            return self.model.score(last).float()

    def reward_of(self, prompt: str | Sequence[Message], answer: str) -> float:
        """The normalised reward of one answer to a user's message, or to a conversation."""
        messages = (Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt)
        return float(self.score(self.encoder().sequences([messages], [answer]))[0])

    @torch.no_grad()
    def score(self, sequences: Sequence[TokenSequence], *, max_tokens: int = 16_384) -> torch.Tensor:
        """Normalised rewards, float32 [len(sequences)] on the CPU, in micro-batches within a token budget."""
        return self.outputs(sequences, max_tokens=max_tokens)[:, 0] * self.gain + self.bias

    @torch.no_grad()
    def outputs(self, sequences: Sequence[TokenSequence], *, max_tokens: int = 16_384) -> torch.Tensor:
        """Raw outputs of many sequences, float32 [len(sequences), num_outputs] on the CPU."""
        out = torch.zeros(len(sequences), plain_model(self.model).config.num_labels)
        for group in micro_batches([len(s) for s in sequences], max_tokens):
            out[group] = self(collate([sequences[i] for i in group], self.device)).cpu()
        return out


def _reward_settings(model: nn.Module) -> dict[str, Any]:
    config = plain_model(model).config
    if not isinstance(getattr(config, "heedloop_reward", None), dict):
        config.heedloop_reward = {}
    return config.heedloop_reward


def name_outputs(model: nn.Module, names: Sequence[str]) -> None:
    """Say in a classifier's configuration what its outputs are; the first is the reward.

    Raises:
        ValueError: there are more or fewer names than outputs.
    """
    if len(names) != plain_model(model).config.num_labels:
        raise ValueError(f"{len(names)} names for {plain_model(model).config.num_labels} outputs")
    _reward_settings(model)["dimensions"] = list(names)


def checkpoint_activations(model: nn.Module) -> nn.Module:
    """Keep only each block's input for the backward pass and compute the rest again: a third more work, far less memory."""
    plain = plain_model(model)
    # transformers 6 knows it by the first name only
    enable = getattr(plain, "activation_checkpointing_enable", None) or plain.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    return model


def checkpoint_like(model: nn.Module, other: nn.Module) -> nn.Module:
    """`other`, checkpointing its activations where `model` does."""
    saves = any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
    return checkpoint_activations(other) if saves else other


def own_pad_token(model: nn.Module, tokenizer: Any) -> None:
    """Give tokenizer and model a pad token that is not the end token, with room for it; unchanged where they have one."""
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id, end_of_turn(tokenizer)):
        tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    plain = plain_model(model)
    if len(tokenizer) > plain.get_input_embeddings().weight.shape[0]:
        plain.resize_token_embeddings(len(tokenizer))
    plain.config.pad_token_id = tokenizer.pad_token_id


@contextlib.contextmanager
def evaluating(*models: nn.Module) -> Generator[None]:
    """Evaluation mode and no gradients for a while; training mode comes back where it was."""
    before = [m.training for m in models]
    for m in models:
        m.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, mode in zip(models, before, strict=True):
            m.train(mode)
