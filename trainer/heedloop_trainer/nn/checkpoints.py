"""Model folders: policies, reward models and adapters as `transformers` and peft write them, read and written.

Weights are safetensors alone, and code inside a folder is never run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from heedloop_trainer.nn.classifiers import classifier_class, is_classifier, merged
from heedloop_trainer.nn.encoder import PromptConfig
from heedloop_trainer.nn.models import RewardModel, trains_adapters
from heedloop_trainer.nn.optimiser import DivergenceError


def is_adapter(path: str | Path) -> bool:
    """True where a folder holds adapters, not a whole model."""
    return (Path(path) / "adapter_config.json").exists()


def adapter_base(path: str | Path) -> Path:
    """The folder of the model that adapters in a folder belong to."""
    stored = json.loads((Path(path) / "adapter_config.json").read_text(encoding="utf-8"))
    return Path(stored["base_model_name_or_path"])


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a model folder; code inside the folder is never run."""
    return AutoTokenizer.from_pretrained(path, trust_remote_code=False)


def prompts_as_trained(path: str | Path) -> PromptConfig:
    """How prompts are written for a model: with the variables of the chat template that its run had, else with none.

    They are read from the run's manifest beside the checkpoint, or from the note in a folder that it was promoted to.
    """
    model = Path(path).resolve()
    manifest = model.parent / "run.json" if model.name == "checkpoint" else model
    for file in (model / "promoted.json", manifest):
        if file.is_file():
            config = json.loads(file.read_text(encoding="utf-8")).get("config", {})
            return PromptConfig(chat_template_kwargs=config.get("chat_template_kwargs", {}))
    return PromptConfig()


def load_policy(path: str | Path, *, device: str = "cpu", adapters: bool = False) -> Any:
    """A causal language model from safetensors, in float32 master weights.

    Args:
        adapters: where the folder holds LoRA adapters, keep them apart, to go on training them; merged in otherwise.
    """
    if not is_adapter(path):
        return _load(AutoModelForCausalLM, path, device)
    from peft import PeftModel

    base = _load(AutoModelForCausalLM, adapter_base(path), device)
    model: Any = PeftModel.from_pretrained(base, str(path), is_trainable=True)
    return model if adapters else model.merge_and_unload()


def load_reward_model(path: str | Path, *, device: str = "cpu") -> RewardModel:
    """A reward model with its tokenizer: as `save_model` wrote it, or any sequence classifier with one output.

    Raises:
        ValueError: the folder holds no classifier, or one of several outputs that does not say which is the reward.
    """
    if not is_classifier(path):
        raise ValueError(f"{path} holds no reward model: its model has no classifier's head")
    model = load_classifier(path, device=device)
    reward = RewardModel(model.eval().requires_grad_(False), load_tokenizer(path))
    if model.config.num_labels != len(reward.dimensions):
        raise ValueError(
            f"the classifier in {path} has {model.config.num_labels} outputs and does not say which of them is the reward; a reward "
            "model has one, or names them"
        )
    return reward


def load_classifier(path: str | Path, *, num_labels: int | None = None, device: str = "cpu") -> Any:
    """A sequence classifier of any family, in float32; with a fresh head of `num_labels` outputs where it has none."""
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    if num_labels is not None:
        config.num_labels = num_labels
    return _load(classifier_class(config), path, device, config=config)


def _load(cls: Any, path: str | Path, device: str, **settings: Any) -> Any:
    model = cls.from_pretrained(
        path, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, **settings
    )
    return model.to(device)


SaveDtype = Literal["float32", "bfloat16", "float16"]
"""The arithmetic of saved weights: the half-size ones are what servers load."""


def save_model(
    model: nn.Module,
    tokenizer: Any,
    folder: str | Path,
    *,
    adapters: bool = False,
    base: str | Path = "",
    dtype: SaveDtype = "float32",
) -> None:
    """Write a model and its tokenizer as a folder that `from_pretrained` loads.

    Args:
        adapters: write LoRA weights alone, which need the model they were trained on; they are merged in otherwise.
        base: the folder of that model.
        dtype: of the weights in the folder. The model is left with the rounded weights, in float32, so that what is measured
            afterwards is what was saved.

    Raises:
        DivergenceError: a weight is not finite.
    """
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise DivergenceError("the trained model has weights that are not finite; it is not written")
    if adapters and trains_adapters(model):
        model.peft_config["default"].base_model_name_or_path = str(base)  # type: ignore[index, union-attr]
        written: Any = model
    else:
        written = merged(model)
    _to_dtype(written, getattr(torch, dtype))
    written.save_pretrained(folder)
    _to_dtype(written, torch.float32)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _to_dtype(model: nn.Module, dtype: torch.dtype) -> None:
    """Round the weights in place; buffers (such as rotary frequencies) keep their precision."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
