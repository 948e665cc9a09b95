"""Promotion: a model goes to where production loads it from, if its evaluation lets it through the gate.

promoted/              what production loads: the checkpoint's files, replaced in one step
promoted/promoted.json which run it is, which evaluation let it through, what it replaced, and the chat template's variables
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedloop.client import ApiError, Client
from heedloop.schema import format_time, utc_now
from heedloop_trainer.evaluation.gate import Decision, GateConfig, decide
from heedloop_trainer.evaluation.human_judgements import human_win_rate
from heedloop_trainer.runs.folder import file_hashes

NOTE = "promoted.json"


class PromotionError(Exception):
    """A promotion cannot be decided or done; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """What became of it: the gate's decision, and the folder where the model now is (None where it was refused)."""

    decision: Decision
    folder: Path | None


def promote(
    evaluation_run: Path,
    target: Path,
    *,
    config: GateConfig = GateConfig(),  # noqa: B008  (frozen)
    client: Client | None = None,
) -> Promotion:
    """Copy the model that an evaluation is about to `target`, unless the gate refuses it.

    Args:
        evaluation_run: folder of a `heedloop train evaluate` run with a win rate.
        target: the folder that production loads; what was there is moved aside to `<target>.previous`.
        client: the server whose run record is told; none where None.

    Raises:
        PromotionError: there is no such evaluation, or the model's files are no longer the ones that were evaluated.
    """
    found = _read(evaluation_run / "evaluation.json")
    if "win_rate" not in found:
        raise PromotionError(
            f"{evaluation_run} compared no models: evaluate with --model, --reference and --held-out-reward first"
        )
    decision = decide({**found["win_rate"], "people": _human_judgements(client, found)}, config)
    if not decision.promote:
        return Promotion(decision, None)
    model = Path(found["win_rate"]["model"])
    if _weights(model) != found["win_rate"]["model_files"]:
        raise PromotionError(
            f"the weights in {model} are not the ones that were evaluated; evaluate it again"
        )
    manifest = model.parent / "run.json"
    run = _read(manifest) if manifest.exists() else {}
    note = {
        "model": str(model),
        "run": run.get("id"),
        "config": {n: v for n, v in run.get("config", {}).items() if n == "chat_template_kwargs"},
        "evaluation": str(evaluation_run.resolve()),
        "win_rate": found["win_rate"]["win_rate"],
        "promoted_at": format_time(utc_now()),
        "replaced": _read(target / NOTE).get("run") if (target / NOTE).exists() else None,
    }
    _replace(model, target, note)
    _tell(client, note)
    return Promotion(decision, target)


def _human_judgements(client: Client | None, found: Mapping[str, Any]) -> Any:
    """What people have said by now of the pairs that the evaluation put to review."""
    if client is None or "review" not in found:
        return found.get("people")
    return human_win_rate(client, found["review"]["pairs"])


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as err:
        raise PromotionError(f"cannot read {path}: {err}") from err


def _weights(model: Path) -> dict[str, str]:
    return file_hashes(sorted(model.glob("*.safetensors")))


def _replace(model: Path, target: Path, note: Mapping[str, Any]) -> None:
    """Copy beside the target first, then rename: whoever loads it finds the old or the new one, whole."""
    fresh, previous = target.with_name(target.name + ".new"), target.with_name(target.name + ".previous")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(model, fresh)
    (fresh / NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
        target.rename(previous)
    fresh.rename(target)


def _tell(client: Client | None, note: Mapping[str, Any]) -> None:
    if client is None or note["run"] is None:
        return
    try:
        known = client.run(str(note["run"])).evaluation
        client.update_run(str(note["run"]), evaluation={**known, "promoted": dict(note)})
    except ApiError as err:
        raise PromotionError(f"the model is in place, and the server could not be told: {err}") from err
