"""Sequence classifiers: what reward models and critics are made of, in every family."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)
from transformers.modeling_layers import GenericForSequenceClassification

from heedloop_trainer.nn.heads import body, plain_model

LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def is_language_model(path: str | Path) -> bool:
    """True where the model in a folder writes; False for classifiers, encoders and bodies without a head."""
    names = architectures(path)
    return not names or any(name.endswith(LANGUAGE_MODELS) for name in names)


def is_classifier(path: str | Path) -> bool:
    """True where the model in a folder has a classifier's head of its own."""
    return any(name.endswith("ForSequenceClassification") for name in architectures(path))


def is_headless(path: str | Path) -> bool:
    """True where a folder holds a body (an encoder's) that neither writes nor judges: a reward model's head will be fresh."""
    return (Path(path) / "config.json").exists() and not (is_language_model(path) or is_classifier(path))


def architectures(path: str | Path) -> list[str]:
    """Names of the classes that the model in a folder was saved from."""
    return list(AutoConfig.from_pretrained(path, trust_remote_code=False).architectures or ())


def classifier_class(config: Any) -> Any:
    """The sequence classifier of a family; made, and known to `transformers` from then on, where the family has none.

    Raises:
        ValueError: the family has no causal language model either.
    """
    kind = type(config)
    if kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[kind]
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"transformers has no text model of the family {config.model_type!r}")
    causal = MODEL_FOR_CAUSAL_LM_MAPPING[kind]
    family = next(c for c in causal.__mro__[1:] if issubclass(c, PreTrainedModel) and c is not causal)
    name = causal.__name__
    for ending in LANGUAGE_MODELS:
        name = name.removesuffix(ending)
    cls = type(f"{name}ForSequenceClassification", (GenericForSequenceClassification, family), {})
    AutoModelForSequenceClassification.register(kind, cls)
    return cls


def merged(model: nn.Module) -> Any:
    """The model with LoRA weights merged in: a copy then, and the model itself where there are none."""
    merge: Any = getattr(model, "merge_and_unload", None)
    return model if merge is None else copy.deepcopy(model).merge_and_unload()  # type: ignore[operator]


def value_model_from(reward_model: nn.Module) -> nn.Module:
    """A critic made from a reward model's weights, its head zero: the first values are 0, not a reward's guess."""
    twin = copy.deepcopy(plain_model(reward_model)).requires_grad_(True)
    twin.score = nn.Linear(twin.score.weight.shape[1], 1, bias=False).to(twin.score.weight.device)
    twin.config.num_labels = 1
    nn.init.zeros_(twin.score.weight)
    return twin


def sequence_classifier_from(policy: nn.Module, *, num_labels: int = 1, zero_head: bool = False) -> Any:
    """A classifier with a causal model's body (adapters merged in): the start of a reward model, or of a critic.

    The head is drawn from N(0, 1 / sqrt(H + 1)) as in "learning to summarize", or zero.
    """
    plain = merged(policy)
    config = copy.deepcopy(plain.config)
    config.num_labels = num_labels
    config.tie_word_embeddings = False
    classifier = classifier_class(config)._from_config(config)
    body(classifier).load_state_dict(body(plain).state_dict())
    with torch.no_grad():
        width = classifier.score.weight.shape[1]
        classifier.score.weight.zero_() if zero_head else classifier.score.weight.normal_(
            0, (width + 1) ** -0.5
        )
    return classifier.requires_grad_(True).to(next(plain.parameters()).device)
