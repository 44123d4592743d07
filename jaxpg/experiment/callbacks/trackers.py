"""Experiment trackers: Weights & Biases and MLflow. Nothing leaves the machine unless you say so.

A run of several seeds is a group of runs there, one for each seed, as their users have it, so that
they draw the mean and spread of a group. The environment variables of the two count: WANDB_MODE,
WANDB_PROJECT, MLFLOW_TRACKING_URI and the others.
"""

import logging
import os
import re
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from jaxpg.core.run import Callback, Result
from jaxpg.experiment.callbacks.series import (
    POINTS,
    Backend,
    Row,
    Series,
    describe_end,
    flatten,
    log_series,
)
from jaxpg.experiment.extras import require_extra
from jaxpg.experiment.files.atomic import write_atomically
from jaxpg.experiment.text import warn

MODES = ("offline", "online", "disabled")  # of Weights & Biases
HOME = "jaxpg"  # the project, or experiment, of runs that name none


def wandb(
    folder: str | Path = ".",
    *,
    project: str | None = None,
    name: str | None = None,
    id: str | None = None,
    tags: Sequence[str] = (),
    mode: str | None = None,
    config: Mapping[str, Any] | None = None,
    series: Sequence[Series] | None = None,
    points: int = POINTS,
) -> Callback:
    """Logs to Weights & Biases: a run for each seed, all of one group; its step is `env_steps`.

    mode: "offline" writes into `folder`/wandb, and `wandb sync` uploads it; "online" uploads
    meanwhile; None is what WANDB_MODE says, or "offline". project: None is WANDB_PROJECT, or
    "jaxpg". name: of the run, and of the group of its seeds. tags: words to find it by. id: known
    again when the run goes on: the same series go on, without a point that they have. config:
    settings, nested or not. series, points: as of `log_series`. Raises ImportError without wandb,
    ValueError for an unknown mode, and online for one that cannot log in.

    >>> env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(0)
    >>> log = [jaxpg.callbacks.wandb("logs", name="cliff", config=vars(cfg))]
    >>> _ = jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=1000, callbacks=log)
    >>> len([x for x in os.listdir("logs/wandb") if x.startswith("offline-run")])
    1
    """
    require_extra("wandb", "wandb", "Weights & Biases")
    mode = mode or os.environ.get("WANDB_MODE") or MODES[0]
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} (or WANDB_MODE): allowed is one of {', '.join(MODES)}")
    if mode == "online":
        _log_in()
    names = {"project": project, "name": name, "id": id, "mode": mode, "tags": [*tags]}
    written = _WandbRuns(Path(folder), names, config or {}, series is not None)
    return log_series(Backend(written.open, written.write, written.close), series, points)


