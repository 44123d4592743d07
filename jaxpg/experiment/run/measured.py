"""Measurements of a run, from its folder or from a Result, for figures and reports.

A folder is read as it stands: of a run under way, or of one that was killed, what there is.
"""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxpg.core.checks import require_bool, require_path
from jaxpg.core.env import Env
from jaxpg.core.run import Result
from jaxpg.core.types import Agent
from jaxpg.experiment.files import RUN
from jaxpg.experiment.files.atomic import CheckpointError, read_json
from jaxpg.experiment.files.rows import EVALUATIONS, METRICS
from jaxpg.experiment.run import checkpoint
from jaxpg.experiment.run.seal import read_rows, read_summary

AXES = ("seed", "iteration", "env_steps")


class MeasuredRun(NamedTuple):
    """Metrics and evaluations of a run, by seed."""

    name: str
    about: dict[str, Any]  # run.json; {} if there is none
    steps: np.ndarray  # [iterations] environment steps of each seed
    metrics: dict[str, np.ndarray]  # [seeds, iterations] by name; NaN is no data
    eval_steps: np.ndarray  # [evaluations]
    evaluations: dict[str, np.ndarray]  # [seeds, evaluations]; greedy, sampled and their _std
    summary: dict[str, Any]  # summary.json; {} while the run goes on, or if it was killed
    source: Path | Result
    trust: bool = False  # whether `result` may import any module that the folder names
    objects: tuple[Agent | None, Env | None] = (None, None)  # in the place of those it names

    @property
    def seeds(self) -> int:
        return len(next(iter(self.metrics.values())))

    def metric(self, name: str) -> np.ndarray:
        """Metric [seeds, iterations]; NaN throughout if the agent has none of this name."""
        return self.metrics.get(name, np.full((self.seeds, len(self.steps)), np.nan))

    def result(self) -> Result:
        """Result with the learnt state. Raises what `jaxpg.load` does: CheckpointError,
        ValueError."""
        if isinstance(self.source, Result):
            return self.source
        from jaxpg.experiment.run import folder as run_folder

        return run_folder.load(self.source, *self.objects, trust=self.trust)


def read_run(
    run: "str | Path | Result | MeasuredRun", trust: bool = False,
    agent: Agent | None = None, env: Env | None = None,
) -> MeasuredRun:  # fmt: skip
    """Reads what there is of a run; a MeasuredRun is returned as it is. agent, env, trust: as of
    `jaxpg.load`.

    Raises ValueError for a folder without metrics, CheckpointError for one that is damaged."""
    require_bool("trust", trust)
    if isinstance(run, MeasuredRun):
        return run
    if not isinstance(run, Result):
        require_path("run", run)
    found = _from_result(run) if isinstance(run, Result) else _from_folder(Path(run))
    return found._replace(trust=trust, objects=(agent, env))


def _from_result(result: Result) -> MeasuredRun:
    agent, cfg, env, *_ = result
    metrics = {name: np.atleast_2d(m) for name, m in result.metrics.items()}
    count = next(iter(metrics.values())).shape[1]
    iteration = np.arange(result.iteration - count, result.iteration) + 1
    steps = iteration * agent.steps_per_iter(cfg)
    summary = {"stopped": result.stopped, "seconds": result.seconds}
    summary |= {"iteration": result.iteration, "env_steps": result.env_steps}
    about = checkpoint.describe(agent, cfg, env)
    return MeasuredRun(
        f"{agent.name}-{env.name}", about, steps, metrics, np.zeros(0), {}, summary, result
    )


def _from_folder(folder: Path) -> MeasuredRun:
    about = read_json(folder / RUN) if (folder / RUN).exists() else {}
    steps, metrics = read_table(folder / METRICS)
    eval_steps, evaluations = np.zeros(0), {}
    if read_rows(folder / EVALUATIONS).count("\n") > 1:  # more than its header
        eval_steps, evaluations = read_table(folder / EVALUATIONS)
    summary = read_summary(folder)
    return MeasuredRun(
        folder.resolve().name, about, steps, metrics, eval_steps, evaluations, summary, folder
    )


def read_table(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Reads a file with a row per seed, which may be of a run under way: environment steps [rows of
    a seed], and the columns [seeds, rows of a seed].

    Raises ValueError if it has no rows, CheckpointError if it has something else, or not what is on
    record.
    """
    rows = read_rows(path).split("\n")[:-1]
    if len(rows) < 2:
        raise ValueError(f"{path}: found no rows, expected the metrics of a run")
    names = rows[0].split(",")
    try:
        cells = np.loadtxt(
            io.StringIO("\n".join(rows[1:])),
            delimiter=",",
            converters=lambda cell: float(cell or "nan"),
            ndmin=2,
        )
        seeds = int(cells[:, names.index("seed")].max()) + 1
        whole = len(cells) // seeds * seeds
        columns = cells[:whole].reshape(-1, seeds, len(names)).T
        by_name = dict(zip(names, columns, strict=True))
        return by_name["env_steps"][0], {k: x for k, x in by_name.items() if k not in AXES}
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: {error}; expected a table that jaxpg wrote") from error
