"""How much memory a run will take, said before it starts, and what to change where that is too much.

Estimates, not measurements: weights, gradients and optimiser states are exact, activations follow the shape of a Llama block.
They are meant to be right within a third, so that a run that cannot fit is refused in a second and not after an hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heedloop_trainer.nn.models import HEAD_CHUNK, plain_model

FLOAT32 = 4
ADAM_STATES = 2


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes by purpose, on the device that trains."""

    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    @property
    def text(self) -> str:
        """Such as `5.1 GiB: weights 1.2, gradients 1.2, Adam 2.4, activations 0.3`."""
        parts = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in self.parts.items() if size)
        return f"{self.total / 2**30:.1f} GiB ({parts})"


def estimate_memory(
    model: nn.Module,
    *,
    max_tokens: int,
    num_trained: int = 1,
    num_frozen: int = 0,
    num_whole: int = 0,
    decoded_tokens: int = 0,
    bfloat16: bool = False,
    world_size: int = 1,
) -> MemoryEstimate:
    """What training takes at its largest moment.

    Args:
        model: the one that is trained, or one of its shape.
        max_tokens: tokens per micro-batch, padding included.
        num_trained: models of this size that are trained (PPO with a critic of its own has two).
        num_frozen: models of this size that only read (reference, reward model), sharded like the trained ones.
        num_whole: copies that every process holds whole (the one that samples, over several processes).
        decoded_tokens: sequences decoded together times their whole length; 0 where nothing is generated.
        bfloat16: activations and cache are half as large; weights stay float32.
        world_size: processes that the parameters are spread over.
    """
    size = sum(p.numel() for p in model.parameters()) * FLOAT32
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) * FLOAT32
    config: Any = plain_model(model).config.get_text_config()
    number = 2 if bfloat16 else FLOAT32
    vocabulary = min(max_tokens * config.vocab_size, HEAD_CHUNK)
    return MemoryEstimate(
        {
            "weights": size * (num_trained + num_frozen) / world_size + size * num_whole,
            "gradients": trained * num_trained / world_size,
            "Adam": ADAM_STATES * trained * num_trained / world_size,
            "activations": max_tokens * _per_token(model, config) * number,
            "logits": 3 * vocabulary * FLOAT32,
            "cache": decoded_tokens * _cache_per_token(config) * number,
        }
    )


def _per_token(model: nn.Module, config: Any) -> float:
    """Numbers that the backward pass keeps of one token: of all blocks, or of one and every block's input."""
    hidden = config.hidden_size
    inner = _widest(getattr(config, "intermediate_size", None)) or 4 * hidden
    block = 12 * hidden + 4 * inner
    if any(getattr(m, "gradient_checkpointing", False) for m in model.modules()):
        return config.num_hidden_layers * hidden + block
    return config.num_hidden_layers * block


def _cache_per_token(config: Any) -> float:
    """Numbers kept of one token; models without attention keep a state of fixed size, which is next to nothing."""
    all_heads = _widest(getattr(config, "num_attention_heads", None))
    if not all_heads:
        return 0.0
    heads = _widest(getattr(config, "num_key_value_heads", None)) or all_heads
    width = _widest(getattr(config, "head_dim", None)) or config.hidden_size // all_heads
    return 2 * config.num_hidden_layers * heads * width


def _widest(size: Any) -> int:
    """A size that some configurations give for each layer; 0 where there is none."""
    if isinstance(size, (list, tuple)):
        return max((_widest(s) for s in size), default=0)
    return int(size or 0)


def available_bytes(device: str) -> float | None:
    """Free memory of a device, or of this machine (and its container) for the CPU; None where nobody says."""
    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(torch.device(device))[0])
    free = [x for x in (_proc_available(), _container_available()) if x is not None]
    return min(free) if free else None


def _proc_available() -> float | None:
    file = Path("/proc/meminfo")
    if not file.exists():
        return None
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
    return float(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None


def _container_available() -> float | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / n).read_text().strip() for n in ("memory.max", "memory.current"))
        return None if limit == "max" else float(limit) - float(used)
    except OSError:
        return None


def what_to_change(config: Any, *, checkpointed: bool, lora: bool, device: str) -> str:
    """What makes a run smaller, the cheapest first."""
    advice = []
    tokens = getattr(config, "max_tokens", None)
    if tokens is not None and tokens > 1024:
        advice.append(f"lower --max-tokens (now {tokens:,}; the result stays the same)")
    if not checkpointed:
        advice.append("--gradient-checkpointing (a third slower)")
    if device.startswith("cuda") and not getattr(config, "bfloat16", False):
        advice.append("--bfloat16")
    if getattr(config, "critic_body", None) == "separate" and getattr(config, "estimator", "") == "ppo":
        advice.append('"critic_body": "shared" in --config, or rloo, which has no critic')
    if not lora:
        advice.append("--lora 16 (trains adapters only)")
    advice.append("more processes (torchrun), or a smaller model")
    return "; ".join(advice)
