"""Training jobs: rows from a snapshot, a method over them, an evaluation, a checkpoint with its card and report.

A job reads its rows only through the REST API and leaves a run folder (see `runs`). It is what `heedloop train` runs, and it
can be called from Python as well. What each method does with its job is in `train` and `evaluate`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch

from heedloop.client import Client
from heedloop.schema import RunMethod
from heedloop_trainer.jobs.evaluate import evaluate
from heedloop_trainer.jobs.job import Job, JobContext, JobError, run_id_of
from heedloop_trainer.jobs.train import METHODS
from heedloop_trainer.nn.distributed import World
from heedloop_trainer.nn.memory import what_to_change
from heedloop_trainer.runs.folder import RunFolder, file_hashes
from heedloop_trainer.runs.trackers import open_tracker

log = logging.getLogger(__name__)


def find_snapshot(client: Client, *, snapshot_id: str | None, name: str | None, default_name: str) -> str:
    """The id of a snapshot: as given, the newest of that name, or a new one of everything there is.

    Raises:
        JobError: no snapshot has that name.
    """
    if snapshot_id is not None:
        return snapshot_id
    if name is None:
        snapshot = client.create_snapshot(default_name)
        log.info("made snapshot %s (%s) of everything in the project", snapshot.id, snapshot.name)
        return snapshot.id
    found = [s for s in client.snapshots() if s.name == name]
    if not found:
        known = sorted({s.name for s in client.snapshots()})
        raise JobError(f"there is no snapshot named {name!r}; there is {', '.join(known) or 'none'}")
    return found[0].id


def run_job(
    job: Job,
    client: Client,
    *,
    say: Callable[[str], None] = log.info,
    world: World = World(),  # noqa: B008
) -> RunFolder:
    """Do one job from its snapshot to its checkpoint; answers its run folder.

    Raises:
        JobError: something is missing that only the caller can give, or memory ran out.
        ApiError: the server refused.
    """
    run = _open(job, client, world)
    try:
        if world.is_first:
            run.trackers = [
                open_tracker(n, run.record.name, run.path, run.record.config) for n in job.trackers
            ]
        with _terminable():
            {**METHODS, "evaluate": evaluate}[job.method](JobContext(job, client, run, say, world))
    except (Terminated, KeyboardInterrupt) as err:
        run.finish(
            status="stopped", error=f"stopped from outside ({err or 'interrupted'}); the same command goes on"
        )
        if isinstance(err, KeyboardInterrupt):
            raise
    except BaseException as err:
        run.fail(err)
        if is_out_of_memory(err):
            advice = what_to_change(
                job.config, checkpointed=job.checkpointed, lora=job.lora_rank > 0, device=job.device
            )
            raise JobError(f"memory ran out on {job.device}. What makes it smaller: {advice}") from err
        raise
    return run


class Terminated(BaseException):
    """The process was asked to end (SIGTERM); no handler of ordinary errors catches it."""


@contextlib.contextmanager
def _terminable() -> Generator[None]:
    """SIGTERM ends the run as stopped, where this is the main thread (only that one may handle signals)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:  # noqa: ARG001
        raise Terminated("SIGTERM")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def is_out_of_memory(err: BaseException) -> bool:
    """On CUDA an error of its own; on the CPU a runtime error of torch's allocator, or Python's own."""
    if isinstance(err, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(err, RuntimeError) and "allocate memory" in str(err)


def _open(job: Job, client: Client, world: World) -> RunFolder:
    """The job's run folder: made, or gone on with, by the first process, and followed by the others."""
    if not world.is_first:
        world.barrier()
        return RunFolder.follow(job.out, save_every=job.save_every)
    method: RunMethod = job.method  # type: ignore[assignment]
    try:
        return RunFolder.create(
            job.out,
            method,
            config=_settings(job),
            name=job.name,
            snapshot_id=job.snapshot_id,
            parent=None if job.model is None else _named(job.model),
            model_name=job.model_name,
            client=client,
            extra=_model_files(job.model),
            save_every=job.save_every,
        )
    finally:
        world.barrier()


_RECORDED = (
    "from_scratch", "limit", "mix", "save_dtype", "reward_function", "environment", "lora_rank", "lora_alpha", "lora_targets", "save_adapters", "thumbs", "dimensions", "ensemble", "cross_validate", "best_of",
    "review_queue", "generator", "alarms",
)  # fmt: skip
"""What a job is asked for beside its configuration, and what decides what comes out."""


def _settings(job: Job) -> dict[str, Any]:
    """The run's configuration: the method's own, what was asked beside it, and the models that took part.

    A model that a run made is named by that run's id: that is how the server finds, from a person's erasure, also the run whose
    reward model learned from their words. What is at its default is left out.
    """
    settings = dataclasses.asdict(job.config if job.config is not None else job.sampling)
    defaults = {f.name: f.default for f in dataclasses.fields(Job)}
    settings |= {n: getattr(job, n) for n in _RECORDED if getattr(job, n) != defaults[n]}
    if job.chat_template is not None:
        settings["chat_template"] = job.chat_template.read_text(encoding="utf-8")
    beside = {
        "reference": job.reference and _named(job.reference),
        "reward_models": [_named(p) for p in job.reward_models],
        "held_out_reward": job.held_out_reward and _named(job.held_out_reward),
    }
    return {**settings, **{n: v for n, v in beside.items() if v}}


def _named(model: Path) -> str:
    return run_id_of(model) or str(model)


def _model_files(model: Path | None) -> dict[str, Any]:
    if model is None or not model.is_dir():
        return {}
    return {"model_files": file_hashes([*model.glob("*.safetensors"), *model.glob("tokenizer.json")])}
