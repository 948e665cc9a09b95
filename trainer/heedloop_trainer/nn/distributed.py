"""One process or many: how rows are shared between ranks and how sums are taken over them.

Started with `torchrun`, every rank holds a shard of the parameters (FSDP2) and trains on its share of each minibatch.
Denominators are summed over the ranks, so that the update is the one a single process would make.
"""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """This process among its peers; `World()` is a process alone."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """True on the one rank that writes files and talks to the server."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> list[T]:
        """This rank's part of a minibatch: every size-th row."""
        return list(rows[self.rank :: self.size])

    def add(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all ranks."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def maximum(self, value: torch.Tensor) -> torch.Tensor:
        """The element-wise maximum of a tensor over all ranks."""
        if self.size > 1:
            dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return value

    def largest(self, value: int) -> int:
        """The largest of the ranks' numbers."""
        if self.size == 1:
            return value
        box = torch.tensor(value)
        dist.all_reduce(box, op=dist.ReduceOp.MAX)
        return int(box)

    def gather(self, value: T) -> list[T]:
        """Every rank's object, in rank order."""
        if self.size == 1:
            return [value]
        out: list[Any] = [None] * self.size
        dist.all_gather_object(out, value)
        return out

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined() -> Generator[World]:
    """The world that `torchrun` started, joined and left again; a process alone without it.

    A process that ends without leaving may abort: gloo's threads then let go of their last tensors while the interpreter is
    being torn down. What is sharded must be out of scope by the end, for it holds the threads as well. A rank that fails
    leaves at once, and `torchrun` ends the others.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    yield World(dist.get_rank(), size)
    dist.barrier()
    gc.collect()
    dist.destroy_process_group()


def shard(model: nn.Module, world: World) -> nn.Module:
    """Spread a wrapped model's parameters over the ranks, block by block (FSDP2); unchanged in a process alone."""
    if world.size == 1:
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (world.size,))
    blocks = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    for block in blocks[0] if blocks else []:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def full_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """A model's whole state on every rank, gathered from the shards where there are any."""
    return {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in model.state_dict().items()
    }


def unsharded(model: nn.Module) -> Any:
    """A `transformers` model in a process's own memory with the weights of a sharded one; every rank must ask for it."""
    state = full_state(model)
    twin: Any = type(model)(copy.deepcopy(model.config))
    twin.load_state_dict(state)
    return twin


def load_full_state(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load a whole state into a model, each rank keeping its shard."""
    if not any(hasattr(p, "full_tensor") for p in model.parameters()):
        model.load_state_dict(state)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    set_model_state_dict(model, dict(state), options=StateDictOptions(full_state_dict=True))


def whole(value: Any) -> Any:
    """Nested state with every sharded tensor gathered."""
    if isinstance(value, Mapping):
        return {k: whole(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(v) for v in value]
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def sharded_like(value: Any, parameter: torch.Tensor) -> Any:
    """A whole tensor cut into the shards of `parameter`, where that is sharded and of the same shape."""
    if not hasattr(parameter, "full_tensor") or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, parameter.device_mesh, parameter.placements)
