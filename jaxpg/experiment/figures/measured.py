"""Measurements of a run, from its folder or from a Result, for figures and reports.

A folder is read as it stands: of a run under way, or of one that was killed, what there is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxpg.core.blocks import Blocks, block_length
from jaxpg.core.checks import require_bool, require_path
from jaxpg.core.env import Env
from jaxpg.core.run import Result
from jaxpg.core.types import Agent
from jaxpg.experiment.files import RUN
from jaxpg.experiment.files.atomic import CheckpointError, read_json
from jaxpg.experiment.files.kinds import tell_kind
from jaxpg.experiment.files.rows import EVALUATIONS, METRICS, parse_cells
from jaxpg.experiment.run import checkpoint
from jaxpg.experiment.run.seal import read_rows, read_summary

AXES = ("seed", "iteration", "env_steps")


class MeasuredRun(NamedTuple):
    """Metrics and evaluations of a run, by seed. A row is an iteration or a block of them."""

    name: str
    about: dict[str, Any]  # run.json; {} if there is none
    steps: np.ndarray  # [rows] environment steps of each seed, at the end of the row
    metrics: dict[str, np.ndarray]  # [seeds, rows] by name; NaN is no data
    eval_steps: np.ndarray  # [evaluations]
    evaluations: dict[str, np.ndarray]  # [seeds, evaluations]; greedy, sampled and their _std
    summary: dict[str, Any]  # summary.json; {} while the run goes on, or if it was killed
    source: Path | Result
    trust: bool = False  # whether `result` may import any module that the folder names
    log_every: int = 1  # iterations of a row
    objects: tuple[Agent | None, Env | None] = (None, None)  # in the place of those it names

    @property
    def seeds(self) -> int:
        return len(next(iter(self.metrics.values())))

    def metric(self, name: str) -> np.ndarray:
        """Metric [seeds, rows]; NaN throughout if the agent has none of this name."""
        return self.metrics.get(name, np.full((self.seeds, len(self.steps)), np.nan))

    def result(self) -> Result:
        """Result with the learnt state. Raises what `jaxpg.load` does: CheckpointError,
        ValueError."""
        if isinstance(self.source, Result):
            return self.source
        from jaxpg.experiment.run import folder as run_folder

        return run_folder.load(self.source, *self.objects, trust=self.trust)


def read_run(
    run: "str | Path | Result | MeasuredRun",
    trust: bool = False,
    agent: Agent | None = None,
    env: Env | None = None,
    names: Sequence[str] | None = None,
) -> MeasuredRun:
    """Reads what there is of a run; a MeasuredRun is returned as it is. agent, env, trust: as of
    `jaxpg.load`. names: of the metrics that are read of a folder, if not all.

    Of more than 10,000 rows, which a run has if it was asked for all, blocks are taken, as the run
    would have (see core/blocks.py): a picture has fewer points. Raises ValueError for a folder
    without metrics, CheckpointError for one that is damaged.
    """
    require_bool("trust", trust)
    if isinstance(run, MeasuredRun):
        return run
    if not isinstance(run, Result):
        require_path("run", run)
    found = _from_result(run) if isinstance(run, Result) else _from_folder(Path(run), names)
    return found._replace(trust=trust, objects=(agent, env))


def _from_result(result: Result) -> MeasuredRun:
    agent, cfg, env, *_ = result
    metrics = {name: np.atleast_2d(m) for name, m in result.metrics.items()}
    steps = result.iterations * agent.steps_per_iter(cfg)
    every = result.log_every * block_length(len(steps))
    steps, metrics = to_blocks(steps, metrics)
    summary = {"stopped": result.stopped, "seconds": result.seconds}
    summary |= {"iteration": result.iteration, "env_steps": result.env_steps}
    about = checkpoint.describe(agent, cfg, env)
    return MeasuredRun(
        f"{agent.name}-{env.name}", about, steps, metrics, *_evaluations_of(result), summary,
        result, log_every=every,
    )  # fmt: skip


def to_blocks(
    steps: np.ndarray, metrics: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Takes blocks of rows, so that there are no more than 10,000."""
    blocks = Blocks(block_length(len(steps)))
    if blocks.every == 1:
        return steps, metrics
    (ends, some), (end, last) = blocks.add(metrics), blocks.last()
    both = {name: np.concatenate([x, last[name]], -1) for name, x in some.items()}
    return steps[np.append(ends, end) - 1], both


def _evaluations_of(result: Result) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Environment steps and returns [seeds, evaluations] of a result's evaluations."""
    measured = dict(result.evaluations)
    measured.pop("iteration", None)
    steps = measured.pop("env_steps", np.zeros(0))
    return steps, {name: np.atleast_2d(x) for name, x in measured.items()}


def _from_folder(folder: Path, names: Sequence[str] | None) -> MeasuredRun:
    about = read_json(folder / RUN) if (folder / RUN).exists() else {}
    steps, metrics = read_table(folder / METRICS, names)
    every = about.get("log_every", 1) * block_length(len(steps))
    steps, metrics = to_blocks(steps, metrics)
    eval_steps, evaluations = np.zeros(0), {}
    if read_rows(folder / EVALUATIONS).count("\n") > 1:  # more than its header
        eval_steps, evaluations = read_table(folder / EVALUATIONS)
    summary = read_summary(folder)
    return MeasuredRun(
        folder.resolve().name, about, steps, metrics, eval_steps, evaluations, summary, folder,
        log_every=every,
    )  # fmt: skip


def read_table(
    path: Path, wanted: Sequence[str] | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Reads a file with a row per seed, which may be of a run under way: environment steps [rows of
    a seed], and the columns [seeds, rows of a seed]. wanted: these of the columns, where there.

    Raises ValueError if it has no rows, CheckpointError if it has something else, or not what is on
    record.
    """
    header, _, rows = read_rows(path).partition("\n")
    if not rows.strip("\n"):
        other = tell_kind(path.parent, RUN)
        raise ValueError(f"{path}: found no rows, expected the metrics of a run{other}")
    names, columns = header.split(","), None
    if {*names} & {*(wanted or ())}:
        columns = [i for i, name in enumerate(names) if name in (*AXES, *(wanted or ()))]
        names = [names[i] for i in columns]
    try:
        cells = parse_cells(rows, columns)
        seeds = int(cells[:, names.index("seed")].max()) + 1
        whole = len(cells) // seeds * seeds
        by_name = dict(zip(names, cells[:whole].reshape(-1, seeds, len(names)).T, strict=True))
        return by_name["env_steps"][0], {k: x for k, x in by_name.items() if k not in AXES}
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: {error}; expected a table that jaxpg wrote") from error
