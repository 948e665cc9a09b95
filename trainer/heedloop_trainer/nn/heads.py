"""How a causal language model comes to its logits, found out from the model itself.

Training runs the body once and the head only where a response is predicted. What families do beside that (a scale, a soft
cap, a second head) is known for some of them (`adjust_logits`) and compared for all: a few tokens go through the model's own
forward and through ours when a model is first wrapped. Where the two differ, the model's own forward is used from then on.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

PROBE_LENGTH = 8
LOUD = 40.0
"""The largest logit of the comparison."""
NOISE = ("drop", "jitter")
"""Parts of names of settings that make a training forward random: attention_dropout, layerdrop, router_jitter_noise, …"""


@dataclass(frozen=True, slots=True)
class Traits:
    """What was found out about a causal language model.

    Attributes:
        whole: its logits are not those of body, head and `adjust_logits`: its own forward is needed.
        steady: False where training mode gives other numbers than evaluation mode, so that it is never trained in it.
    """

    whole: bool
    steady: bool


def plain_model(model: nn.Module) -> Any:
    """The `transformers` model itself, without a LoRA wrapper around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def body(model: nn.Module) -> nn.Module:
    """The decoder (or encoder) without its head."""
    plain = plain_model(model)
    return getattr(plain, plain.base_model_prefix)


def no_noise(model: nn.Module) -> nn.Module:
    """Set every dropout, layer drop and router jitter to 0, in modules, their attributes and the configurations.

    Noise makes the log-probabilities of the very same weights differ between rollout and update, so the first ratio would not
    be 1.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        _silence(module)
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "to_dict"):
            _silence(config)
    return model


def _silence(holder: Any) -> None:
    for name, value in list(vars(holder).items()):
        lower = name.lower()
        if any(part in lower for part in NOISE) and isinstance(value, float) and value:
            setattr(holder, name, 0.0)


def adjust_logits(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """What some families do to logits after the head: Cohere's and Granite's scale, Gemma's soft cap, Falcon H1's factor."""
    config = config.get_text_config()
    scale = getattr(config, "logit_scale", None)
    if scale is not None:
        logits = logits * scale
    divisor = getattr(config, "logits_scaling", None)
    if divisor is not None:
        logits = logits / divisor
    factor = getattr(config, "lm_head_multiplier", None)
    if factor is not None:
        logits = logits * factor
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def own_logits(model: nn.Module, ids: torch.Tensor, keep: Any = 0, **inputs: Any) -> torch.Tensor:
    """Logits by the model's own forward, [B, K, V].

    Args:
        keep: columns whose logits are wanted: a tensor of them, the last `keep` ones, or 0 for all.
    """
    plain = plain_model(model)
    parameters = inspect.signature(plain.forward).parameters
    if "logits_to_keep" in parameters:
        return plain(input_ids=ids, logits_to_keep=keep, **_accepted(parameters, inputs)).logits
    logits = plain(input_ids=ids, **_accepted(parameters, inputs)).logits
    if isinstance(keep, torch.Tensor):
        return logits[:, keep]
    return logits[:, -keep:]


def own_states(model: nn.Module, ids: torch.Tensor, **inputs: Any) -> Any:
    """The body's output for these inputs, without those that it does not know."""
    decoder = body(model)
    return decoder(input_ids=ids, **_accepted(inspect.signature(decoder.forward).parameters, inputs))


def _accepted(parameters: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Those inputs that a forward knows; Mamba's has a cache by another name."""
    if "cache_params" in parameters and "past_key_values" not in parameters and "past_key_values" in inputs:
        inputs = {**inputs, "cache_params": inputs["past_key_values"]}
        del inputs["past_key_values"]
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return {k: v for k, v in inputs.items() if v is not None or k in parameters}
    return {k: v for k, v in inputs.items() if k in parameters}


def examine(model: nn.Module) -> Traits:
    """What is to be known of a causal language model before it is trained or sampled; found out once per model.

    Raises:
        ValueError: the model looks ahead (an encoder), or its forward takes more than token ids.
    """
    plain = plain_model(model)
    if "heedloop_traits" not in plain.__dict__:
        plain.heedloop_traits = _examined(plain)
    return plain.heedloop_traits


def _examined(plain: Any) -> Traits:
    embeddings = plain.get_input_embeddings().weight
    size = min(1000, embeddings.shape[0])
    first = (torch.arange(PROBE_LENGTH, device=embeddings.device) * 7 + 3) % size
    second = first.clone()
    second[-1] = (second[-1] + 1) % size
    ids = torch.stack([first, second])
    limit = 1e-4 if embeddings.dtype == torch.float32 else 2e-2
    with _undisturbed(plain), _loud(plain, ids):
        own = _log_probs(_own_logits_of(plain, ids))
        if not _close(own[0, :-1], own[1, :-1], limit):
            raise ValueError(
                f"{type(plain).__name__} is no causal language model: what it predicts depends on the tokens that follow (it reads in "
                "both directions). It can be a reward model, not a policy"
            )
        whole = not _same_apart(plain, ids, own, limit)
        plain.train()
        steady = all(_close(_log_probs(_own_logits_of(plain, ids)), own, limit) for _ in range(2))
    return Traits(whole, steady)


@contextlib.contextmanager
def _undisturbed(model: nn.Module) -> Generator[None]:
    """No gradients, and afterwards the same modes and random numbers as before."""
    modes = {m: m.training for m in model.modules()}
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.no_grad(), torch.random.fork_rng([d for d in devices if d is not None]):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextlib.contextmanager
def _loud(plain: Any, ids: torch.Tensor) -> Generator[None]:
    """The head's output made large for a while: a soft cap at 30 does nothing to the small logits of fresh weights."""
    plain.eval()
    head = plain.get_output_embeddings()
    if not isinstance(head, nn.Module):
        yield
        return
    factor = max(1.0, LOUD / max(float(_own_logits_of(plain, ids).float().abs().max()), 1e-6))
    handle = head.register_forward_hook(lambda _module, _inputs, out: out * factor)
    try:
        yield
    finally:
        handle.remove()


def _own_logits_of(plain: Any, ids: torch.Tensor) -> torch.Tensor:
    try:
        return own_logits(plain, ids, use_cache=False)
    except Exception as err:
        raise ValueError(
            f"{type(plain).__name__} cannot be trained or sampled from token ids alone ({type(err).__name__}: {err})"
        ) from err


def _same_apart(plain: Any, ids: torch.Tensor, own: torch.Tensor, limit: float) -> bool:
    try:
        hidden = own_states(plain, ids, use_cache=False).last_hidden_state
        apart = adjust_logits(plain.get_output_embeddings()(hidden), plain.config)
    except (AttributeError, TypeError, RuntimeError, ValueError):
        return False
    return apart.shape == own.shape and _close(_log_probs(apart), own, limit)


def _log_probs(logits: torch.Tensor) -> torch.Tensor:
    return logits.float().log_softmax(-1)


def _close(a: torch.Tensor, b: torch.Tensor, limit: float = 1e-4) -> bool:
    """Equal but for rounding, which is far below what a forgotten scale or cap changes."""
    return bool(((a == b) | ((a - b).abs() < limit)).all())
