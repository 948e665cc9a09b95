"""A training job: what is asked for, what a job in progress knows, and how it reads its rows through the REST API."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from heedloop.client import Client
from heedloop.responses import ReportedSnapshot
from heedloop.schema import DatasetForm
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.methods.preference import DPOConfig, KTOConfig
from heedloop_trainer.methods.rejection import RejectionConfig
from heedloop_trainer.methods.reward import RewardConfig
from heedloop_trainer.methods.reward_linear import LinearRewardConfig
from heedloop_trainer.methods.sft import SFTConfig
from heedloop_trainer.nn.checkpoints import SaveDtype
from heedloop_trainer.nn.distributed import World
from heedloop_trainer.ppo.config import PPOConfig
from heedloop_trainer.runs.folder import RunFolder

CONFIGS: dict[str, type[Any]] = {
    "sft": SFTConfig,
    "reward": RewardConfig,
    "reward_linear": LinearRewardConfig,
    "dpo": DPOConfig,
    "kto": KTOConfig,
    "ppo": PPOConfig,
    "rloo": PPOConfig,
    "grpo": PPOConfig,
    "rejection": RejectionConfig,
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
    "grpo": "prompts",
    "rejection": "prompts",
}
"""The rows that each method learns from."""

SOURCES: dict[DatasetForm, str] = {
    "demonstrations": "corrections and liked answers",
    "comparisons": "rankings, corrections, and thumbs up and down on answers to one prompt",
    "unpaired": "thumbs",
    "prompts": "recorded calls",
    "rated": "ratings by name",
}
"""The judgements that make rows of each form."""


class JobError(Exception):
    """A job cannot be done as asked; the message says what to change."""


@dataclass(frozen=True)
class Job:
    """What to train, from what, to where.

    Attributes:
        method: one of `CONFIGS`, or `evaluate`.
        out: the run folder; the same command goes on with it after a crash.
        snapshot_id: the frozen dataset.
        config: the method's configuration; None for `evaluate`.
        model: folder of the model to start from; of the new model, for evaluate.
        from_scratch: random weights and a tokenizer made from the rows: about 1 or 6 million parameters, which learn little
            from a thousand judgements.
        reference: folder of the frozen policy, where it is not the model itself; of the parent, for evaluate.
        reward_models: folder of a reward model (several times: one neural or an ensemble, and linear ones); their sum counts.
        held_out_reward: folder of a reward model that judges but is never trained against.
        reward_function: FILE.py:NAME or MODULE:NAME, a Python function: responses -> numbers, added to the reward model's.
        environment: FILE.py:NAME or MODULE:NAME, a Python function: messages -> the messages that follow, such as tool results.
        chat_template: a Jinja chat template that replaces the tokenizer's own and is saved with the model.
        limit: only the first N rows of the training split; 0 takes all.
        mix: FILE:SHARE, further rows from a JSON Lines file, so many that they are this share of all.
        trackers: also send the metrics to tensorboard, wandb or mlflow (with commas between), where it is installed.
        save_dtype: of the weights that are written.
        lora_rank: train low-rank adapters of this rank only; 0 trains all weights.
        lora_alpha: adapters are scaled by this / their rank; none is twice the rank.
        lora_targets: layers that get adapters, such as q_proj,v_proj; all linear ones where none is named.
        save_adapters: leave adapters as adapters in the checkpoint; they are merged in otherwise.
        device: cpu, cuda and so on; the command takes cuda where there is one.
        save_every: steps between resume points.
        alarms: stop when length, diversity or the held-out reward say that the reward is being hacked.
        thumbs: learn from single thumbs as well.
        dimensions: names of ratings that get an output of their own, such as helpfulness,accuracy,tone.
        ensemble: train so many models that differ in their seed: their mean is the reward, their spread an alarm.
        cross_validate: hold every prompt group out in turn as well.
        best_of: also the best of so many answers of the parent by the judge; 0 does not.
        review_queue: also put both models' answers to people, in the review queue of this id.
        generator: cached (any model and device), static (fixed shapes, CUDA graphs), continuous (transformers' continuous
            batching), or the address of a vLLM server, which reads weights from the folder vllm in the run's.
        checkpointed: recompute activations in the backward pass: a third slower, far less memory.
        check_memory: refuse to start what is estimated not to fit into memory.
        model_name: the name under which the model will serve; put it on production spans.
        sampling: of the answers that evaluate compares.
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
    environment: str | None = None
    chat_template: Path | None = None
    limit: int = 0
    mix: str | None = None
    trackers: tuple[str, ...] = ()
    save_dtype: SaveDtype = "float32"
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
    alarms: bool = True
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


def run_id_of(model: Path) -> str | None:
    """The run that wrote a checkpoint: from the manifest beside it, or from the note in a folder that it was promoted to."""
    model = model.resolve()
    for manifest, name in ((model / "promoted.json", "run"), (model.parent / "run.json", "id")):
        if manifest.exists() and (name == "run" or model.name == "checkpoint"):
            return json.loads(manifest.read_text(encoding="utf-8")).get(name)
    return None


def read_rows(context: JobContext, form: DatasetForm, split: Any = "train") -> list[Any]:
    """The rows of one form and split.

    Raises:
        JobError: there are none to train on.
    """
    snapshot_id = context.job.snapshot_id
    rows = list(context.client.snapshot_rows(snapshot_id, form, split))
    if split == "train" and rows:
        _refuse(context.client.snapshot(snapshot_id), form)
    if split == "train" and not rows:
        counts = context.client.snapshot(snapshot_id).num_rows
        there = [f"{n['train']:,} {name}" for name, n in counts.items() if n.get("train")]
        raise JobError(
            f"snapshot {snapshot_id} has no {form} to train on, which come from {SOURCES[form]}; it has "
            f"{', '.join(there) or 'nothing'}"
        )
    if split == "train" and context.job.limit:
        return rows[: context.job.limit]
    return rows


def _refuse(snapshot: ReportedSnapshot, form: DatasetForm) -> None:
    """Raise `JobError` where the snapshot's report says that its splits of this form are not fit for training."""
    for warning in snapshot.report.get("warnings", ()):
        if warning["form"] == form and warning["refuses"]:
            raise JobError(f"snapshot {snapshot.id}: {warning['message']}")


def held_out(context: JobContext, form: DatasetForm) -> list[Any]:
    """The test split, or the validation split where there is none."""
    return read_rows(context, form, "test") or read_rows(context, form, "validation")