def _import_wandb() -> Any:
    """Imports Weights & Biases, which even offline would look for the host that gathers its
    errors."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb as package

    return package


def _log_in() -> None:
    """Logs in, before anything compiles. Raises ValueError if that cannot be."""
    package = _import_wandb()
    try:
        package.login()
    except package.Error as error:
        said = " ".join(str(error).split())
        raise ValueError(f"mode='online' of Weights & Biases: {said}") from error


class _WandbRuns:
    """Runs of Weights & Biases, one for each series."""

    def __init__(
        self, folder: Path, names: dict[str, Any], config: Mapping[str, Any], grouped: bool
    ):
        self.folder, self.names, self.config, self.grouped = folder, names, config, grouped
        self.runs: list[Any] = []
        self.logged: list[int] = []  # environment steps of the newest point that was there
        self.marker: Path | None = None  # says that, where nobody else does: offline

    def open(self, series: Sequence[Series], env_steps: int) -> None:
        """Opens the runs; those of an id that was there before go on."""
        package = _import_wandb()
        self.folder.mkdir(parents=True, exist_ok=True)
        name, id = self.names["name"], self.names["id"] or secrets.token_hex(4)
        project = self.names["project"] or os.environ.get("WANDB_PROJECT") or HOME
        settings = package.Settings(silent=True, console="off")
        shared: dict[str, Any] = {"dir": str(self.folder), "project": project}
        shared |= {"mode": self.names["mode"], "tags": self.names["tags"], "settings": settings}
        grouped = self.grouped or len(series) > 1
        if grouped:
            shared["group"] = os.environ.get("WANDB_RUN_GROUP") or name or id
        for one in series:
            own = f"-{one.name}" if grouped else ""
            self._wait_for_a_new_folder(f"{id}{own}")
            run = package.init(
                **shared, id=f"{id}{own}", resume="allow", reinit="create_new",
                name=f"{name}{own}" if name else None, config={**self.config, **one.config},
            )  # fmt: skip
            self.runs.append(run)
        if self.names["mode"] == "online" and self.runs[0].url:
            print(f"wandb: {self.runs[0].url}", file=sys.stderr)
        there = 0
        if self.names["id"]:
            self.marker = self.folder / "wandb" / f"logged-{self.runs[0].id}"
            there = int(self.marker.read_text()) if self.marker.exists() else 0
        self.logged = [max(there, run.step - 1) for run in self.runs]  # step: of the next point

    def _wait_for_a_new_folder(self, id: str) -> None:
        """Waits until the second has ended in which a folder of this id was made: folders are
        named by the second, and what lies in one of the same name would be written over."""
        name = f"*-%Y%m%d_%H%M%S-{escape(id)}"
        while any(self.folder.glob(f"*wandb/{time.strftime(name)}")):
            time.sleep(0.05)

    def write(self, env_steps: int, rows: Sequence[Row]) -> None:
        """Logs a point of each series, but for one that is there."""
        for run, row, logged in zip(self.runs, rows, self.logged, strict=True):
            if row and env_steps > logged:
                run.log(row, step=env_steps, commit=True)
        if self.marker:
            write_atomically(self.marker, str(max(env_steps, *self.logged)).encode(), sync=False)

    def close(self, result: Result, rows: Sequence[Row]) -> None:
        """Ends the runs, with the code by which their state is known."""
        for run in self.runs:
            run.summary.update(describe_end(result))
            run.finish(exit_code={"error": 1, "interrupt": 130}.get(result.stopped, 0))


def mlflow(
    folder: str | Path = ".",
    *,
    experiment: str | None = None,
    name: str | None = None,
    id: str | None = None,
    config: Mapping[str, Any] | None = None,
    series: Sequence[Series] | None = None,
    points: int = POINTS,
) -> Callback:
    """Logs to MLflow: a run, with a child for each seed if there are several; its step is
    `env_steps`.

    It writes into the store that MLFLOW_TRACKING_URI names or, without that, into
    `folder`/mlflow/mlflow.db, from a thread of its own, so that training does not wait for the
    store. An error of the store is a warning. experiment: None is MLFLOW_EXPERIMENT_NAME, or
    "jaxpg". name: of the run. id: known again when the run goes on: the same series go on, without
    a point that they have. config: the parameters, nested or not. series, points: as of
    `log_series`. Raises ImportError without mlflow.

    >>> env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(0)
    >>> log = [jaxpg.callbacks.mlflow("logs", name="cliff", config=vars(cfg))]
    >>> _ = jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=1000, callbacks=log)
    >>> os.listdir("logs/mlflow")
    ['mlflow.db']
    """
    require_extra("mlflow", "mlflow", "MLflow")
    store = _MlflowStore(Path(folder, "mlflow"), experiment, name, id, config or {}, bool(series))
    waiting: deque[tuple[int, int, Sequence[Row]]] = deque()  # points that are not yet sent
    pool, failed = ThreadPoolExecutor(1), []

    def send(job: Callable, *args) -> None:
        """Has the thread do a job, after those before it."""

        def attempt() -> None:
            try:
                job(*args)
            except Exception as error:  # of many kinds; training goes on
                if not failed:
                    warn(f"MLflow: points are not logged: {type(error).__name__}: {error}")
                failed.append(error)

        pool.submit(attempt)

    def write(env_steps: int, rows: Sequence[Row]) -> None:
        waiting.append((env_steps, int(1000 * time.time()), rows))
        send(lambda: store.log([waiting.popleft() for _ in range(len(waiting))]))

    def close(result: Result, rows: Sequence[Row]) -> None:
        send(store.close, result, rows)
        pool.shutdown()

    return log_series(Backend(lambda *args: send(store.open, *args), write, close), series, points)


class _MlflowStore:
    """Runs in a store of MLflow: one, or a parent and a child for each seed."""

    def __init__(
        self, folder: Path, experiment: str | None, name: str | None, id: str | None,
        config: Mapping[str, Any], grouped: bool,
    ):  # fmt: skip
        self.folder, self.name, self.config, self.id = folder, name, config, id
        self.grouped = grouped
        self.experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or HOME
        self.runs: list[str] = []  # ids, one for each series
        self.parent: str | None = None
        self.logged: list[int] = []  # environment steps of the newest point that was there

    def open(self, series: Sequence[Series], env_steps: int) -> None:
        """Opens the runs, those that are there already again."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow as package

        uri = os.environ.get("MLFLOW_TRACKING_URI")
        artifacts = None
        if not uri:
            self.folder.mkdir(parents=True, exist_ok=True)
            from sqlalchemy import URL

            # Odd letters of a path are written as SQLAlchemy reads them; with the driver's name,
            # MLflow does not make a folder of what is written.
            path = str((self.folder / "mlflow.db").absolute())
            uri = URL.create("sqlite+pysqlite", database=path).render_as_string()
            artifacts = (self.folder / "artifacts").absolute().as_uri()
        with _without_notes():
            self.client = package.MlflowClient(tracking_uri=uri)
            found = self.client.get_experiment_by_name(self.experiment)
            self.experiment_id = (
                found.experiment_id
                if found
                else self.client.create_experiment(self.experiment, artifacts)
            )
        if self.grouped or len(series) > 1:
            self.parent = self._open_run(self.name, "all", self.config)
        for one in series:
            name = one.name if self.parent else self.name
            self.runs.append(self._open_run(name, one.name, {**self.config, **one.config}))
            self.logged.append(self._newest(self.runs[-1]))

    def _open_run(self, name: str | None, series: str, config: Mapping[str, Any]) -> str:
        """Id of a run that is there by its tags, or of a new one."""
        from mlflow.entities import Param

        tags = {"jaxpg.series": series} | ({"jaxpg.id": self.id} if self.id else {})
        same = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        if self.id and (
            found := self.client.search_runs([self.experiment_id], same, max_results=1)
        ):
            run = found[0].info.run_id
            self.client.update_run(run, status="RUNNING")
            return run
        if self.parent:
            tags["mlflow.parentRunId"] = self.parent
        run = self.client.create_run(self.experiment_id, run_name=name, tags=tags).info.run_id
        params = [Param(_plain(key), str(value)) for key, value in flatten(config).items()]
        self.client.log_batch(run, params=params)
        return run

    def _newest(self, run: str) -> int:
        """Environment steps of the newest point of a run; -1 if it has none."""
        names = self.client.get_run(run).data.metrics
        steps = [m.step for name in names for m in self.client.get_metric_history(run, name)]
        return max(steps, default=-1)

    def log(self, points: Sequence[tuple[int, int, Sequence[Row]]]) -> None:
        """Logs points (environment steps, milliseconds, rows), each run's in one call."""
        from mlflow.entities import Metric

        for i, run in enumerate(self.runs):
            metrics = [
                Metric(_plain(name), value, millis, env_steps)
                for env_steps, millis, rows in points
                for name, value in rows[i].items()
                if env_steps > self.logged[i]
            ]
            self.client.log_batch(run, metrics=metrics)

    def close(self, result: Result, rows: Sequence[Row]) -> None:
        """Ends the runs. The summary of the parent is the mean of its children's newest numbers."""
        from mlflow.entities import Metric, RunTag

        status = {"error": "FAILED", "interrupt": "KILLED"}.get(result.stopped, "FINISHED")
        tags = [RunTag(f"jaxpg.{key}", str(x)) for key, x in describe_end(result).items()]
        if self.parent:
            now, names = int(1000 * time.time()), sorted({name for row in rows for name in row})
            means = [float(np.mean([row[n] for row in rows if n in row])) for n in names]
            metrics = [
                Metric(_plain(name), mean, now, result.env_steps)
                for name, mean in zip(names, means, strict=True)
            ]
            self.client.log_batch(self.parent, metrics=metrics)
        for run in filter(None, [*self.runs, self.parent]):
            self.client.log_batch(run, tags=tags)
            self.client.set_terminated(run, status)


def _plain(name: str) -> str:
    """Name with letters only that MLflow allows."""
    return re.sub(r"[^\w\-. /:]", "_", name)[:250]


class _without_notes:
    """Context without the notes that a new store makes of its tables."""

    def __enter__(self):
        self.before = logging.root.manager.disable
        logging.disable(logging.INFO)

    def __exit__(self, *_):
        logging.disable(self.before)
