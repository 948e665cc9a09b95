"""What a training job needs before it can start: the model it trains, on its device, and everything beside it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from heedloop_trainer.evaluation.alarms import Watch
from heedloop_trainer.evaluation.judges import load_judge
from heedloop_trainer.generation.cached import Generator
from heedloop_trainer.generation.continuous import ContinuousGenerator
from heedloop_trainer.generation.static import StaticGenerator
from heedloop_trainer.generation.vllm import VLLMGenerator
from heedloop_trainer.jobs.job import FORMS, Job, JobContext, JobError
from heedloop_trainer.methods.reward_linear import LinearReward
from heedloop_trainer.nn.checkpoints import is_adapter, load_classifier, load_policy, load_tokenizer
from heedloop_trainer.nn.classifiers import is_classifier, is_language_model, sequence_classifier_from
from heedloop_trainer.nn.memory import available_bytes, estimate_memory, what_to_change
from heedloop_trainer.nn.models import (
    RewardModel,
    checkpoint_activations,
    name_outputs,
    own_pad_token,
    plain_model,
    stop_ids,
    trains_adapters,
    with_lora,
)
from heedloop_trainer.nn.scratch import SmallShape, small_classifier, small_policy, train_tokenizer
from heedloop_trainer.ppo.episodes import Environment
from heedloop_trainer.ppo.rollout import RewardFunction, function_scores

SCRATCH_SHAPES = {"tiny": SmallShape(128, 4, 4, 384), "small": SmallShape(256, 6, 8, 768)}
"""Shapes of `--from-scratch`: about 1 and 6 million parameters with a vocabulary of 2,048."""


def _texts(rows: Sequence[Any]) -> list[str]:
    out: list[str] = []
    for r in rows:
        out += [m.text for m in r.prompt]
        out += [getattr(r, n) for n in ("completion", "chosen", "rejected") if hasattr(r, n)]
    return out


def policy_for(
    context: JobContext, rows: Sequence[Any], *, num_trained: int = 1, num_frozen: int = 0
) -> tuple[Any, Any]:
    """The policy to train with its tokenizer, on its device; refused where it will not fit into memory."""
    job = context.job
    if job.from_scratch is not None:
        tokenizer = train_tokenizer(_texts(rows))
        model: Any = small_policy(tokenizer, SCRATCH_SHAPES[job.from_scratch], seed=job.config.seed)
    else:
        if job.model is None:
            raise JobError("give --model FOLDER, or --from-scratch tiny where no model can be had")
        tokenizer, model = _tokenizer(job), load_policy(job.model, adapters=True)
        # Saved with the model, so that servers stop where training ended its turns.
        plain_model(model).generation_config.eos_token_id = sorted(stop_ids(model, tokenizer))
    return _prepared(context, model, job.config.seed, num_trained, num_frozen), tokenizer


def _tokenizer(job: Job) -> Any:
    """The tokenizer in the model's folder, with the job's chat template where it has one.

    Raises:
        JobError: the folder holds no model.
    """
    model = Path(job.model or "")
    if model.is_dir() and not (model / "config.json").exists() and not is_adapter(model):
        inside = model / "checkpoint"
        hint = f"; the run's model is in {inside}" if (inside / "config.json").exists() else ""
        raise JobError(f"{model} holds no model (there is no config.json){hint}")
    tokenizer = load_tokenizer(model)
    if job.chat_template is not None:
        tokenizer.chat_template = job.chat_template.read_text(encoding="utf-8")
    return tokenizer


def classifier_for(context: JobContext, rows: Sequence[Any], *, seed: int) -> tuple[Any, Any]:
    """The reward model to train with its tokenizer: one output, and one more for each rating that was named."""
    job = context.job
    num_labels = 1 + len(job.dimensions)
    if job.from_scratch is not None:
        tokenizer = train_tokenizer(_texts(rows))
        shape = SCRATCH_SHAPES[job.from_scratch]
        model: Any = small_classifier(tokenizer, shape, num_labels=num_labels, seed=seed)
    else:
        if job.model is None:
            raise JobError("give --model FOLDER, or --from-scratch tiny where no model can be had")
        tokenizer = _tokenizer(job)
        model = _classifier(job.model, tokenizer, num_labels=num_labels, seed=seed)
    if job.dimensions:
        name_outputs(model, ("reward", *job.dimensions))
    return _prepared(context, model, seed, 1, 0), tokenizer


def _classifier(path: Path, tokenizer: Any, *, num_labels: int, seed: int) -> Any:
    """A reward model to go on with, or one made of a policy or an encoder, with a fresh head.

    Raises:
        JobError: a trained reward model has another number of outputs.
    """
    torch.manual_seed(seed)
    if is_adapter(path) or is_language_model(path):
        policy = load_policy(path)
        own_pad_token(policy, tokenizer)
        return sequence_classifier_from(policy, num_labels=num_labels)
    if tokenizer.eos_token_id is None:  # an encoder's text ends with its separator
        tokenizer.eos_token = tokenizer.sep_token
    model = load_classifier(path) if is_classifier(path) else load_classifier(path, num_labels=num_labels)
    if model.config.num_labels != num_labels:
        raise JobError(
            f"the reward model in {path} has {model.config.num_labels} outputs, not {num_labels}: name the same --dimensions, or "
            "start from the model that it was made of"
        )
    if RewardModel(model).causal:
        own_pad_token(model, tokenizer)
    return model


def _prepared(context: JobContext, model: Any, seed: int, num_trained: int, num_frozen: int) -> Any:
    job = context.job
    if trains_adapters(model):
        rank = model.peft_config["default"].r
        if job.lora_rank not in (0, rank):
            raise JobError(
                f"{job.model} holds adapters of rank {rank}, not {job.lora_rank}; leave --lora out to go on"
            )
    elif job.lora_rank:
        model = with_lora(
            model, rank=job.lora_rank, alpha=job.lora_alpha, targets=job.lora_targets, seed=seed
        )
    if job.checkpointed:
        checkpoint_activations(model)
    if job.check_memory:
        _refuse_what_does_not_fit(context, model, num_trained, num_frozen)
    return model.to(job.device)


def _refuse_what_does_not_fit(context: JobContext, model: Any, num_trained: int, num_frozen: int) -> None:
    job, config = context.job, context.job.config
    sampling = getattr(config, "sampling", None)
    decoded = 0
    if sampling is not None:
        together = min(sampling.batch_size, config.batch_size)
        decoded = together * (config.max_prompt_tokens + sampling.max_new_tokens)
    found = estimate_memory(
        model,
        max_tokens=min(config.max_tokens, _largest_minibatch(job)),
        num_trained=num_trained,
        num_frozen=num_frozen,
        num_whole=int(sampling is not None and context.world.size > 1),
        decoded_tokens=decoded,
        bfloat16=config.bfloat16,
        world_size=context.world.size,
    )
    free = available_bytes(job.device)
    if free is None or found.total <= free:
        return
    advice = what_to_change(config, checkpointed=job.checkpointed, lora=job.lora_rank > 0, device=job.device)
    raise JobError(
        f"this run would take about {found.text} and {job.device} has {free / 2**30:.1f} GiB free. What makes it smaller: "
        f"{advice}. --no-memory-check starts it all the same"
    )


def _largest_minibatch(job: Job) -> int:
    """Tokens of a minibatch of the longest rows: a micro-batch never holds more, whatever its budget is."""
    config = job.config
    if (answer := getattr(config, "max_response_tokens", None)) is None:
        answer = config.sampling.max_new_tokens * getattr(config, "max_turns", 1)
    num_answers = 2 if FORMS[job.method] == "comparisons" else 1
    return num_answers * config.batch_size * (config.max_prompt_tokens + answer)


def reference_for(job: Job) -> Any:
    """The frozen policy, where it is not the trained one as it comes in."""
    return None if job.reference is None else load_policy(job.reference, device=job.device)


def generator_for(context: JobContext, model: Any, tokenizer: Any) -> Generator | None:
    """What writes the responses; None for the cached decoder, which PPO makes itself."""
    name, stops = context.job.generator, stop_ids(model, tokenizer)
    if name == "cached":
        return None
    if context.world.size > 1:
        raise JobError("over several processes each samples with the cached generator; leave --generator out")
    if name == "static":
        return StaticGenerator(model, stops, bfloat16=context.job.config.bfloat16)
    if name == "continuous":
        return ContinuousGenerator(model, stops)
    if name.startswith(("http://", "https://")):
        folder = context.run.path / "vllm"
        return VLLMGenerator(name, str(folder), stops, policy=model, folder=folder)
    raise JobError(
        f"there is no generator {name!r}; there is cached, static, continuous, or a vLLM server's http address"
    )


def watch_for(job: Job) -> Watch | None:
    """What looks out for reward hacking, where that is wanted."""
    if job.held_out_reward in job.reward_models:
        raise JobError(
            f"{job.held_out_reward} is the reward that is trained for: --held-out-reward must be another model, of another seed or "
            "of other judgements"
        )
    if not job.alarms:
        return None
    return Watch(judges=[load_judge(job.held_out_reward, device=job.device)] if job.held_out_reward else [])


def environment_for(job: Job) -> Environment | None:
    """What answers the turns of the policy, where there is such a thing."""
    return None if job.environment is None else _function(job.environment, "environment")


def rewards_for(job: Job) -> tuple[RewardModel | None, RewardFunction | None]:
    """The reward model that PPO climbs and the function beside it; linear models count as functions."""
    functions: list[RewardFunction] = []
    neural: RewardModel | None = None
    for path in job.reward_models:
        judge = load_judge(path, device=job.device)
        if isinstance(judge, LinearReward):
            functions.append(judge)
        elif neural is None:
            neural = judge
        else:
            raise JobError(
                "give one neural reward model; further ones can be linear, members of an ensemble, or judge as --held-out-reward"
            )
    if job.reward_function is not None:
        functions.append(_function(job.reward_function, "reward function"))
    if neural is None and not functions and job.environment is None:
        raise JobError(f"{job.method} needs --reward-model FOLDER, --reward-function FILE.py:NAME, or both")
    if not functions:
        return neural, None
    return neural, lambda responses: [
        sum(v) for v in zip(*(function_scores(f, responses) for f in functions), strict=True)
    ]


def _function(place: str, noun: str = "reward function") -> Any:
    """The function at `FILE.py:NAME` or `module:name`; modules are also looked for in the current folder."""
    source, _, name = place.rpartition(":")
    try:
        if source.endswith(".py"):
            return vars(_module_of(Path(source)))[name]
        if "" not in sys.path:
            sys.path.insert(0, "")
        return getattr(importlib.import_module(source), name)
    except (ImportError, AttributeError, KeyError, ValueError, OSError) as err:
        raise JobError(
            f"no {noun} at {place!r} ({type(err).__name__}: {err}); write FILE.py:NAME or MODULE:NAME"
        ) from err


def _module_of(file: Path) -> Any:
    """A Python file as a module; what it imports from its own folder is found."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    sys.path.insert(0, str(file.resolve().parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
