"""Callbacks, host code between the chunks of a run (`jaxpg.Callback`): `jaxpg.callbacks`.

metrics.py      metrics in files
evaluation.py   returns of whole episodes, greedy and sampled
guards.py       ends of a run: a NaN, a target that is reached, no improvement
progress.py     a bar on stderr
series.py       series of points for loggers, one for each seed
tensorboard.py  TensorBoard files
trackers.py     Weights & Biases, MLflow
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxpg.core.config import unknown
from jaxpg.core.run import Callback
from jaxpg.experiment.callbacks.evaluation import evaluation
from jaxpg.experiment.callbacks.guards import NonFiniteError, early_stop, nan_guard, stop_at
from jaxpg.experiment.callbacks.metrics import metrics_files
from jaxpg.experiment.callbacks.progress import progress
from jaxpg.experiment.callbacks.series import Backend, Series, log_series
from jaxpg.experiment.callbacks.tensorboard import tensorboard
from jaxpg.experiment.callbacks.trackers import mlflow, wandb

__all__ = ["Backend", "NonFiniteError", "Series", "early_stop", "evaluation", "log_series"]
__all__ += ["metrics_files", "mlflow", "nan_guard", "progress", "stop_at", "tensorboard", "wandb"]

LOGGERS = ("jsonl", "tensorboard", "wandb", "mlflow")  # that a run may be asked for by name


def make_loggers(
    names: Sequence[str],
    folder: Path,
    id: str | None = None,
    config: Mapping[str, Any] | None = None,
    series: Sequence[Series] | None = None,
    name: str | None = None,
    tags: Sequence[str] | None = None,
) -> list[Callback]:
    """Makes loggers by name, which write into a run's folder, but for "jsonl", which is among the
    files of its rows. Nothing is written before the first chunk. id: of the run, by which its
    series go on when it does. name: of the run; None is that of its folder. The rest as of each.

    Raises ValueError for an unknown name, ImportError, with the command that installs it, for one
    whose package is missing.
    """
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    if not listed or not all(isinstance(x, str) for x in names):
        raise ValueError(f"log={names!r}: allowed is a list of names: {', '.join(LOGGERS)}")
    for logger in names:
        if logger not in LOGGERS:
            raise unknown("logger", logger, LOGGERS)
    named: dict[str, Any] = {"name": name or folder.absolute().name, "id": id}
    about: dict[str, Any] = {"config": config, "series": series}
    makers = {
        "tensorboard": lambda: tensorboard(folder / "tensorboard", **about),
        "wandb": lambda: wandb(folder, tags=tags or (), **named, **about),
        "mlflow": lambda: mlflow(folder, **named, **about),
    }
    return [makers[logger]() for logger in dict.fromkeys(names) if logger in makers]
