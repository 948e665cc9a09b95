"""Run folders: what a training run leaves behind, and how it starts again after a crash.

    run.json        the manifest: method, configuration, snapshot, parent, seed, versions, status, final metrics
    metrics.jsonl   one row per step
    checkpoint/     the model: safetensors, tokenizer, README.md (the model card); loads with from_pretrained
    best.safetensors  while a run looks at its validation split: the weights with the lowest loss so far
    resume/         parameters, optimiser and counters of the last saved step; safetensors and JSON, replaced atomically

A run that was given a client registers itself with the server and reports its metrics as they come. A server that is away
never stops a training run: what could not be sent waits and is sent later, and the manifest counts what never was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import platform
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

from heedloop.client import ApiError, Client
from heedloop.schema import Run, RunMethod, RunStatus, from_json, to_json, utc_now
from heedloop_trainer.runs.trackers import Tracker

log = logging.getLogger(__name__)

HISTORY_INTERVAL_S = 2.0
"""Metrics wait at most about this long before they are sent to the server."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a method gives back; the model it was given has been trained in place.

    Attributes:
        metrics: final values by name.
        history: the rows of metrics.jsonl.
        stopped: why the run ended before its last step, or None.
    """

    metrics: dict[str, float]
    history: list[dict[str, float]]
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class ResumeState:
    """What a run needs to go on: the number of finished steps, tensors by name, and plain JSON values."""

    step: int
    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]


class RunFolder:
    """One run and its folder; without a folder (`RunFolder.in_memory`) it only keeps the history.

    Attributes:
        record: the run as the server and run.json know it.
        history: every logged row.
        num_unsent: metric rows that the server has not taken yet.
        trackers: where metrics go as well.
    """

    def __init__(
        self,
        record: Run,
        folder: Path | None,
        *,
        client: Client | None = None,
        extra: Mapping[str, Any] | None = None,
        save_every: int = 0,
        writes: bool = True,
    ) -> None:
        self.record, self.folder, self.client = record, folder, client
        self.writes = writes
        self.extra = dict(extra or {})
        self.save_every = save_every
        self.history: list[dict[str, float]] = []
        self.trackers: list[Tracker] = []
        self._unsent: list[dict[str, float]] = []
        self._sent_at = 0.0
        self._registered = False

    @classmethod
    def in_memory(cls, method: RunMethod) -> RunFolder:
        """A run that leaves nothing on disk."""
        return cls(Run(id=uuid.uuid4().hex, method=method), None)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        method: RunMethod,
        *,
        config: Any = None,
        name: str = "",
        snapshot_id: str | None = None,
        parent: str | None = None,
        model_name: str = "",
        client: Client | None = None,
        extra: Mapping[str, Any] | None = None,
        save_every: int = 0,
    ) -> RunFolder:
        """Start a run, or go on with the one in `folder`.

        Args:
            config: the method's configuration, a dataclass or a mapping.
            parent: run id or path of the checkpoint that this one starts from.
            model_name: the name under which the model will serve.
            extra: further facts for the manifest, such as file hashes.
            save_every: steps between resume points; 0 saves none.

        Raises:
            ValueError: the folder holds a run of another method, configuration or snapshot.
        """
        folder = Path(folder)
        settings = _plain_config(config)
        record = Run(
            id=uuid.uuid4().hex,
            method=method,
            name=name or folder.name,
            snapshot_id=snapshot_id,
            parent=parent,
            model_name=model_name or folder.name,
            checkpoint=str(folder.resolve() / "checkpoint"),
            config=settings,
            seed=int(settings.get("seed", 0)),
            code_version=_code_version(),
        )
        if (folder / "run.json").exists():
            record = _same_run(folder, record)
        folder.mkdir(parents=True, exist_ok=True)
        run = cls(record, folder, client=client, extra=extra, save_every=save_every)
        run._write_manifest()
        run._register()
        return run

    @classmethod
    def follow(cls, folder: str | Path, *, save_every: int = 0) -> RunFolder:
        """The run in `folder` for a process that only reads it: over several processes one of them writes."""
        stored = json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))
        return cls(_record_of(stored), Path(folder), save_every=save_every, writes=False)

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def path(self) -> Path:
        """The folder; a `ValueError` where the run has none."""
        if self.folder is None:
            raise ValueError("this run is kept in memory and has no folder")
        return self.folder

    @property
    def checkpoint(self) -> Path:
        """Where the trained model belongs."""
        return self.path / "checkpoint"

    # ------------------------------------------------------------------------------------------------- metrics

    def log(self, step: int, **metrics: float) -> None:
        """One row of metrics: kept, appended to metrics.jsonl and, now and then, sent to the server."""
        row = {"step": step, **{k: float(v) for k, v in metrics.items()}}
        self.history.append(row)
        if self.folder is not None and self.writes:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        for tracker in self.trackers:
            tracker.log(step, {k: v for k, v in row.items() if k != "step"})
        if self.client is not None:
            self._unsent.append(_finite(row))
            if time.monotonic() - self._sent_at >= HISTORY_INTERVAL_S:
                self.send()

    @property
    def num_unsent(self) -> int:
        return len(self._unsent)

    def send(self) -> None:
        """Send the waiting metrics; a server that is away gets them next time."""
        self._sent_at = time.monotonic()
        if self.client is None or not self._unsent:
            return
        try:
            self._register()
            self.client.add_run_history(self.id, self._unsent)
            self._unsent = []
        except ApiError as err:
            log.warning("%d metric rows wait for the server: %s", len(self._unsent), err)

    # ---------------------------------------------------------------------------------------------- resume

    def due(self, step: int) -> bool:
        """True where a resume point belongs after `step` finished steps."""
        return self.folder is not None and self.save_every > 0 and step % self.save_every == 0

    def save_tensors(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Replace the file `name`.safetensors of the run's folder."""
        fresh = self.path / f".{name}.tmp"
        save_file(_apart(tensors), fresh)
        fresh.replace(self.path / f"{name}.safetensors")

    def load_tensors(self, name: str) -> dict[str, torch.Tensor]:
        """What `save_tensors` wrote."""
        return _tensors_of(self.path / f"{name}.safetensors")

    def save_state(self, step: int, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Replace the resume point by this one; a crash at any moment leaves the old or the new one whole."""
        if self.folder is None or not self.writes:
            return
        fresh, final = self.folder / f".resume-{os.getpid()}", self.folder / "resume"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            save_file(_apart(tensors), fresh / "tensors.safetensors")
            (fresh / "values.json").write_text(json.dumps({"step": step, **values}), encoding="utf-8")
        except OSError as err:
            shutil.rmtree(fresh, ignore_errors=True)
            raise OSError(
                f"could not write the resume point of step {step} to {final}: {err}. The one before it is whole; free some "
                "disk space and start the same command again."
            ) from err
        for file in fresh.iterdir():
            _sync(file)
        old = self.folder / "resume.old"
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            final.rename(old)
        fresh.rename(final)
        shutil.rmtree(old, ignore_errors=True)

    def load_state(self) -> ResumeState | None:
        """The last resume point, or None; metrics logged after it are taken back, since they will come again."""
        if self.folder is None:
            return None
        final, old = self.folder / "resume", self.folder / "resume.old"
        place = final if final.exists() else old
        if not place.exists():
            self._rewind(-1)
            return None
        values = json.loads((place / "values.json").read_text(encoding="utf-8"))
        tensors = _tensors_of(place / "tensors.safetensors")
        step = int(values.pop("step"))
        self._rewind(step)
        return ResumeState(step, tensors, values)

    def _rewind(self, step: int) -> None:
        path = None if self.folder is None else self.folder / "metrics.jsonl"
        if path is None or not path.exists():
            return
        self.history = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break  # the line that the crash cut
            if row["step"] < step:
                self.history.append(row)
        if not self.writes:
            return
        fresh = path.with_suffix(".tmp")
        fresh.write_text("".join(json.dumps(r) + "\n" for r in self.history), encoding="utf-8")
        fresh.replace(path)

    # ------------------------------------------------------------------------------------------------- end

    def finish(
        self,
        *,
        metrics: Mapping[str, float] | None = None,
        evaluation: Mapping[str, Any] | None = None,
        status: RunStatus = "finished",
        error: str | None = None,
    ) -> Run:
        """Close the run: manifest, server, and the resume point goes (the checkpoint is what counts now)."""
        self.record = replace(
            self.record,
            status=status,
            finished_at=utc_now(),
            metrics={k: float(v) for k, v in (metrics or {}).items()},
            evaluation=dict(evaluation or {}),
            error=error,
        )
        self.send()
        self._report_end()
        while self.trackers:
            self.trackers.pop().close()
        if self.folder is not None and self.writes:
            self.extra["num_metric_rows_unsent"] = self.num_unsent
            self._write_manifest()
            if status == "finished":
                shutil.rmtree(self.folder / "resume", ignore_errors=True)
                (self.folder / "best.safetensors").unlink(missing_ok=True)
        return self.record

    def fail(self, error: BaseException) -> None:
        """Note why the run ended."""
        self.finish(status="failed", error=f"{type(error).__name__}: {error}")

    def _report_end(self) -> None:
        if self.client is None:
            return
        fields = to_json(self.record)
        names = ("status", "metrics", "evaluation", "finished_at", "checkpoint", "model_name", "error")
        try:
            self._register()
            self.client.update_run(self.id, **{n: fields[n] for n in names if n in fields})
        except ApiError as err:
            log.warning("the end of run %s could not be reported: %s", self.id, err)

    def _register(self) -> None:
        if self.client is None or self._registered:
            return
        try:
            self.client.create_run(self.record)
            self._registered = True
        except ApiError as err:
            if err.status == 409:  # a resumed run is already there
                self._registered = True
                return
            if err.status in (401, 403, 404, 422):
                raise
            log.warning("run %s could not be registered yet: %s", self.id, err)

    def _write_manifest(self) -> None:
        if self.folder is None:
            return
        manifest = {**to_json(self.record), "versions": _versions(), **self.extra}
        fresh = self.folder / "run.json.tmp"
        fresh.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        fresh.replace(self.folder / "run.json")


def _plain_config(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    return json.loads(json.dumps(dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config))


def _record_of(manifest: Mapping[str, Any]) -> Run:
    names = {f.name for f in dataclasses.fields(Run)}
    return from_json(Run, {k: v for k, v in manifest.items() if k in names})


def _same_run(folder: Path, record: Run) -> Run:
    """The run already in the folder, to be gone on with; refused where it is another one."""
    stored = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    before = _record_of(stored)
    if before.status == "failed" and not any((folder / n).exists() for n in ("metrics.jsonl", "resume")):
        return record  # it never began: what was wrong with it may be what is now different
    pairs = {n: (getattr(before, n), getattr(record, n)) for n in ("method", "snapshot_id", "parent")}
    names = sorted(set(before.config) | set(record.config))
    pairs |= {n: (before.config.get(n), record.config.get(n)) for n in names}
    for name, (old, new) in pairs.items():
        if old != new:
            raise ValueError(
                f"{folder} holds a run whose {name} is {old!r}, not {new!r}; give another folder, or remove this one"
            )
    if before.status == "finished":
        raise ValueError(f"{folder} holds a finished run; give another folder, or remove this one")
    return replace(before, status="running", error=None, finished_at=None)


def _finite(row: Mapping[str, float]) -> dict[str, float]:
    """JSON has no NaN: such a value is left out of what is sent, and stays in metrics.jsonl."""
    return {k: v for k, v in row.items() if v == v and abs(v) != float("inf")}


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A copy of each tensor of its own: tied weights share storage, which safetensors refuses."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}


def _tensors_of(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _code_version() -> str:
    try:
        return version("heedloop")
    except PackageNotFoundError:
        return ""


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def file_hashes(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of each file, by its name."""
    out: dict[str, str] = {}
    for path in sorted(paths):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        out[path.name] = digest.hexdigest()
    return out


def flatten_state(prefix: str, state: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """Split nested state into named tensors and JSON: every tensor leaves a `{"$tensor": name}` behind."""
    tensors: dict[str, torch.Tensor] = {}

    def walk(name: str, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            tensors[name] = value
            return {"$tensor": name}
        if isinstance(value, Mapping):
            return {"$items": [[k, walk(f"{name}.{k}", v)] for k, v in value.items()]}
        if isinstance(value, (list, tuple)):
            return [walk(f"{name}.{i}", v) for i, v in enumerate(value)]
        return value

    return tensors, walk(prefix, state)


def restore_state(tensors: Mapping[str, torch.Tensor], tree: Any) -> Any:
    """The reverse of `flatten_state`."""
    if isinstance(tree, dict) and "$tensor" in tree:
        return tensors[tree["$tensor"]]
    if isinstance(tree, dict):
        return {k: restore_state(tensors, v) for k, v in tree["$items"]}
    if isinstance(tree, list):
        return [restore_state(tensors, v) for v in tree]
    return tree
