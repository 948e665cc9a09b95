"""Experiment trackers: TensorBoard, Weights & Biases and MLflow, each where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Where a run's metrics go beside its folder and the server."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One step's metrics."""
        ...

    def close(self) -> None:
        """The run has ended."""
        ...


class _TensorBoard:
    """Event files in the run's folder, for `tensorboard --logdir`."""

    def __init__(self, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text(name, "\n".join(f"    {k}: {v}" for k, v in config.items()))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    """A run of Weights & Biases; its address and key come from its own environment variables."""

    def __init__(self, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._run: Any = wandb.init(name=name, dir=str(folder), config=dict(config))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    """A run of MLflow; its server comes from its own environment variables."""

    def __init__(self, name: str, folder: Path, config: Mapping[str, Any]) -> None:  # noqa: ARG002
        import mlflow  # pyright: ignore[reportMissingImports]

        self._mlflow: Any = mlflow
        mlflow.start_run(run_name=name)
        mlflow.log_params(dict(config))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(metrics), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


TRACKERS: dict[str, Callable[[str, Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WandB,
    "mlflow": _MLflow,
}


def open_tracker(kind: str, name: str, folder: Path, config: Mapping[str, Any]) -> Tracker:
    """A tracker for one run.

    Args:
        kind: one of `TRACKERS`.
        name: of the run.
        folder: the run's folder.
        config: the run's settings.

    Raises:
        ValueError: there is no such tracker, or its package is not installed.
    """
    if kind not in TRACKERS:
        raise ValueError(f"there is no tracker {kind!r}; there is {', '.join(TRACKERS)}")
    try:
        return TRACKERS[kind](name, folder, config)
    except ImportError as err:
        raise ValueError(f"the tracker {kind} needs a package that is not installed: {err}") from err
