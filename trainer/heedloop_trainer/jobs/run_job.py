"""Training jobs: rows from a snapshot, a method over them, an evaluation, a checkpoint with its card and report.

A job reads its rows only through the REST API and leaves a run folder (see `runs`). It is what `heedloop train` runs, and
it can be called from Python just as well. What each method does with its job is in `job_training` and `job_evaluation`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from heedloop.client import Client
from heedloop.schema import DatasetForm, RunMethod
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.methods.preference import DPOConfig, KTOConfig
from heedloop_trainer.methods.reward import RewardConfig
from heedloop_trainer.methods.reward_linear import LinearRewardConfig
from heedloop_trainer.methods.sft import SFTConfig
from heedloop_trainer.nn.distributed import World
from heedloop_trainer.nn.memory import what_to_change
from heedloop_trainer.ppo.config import PPOConfig
from heedloop_trainer.runs.folder import RunFolder, file_hashes

__all__ = [
    "CONFIGS",
    "FORMS",
    "Job",
    "JobContext",
    "JobError",
    "find_snapshot",
    "held_out",
    "read_rows",
    "run_id_of",
    "run_job",
]

log = logging.getLogger(__name__)

CONFIGS: dict[str, type[Any]] = {
    "sft": SFTConfig,
    "reward": RewardConfig,
    "reward_linear": LinearRewardConfig,
    "dpo": DPOConfig,
    "kto": KTOConfig,
    "ppo": PPOConfig,
    "rloo": PPOConfig,
}
"""The configuration class of each method."""

FORMS: dict[str, DatasetForm] = {
    "sft": "demonstrations",
    "reward": "comparisons",
    "reward_linear": "comparisons",
    "dpo": "comparisons",
    "kto": "unpaired",
    "ppo": "prompts",
    "rloo": "prompts",
}
"""The rows that each method learns from."""


class JobError(Exception):
    """A job cannot be done as asked; the message says what to change."""


@dataclass(frozen=True)
class Job:
    """What to train, from what, to where.

    Attributes:
        method: one of `CONFIGS`, or `evaluate`.
        out: the run folder.
        snapshot_id: the frozen dataset.
        config: the method's configuration; None for `evaluate`.
        model: folder of the model to start from (of the new model, for `evaluate`).
        from_scratch: a name of `SCRATCH_SHAPES`: start from random weights instead.
        reference: folder of the frozen policy, where it is not the model itself; the parent, for `evaluate`.
        reward_models: folders of reward models: one neural or an ensemble, and linear ones; their sum is the reward.
        held_out_reward: folder of a reward model that judges but is never trained against.
        reward_function: `FILE.py:NAME` or `module:name` in Python.
        chat_template: a file whose Jinja template replaces the tokenizer's own.
        limit: only the first rows of the training split; 0 takes all.
        lora_rank: 0 trains all weights.
        lora_alpha: adapters are scaled by alpha / rank; None is twice the rank.
        lora_targets: names of the layers that get adapters; all linear ones where empty.
        save_adapters: leave adapters as adapters in the checkpoint, not merged in; policies only.
        device: `cpu`, `cuda` and so on.
        save_every: steps between resume points.
        alarms: PPO and RLOO: watch for reward hacking and stop the run when it shows.
        thumbs: reward: learn from single thumbs as well.
        dimensions: reward: names of ratings (helpfulness, accuracy, tone) that get an output of their own.
        ensemble: reward: how many models that differ in their seed are trained.
        cross_validate: reward_linear: hold every prompt group out in turn as well.
        best_of: evaluate: also the best of this many answers by the judge; 0 does not.
        review_queue: evaluate: the review queue that the new model's and its parent's answers are put to, by id.
        generator: PPO and RLOO: `cached` (any model and device), `static` (fixed shapes; CUDA graphs), `continuous`
            (transformers' continuous batching), or the address of a vLLM server, which reads weights from `<out>/vllm`.
        checkpointed: recompute activations in the backward pass: a third slower, far less memory.
        check_memory: refuse to start what will not fit.
    """

    method: str
    out: Path
    snapshot_id: str
    config: Any = None
    model: Path | None = None
    from_scratch: Literal["tiny", "small"] | None = None
    reference: Path | None = None
    reward_models: Sequence[Path] = ()
    held_out_reward: Path | None = None
    reward_function: str | None = None
    chat_template: Path | None = None
    limit: int = 0
    lora_rank: int = 0
    lora_alpha: float | None = None
    lora_targets: tuple[str, ...] = ()
    save_adapters: bool = False
    thumbs: bool = False
    dimensions: tuple[str, ...] = ()
    ensemble: int = 1
    cross_validate: bool = False
    best_of: int = 0
    review_queue: str | None = None
    generator: str = "cached"
    checkpointed: bool = False
    check_memory: bool = True
    device: str = "cpu"
    save_every: int = 50
    alarms: bool = False
    name: str = ""
    model_name: str = ""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


@dataclass(frozen=True, slots=True)
class JobContext:
    """A job in progress: what is asked, where rows come from, where results go, and which process this is."""

    job: Job
    client: Client
    run: RunFolder
    say: Callable[[str], None]
    world: World = field(default_factory=World)


def find_snapshot(client: Client, *, snapshot_id: str | None, name: str | None, default_name: str) -> str:
    """The id of a snapshot: as given, the newest of that name, or a new one of everything there is.

    Raises:
        JobError: no snapshot has that name.
    """
    if snapshot_id is not None:
        return snapshot_id
    if name is None:
        made = client.create_snapshot(default_name)
        log.info("made snapshot %s (%s) of everything in the project", made.id, made.name)
        return made.id
    found = [s for s in client.snapshots() if s.get("name") == name]
    if not found:
        known = sorted({str(s.get("name")) for s in client.snapshots()})
        raise JobError(f"there is no snapshot named {name!r}; there is {', '.join(known) or 'none'}")
    return str(found[0]["id"])


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
    from heedloop_trainer.jobs.evaluate import evaluate
    from heedloop_trainer.jobs.train import METHODS

    run = _open(job, client, world)
    try:
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
    "from_scratch", "limit", "reward_function", "lora_rank", "lora_alpha", "lora_targets", "save_adapters", "thumbs", "dimensions", "ensemble", "cross_validate", "best_of",
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


def run_id_of(model: Path) -> str | None:
    """The run that wrote a checkpoint: from the manifest beside it, or from the note in a folder that it was promoted to."""
    model = model.resolve()
    for manifest, name in ((model / "promoted.json", "run"), (model.parent / "run.json", "id")):
        if manifest.exists() and (name == "run" or model.name == "checkpoint"):
            return json.loads(manifest.read_text(encoding="utf-8")).get(name)
    return None


def read_rows(working: JobContext, form: DatasetForm, split: Any = "train") -> list[Any]:
    """The rows of one form and split.

    Raises:
        JobError: there are none to train on.
    """
    snapshot_id = working.job.snapshot_id
    rows = list(working.client.snapshot_rows(snapshot_id, form, split))
    if split == "train" and rows:
        _refuse(working.client.snapshot(snapshot_id), form)
    if split == "train" and not rows:
        counts = working.client.snapshot(snapshot_id).get("num_rows", {})
        there = [f"{n['train']:,} {name}" for name, n in counts.items() if n.get("train")]
        raise JobError(
            f"snapshot {snapshot_id} has no {form} to train on; it has {', '.join(there) or 'nothing'}"
        )
    if split == "train" and working.job.limit:
        return rows[: working.job.limit]
    return rows


def _refuse(snapshot: Mapping[str, Any], form: DatasetForm) -> None:
    """Raise `JobError` where the snapshot's report says that its splits of this form are not fit for training."""
    for warning in (snapshot.get("report") or {}).get("warnings", ()):
        if warning["form"] == form and warning["refuses"]:
            raise JobError(f"snapshot {snapshot['id']}: {warning['message']}")


def held_out(working: JobContext, form: DatasetForm) -> list[Any]:
    """The test split, or the validation split where there is none."""
    return read_rows(working, form, "test") or read_rows(working, form, "validation")
