"""Model cards: the README.md in every checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from heedloop.schema import Run, format_time


def model_card(
    run: Run, *, num_parameters: int, facts: Mapping[str, Any], metrics: Mapping[str, float]
) -> str:
    """A model card in Markdown: where the model comes from, what it learned from, how good it is, what it cannot do."""
    library = "scikit-learn" if run.method == "reward_linear" else "transformers"
    lines = [
        "---",
        f"library_name: {library}",
        f"tags: [heedloop, {run.method}]",
        "---",
        f"# {run.model_name or run.name}",
        "",
        f"Made by heedloop {run.code_version} with `{run.method}`, run `{run.id}`, started {format_time(run.started_at)}.",
        "",
        f"- Starts from: {run.parent or 'random weights'}",
        f"- Snapshot: `{run.snapshot_id or 'none'}`: the feedback ids behind every row are read with it",
        f"- Parameters: {num_parameters:,}",
        *[f"- {name}: {value}" for name, value in facts.items()],
        "",
        "## Metrics",
        "",
        *[f"- {name}: {value:.4g}" for name, value in metrics.items()],
    ]
    if run.evaluation.get("accuracy"):
        lines += ["", "## Held-out comparisons", "", accuracy_table(run.evaluation)]
    if run.method == "reward":
        lines += ["", "## How to read the score", "", *reading_lines()]
    lines += [
        "",
        "## Limits",
        "",
        "It knows what the judgements of one application taught it and inherits the leanings of the people who judged. "
        + _LIMITS.get(
            run.method,
            "Compare it with its parent on held-out prompts (`heedloop train evaluate`) before using it.",
        ),
        "",
        "## Configuration",
        "",
        "```json",
        json.dumps(dict(run.config), indent=2, sort_keys=True),
        "```",
        "",
    ]
    return "\n".join(lines)


def reading_lines() -> list[str]:
    """Three lines of Python that give a prompt's and an answer's reward as the trainer reads it."""
    return [
        "Higher is better; a reward is 0 on average over the training answers, with standard deviation 1. It compares answers to one",
        "prompt and says nothing across prompts.",
        "",
        "```python",
        "from heedloop_trainer.nn.checkpoints import load_reward_model",
        'reward = load_reward_model("this folder")',
        'print(reward.reward_of("the user\'s question", "an answer to it"))',
        "```",
        "",
        "With transformers alone: the first logit of the prompt by the chat template, the answer and its end token; times `gain` plus",
        "`bias`, which `heedloop_reward` in config.json holds.",
    ]


_REWARD_LIMITS = "A reward model is right only near the answers it was trained on; see the baselines above before using it."
_LIMITS = {"reward": _REWARD_LIMITS, "reward_linear": _REWARD_LIMITS}


def accuracy_table(report: Mapping[str, Any]) -> str:
    """Held-out pairwise accuracy with intervals, as a Markdown table."""
    rows = ["| model | accuracy | 95% interval |", "|---|---|---|"]
    for name, found in report["accuracy"].items():
        span = f"[{found['low']:.3f}, {found['high']:.3f}]" if "low" in found else ""
        rows.append(f"| {name} | {found['estimate']:.3f} | {span} |")
    for name, found in report.get("paired_gain", {}).items():
        span = f"[{found['low']:+.3f}, {found['high']:+.3f}]"
        rows.append(f"| advantage over {name} (same rows) | {found['estimate']:+.3f} | {span} |")
    if report.get("agreement_ceiling") is not None:
        rows.append(f"| ceiling (how far judges agree) | {report['agreement_ceiling']:.3f} | |")
    return "\n".join(rows)
