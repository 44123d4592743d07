"""Run folders: everything about a run, written so that it can be gone on with to the byte.

run.json         agent, config, environment, key, what was asked for, versions
metrics.csv      (and .jsonl) the agent's metrics, a row per iteration and seed
evaluations.csv  returns of whole episodes, greedy and sampled
checkpoints/     the newest whole states
summary.json     how it ended; not there while it is going on, or if it was killed
curve.png        the learning curve
"""

import csv
import functools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.core import env as E
from jaxpg.core import run as loop
from jaxpg.core.parallel.lanes import has_lanes, lanes, take_lane
from jaxpg.core.parallel.processes import broadcast_from_main, is_main_process
from jaxpg.core.parallel.seeds import seeds_here
from jaxpg.core.run import Callback, Result
from jaxpg.core.train import initial_state, num_iterations, with_horizon
from jaxpg.core.types import Agent, Key
from jaxpg.experiment.callbacks.evaluation import evaluation
from jaxpg.experiment.callbacks.guards import nan_guard
from jaxpg.experiment.callbacks.metrics import metrics_files
from jaxpg.experiment.run import checkpoint, provenance
from jaxpg.experiment.run.checkpoint import CheckpointError, read_json, write_json

LEAST = {"chunk": 1, "evaluations": 0, "episodes": 1, "checkpoints": 1, "keep": 1}


class _Run(NamedTuple):
    """An open run folder."""

    out: Path
    agent: Agent
    cfg: Any  # as it was given: without the horizon, which follows from total_steps
    env: E.Env
    key: Key
    record: dict  # run.json

    @property
    def num_iters(self) -> int:
        return num_iterations(self.agent, self.cfg, self.record["total_steps"])


def run(
    agent: Agent,
    cfg,
    env: E.Env,
    key: Key,
    *,
    total_steps: int,
    callbacks: Iterable[Callback | Callable] = (),
    out: str | Path | None = None,
    chunk: int | None = None,
    evaluations: int = 10,
    episodes: int = 128,
    checkpoints: int = 5,
    keep: int = 3,
    target: float | None = None,
    data_parallel: bool = False,
) -> Result:
    """Trains, as `jaxpg.core.run.run` does; with `out` also writes a run folder.

    The folder gets metrics, `evaluations` evaluations of `episodes` episodes each and
    `checkpoints` checkpoints, of which the newest `keep` stay, spread evenly over the run; a NaN
    or infinity in the state ends it with NonFiniteError. `resume` goes on with a run that
    was stopped, in whatever way. Of lanes (see core/parallel/lanes.py) one that is not finite
    stands still instead, and so does one whose greedy evaluation reaches `target`.

    Of several processes process 0 writes the folder; of several seeds each process writes the
    metrics of its own into process-0/, process-1/, ... beside.

    Raises ValueError before anything is compiled or written for what cannot work, and for an
    `out` that is not a new or empty folder.
    """
    asked = {
        "chunk": chunk,
        "evaluations": evaluations,
        "episodes": episodes,
        "checkpoints": checkpoints,
        "keep": keep,
    }
    for name, value in asked.items():
        if name == "chunk" and value is None:
            continue  # `core.run` chooses
        if type(value) is not int or value < LEAST[name]:
            raise ValueError(f"{name}={value!r}: allowed is an integer >= {LEAST[name]}")
    if target is not None and not (has_lanes(cfg) and np.isfinite(target)):
        raise ValueError(f"target={target!r}: allowed is a finite number, and only with lanes")
    if out is None:
        return loop.run(
            agent, cfg, env, key, total_steps=total_steps, callbacks=callbacks, chunk=chunk,
            data_parallel=data_parallel,
        )  # fmt: skip
    loop.check(agent, cfg, env, key, total_steps, data_parallel)
    record = {
        **provenance.record(agent, cfg, env, key),
        "total_steps": int(total_steps),
        **asked,
        "target": target,
        "data_parallel": data_parallel,
    }
    out = Path(out)
    broadcast_from_main(lambda: _begin(out, record))
    return _train(_Run(out, agent, cfg, env, key, record), callbacks, None)


def _begin(out: Path, record: dict) -> None:
    """Makes the folder of a run, with its record. Raises ValueError if it holds something."""
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        what = "a run (`resume` goes on with it)" if (out / "run.json").exists() else "files"
        raise ValueError(f"out={str(out)!r}: holds {what}, allowed is a new or empty folder")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "run.json", record)


def resume(
    out: str | Path,
    *,
    callbacks: Iterable[Callback | Callable] = (),
    total_steps: int | None = None,
    agent: Agent | None = None,
    env: E.Env | None = None,
) -> Result:
    """Goes on from a run folder's newest checkpoint, or from the beginning if it has none.

    Files and final state are, to the byte, those of a run that was never stopped, on the same
    versions and devices (else it warns). total_steps: of the whole run, if it shall be longer
    now; annealing is stretched to it. A run that is complete is only loaded. agent, env: as for
    `load`. Several processes go on together, and each has to see the folder. Raises CheckpointError
    for a damaged, missing or foreign folder.
    """
    this = _open(Path(out), agent, env)
    provenance.warn_if_elsewhere(this.out, this.record["made_with"])
    done = broadcast_from_main(lambda: checkpoint.newest(this.out / "checkpoints"))
    if total_steps is not None:
        if num_iterations(this.agent, this.cfg, total_steps) < (done or 0):
            least = done * this.agent.steps_per_iter(this.cfg)
            raise ValueError(f"total_steps={total_steps!r}: allowed is an integer >= {least}, done")
        this = this._replace(record={**this.record, "total_steps": int(total_steps)})
    before = None if done is None else _load(this)
    complete = done == this.num_iters

    def begin() -> None:
        if total_steps is not None:
            write_json(this.out / "run.json", this.record)
        summary = this.out / "summary.json"
        if not complete:
            summary.unlink(missing_ok=True)
        elif not summary.exists():  # killed at the very end
            _finish(this, before)

    broadcast_from_main(begin)
    return before if complete else _train(this, callbacks, before)


def load(out: str | Path, agent: Agent | None = None, env: E.Env | None = None) -> Result:
    """A run from its folder: the newest checkpoint, and the metrics up to it. The folder of a sweep
    or a comparison gives its tables, see experiment/tables.py.

    agent, env: the objects, if they are your own and not to be had by name. `stopped` is "error"
    for a run that was killed, and `seconds` NaN. Raises CheckpointError, with the path, for a
    damaged, missing or foreign folder, or one without a checkpoint.
    """
    if Path(out, "sweep.json").exists():
        from jaxpg.experiment.sweeps import tables  # which needs this file

        return tables.load(out)
    return _load(_open(Path(out), agent, env))


def _open(out: Path, agent: Agent | None, env: E.Env | None) -> _Run:
    record = provenance.read(out / "run.json", "run")
    agent, cfg, env, key = provenance.restored(out / "run.json", agent, env)
    return _Run(out, agent, cfg, env, key, record)


def _load(this: _Run) -> Result:
    out, agent, cfg, env, key, record = this
    about = checkpoint.describe(agent, cfg, env)
    cfg = with_horizon(cfg, record["total_steps"])
    agent = lanes(agent) if has_lanes(cfg) else agent
    one_cfg, one_env = take_lane((cfg, env), 0) if has_lanes(cfg) else (cfg, env)
    begin = functools.partial(initial_state, agent, one_cfg, one_env)
    like = jax.eval_shape(jax.vmap(begin) if key.ndim else begin, key)
    state, iteration = checkpoint.restore(out / "checkpoints", like, about)
    one = key.reshape(-1)[0]
    _, kinds = jax.eval_shape(lambda key: agent.step(one_cfg, one_env, begin(key)), one)
    metrics = _metrics(out / "metrics.csv", kinds, iteration, key.shape)
    summary = {"stopped": "error", "seconds": np.nan}
    if (out / "summary.json").exists():
        summary = read_json(out / "summary.json")
    stopped = "done" if iteration == this.num_iters else summary["stopped"]
    return Result(
        agent, cfg, env, state, metrics, iteration, this.num_iters, stopped, summary["seconds"]
    )


def _metrics(path: Path, kinds: dict, iteration: int, seeds: tuple) -> dict[str, np.ndarray]:
    """The metrics of the first iterations; `kinds` says which, and their dtypes."""
    try:
        with path.open() as file:
            names = file.readline().strip().split(",")
            cells = np.loadtxt(
                file,
                delimiter=",",
                converters=lambda cell: float(cell or "nan"),
                max_rows=iteration * math.prod(seeds),
                ndmin=2,
            )
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    columns = dict(zip(names, cells.T, strict=False))
    expected = np.repeat(np.arange(1, iteration + 1), math.prod(seeds))
    if kinds.keys() - columns or not np.array_equal(columns.get("iteration"), expected):
        raise CheckpointError(
            f"{path}: found {len(cells)} rows of {', '.join(columns)}; expected "
            f"{math.prod(seeds)} for each of {iteration} iterations, with {', '.join(kinds)}"
        )
    shape = (iteration, *seeds)
    return {name: columns[name].reshape(shape).T.astype(x.dtype) for name, x in kinds.items()}


def _train(this: _Run, callbacks: Iterable[Callback | Callable], before: Result | None) -> Result:
    out, agent, cfg, env, key, asked = this
    begun = before.iteration if before else 0
    every = lambda times: -(-this.num_iters // times)  # noqa: E731
    watch = [] if has_lanes(cfg) else [nan_guard()]
    if is_main_process():
        watch += [metrics_files(out, begun)]
    if jax.process_count() > 1 and key.ndim:
        own = out / f"process-{jax.process_index()}"
        own.mkdir(parents=True, exist_ok=True)
        watch += [metrics_files(own, begun, seeds_here(len(key)))]
    if times := asked["evaluations"]:
        acting = lanes(agent) if has_lanes(cfg) else agent
        watch += [
            evaluation(
                acting, cfg, env, key, every(times), asked["episodes"],
                out if is_main_process() else None, begun, asked.get("target"),
            )
        ]  # fmt: skip
    save = checkpoint.checkpoints(
        out / "checkpoints", agent, cfg, env, every(asked["checkpoints"]), asked["keep"]
    )
    result = loop.run(
        agent, cfg, env, key,
        total_steps=asked["total_steps"],
        callbacks=[*watch, *callbacks, save],  # the checkpoint when all of its rows are written
        chunk=asked["chunk"],
        state=before and before.state,
        iteration=begun,
        data_parallel=asked.get("data_parallel", False),
    )  # fmt: skip
    if before:
        both = {k: np.concatenate([before.metrics[k], m], -1) for k, m in result.metrics.items()}
        result = result._replace(metrics=both)
    broadcast_from_main(lambda: _finish(this, result))
    return result


def _finish(this: _Run, result: Result) -> None:
    """Draws the curve and, last, says how the run ended."""
    if not has_lanes(this.cfg):
        from jaxpg.experiment.figures import learning_curve  # matplotlib takes a while

        learning_curve.learning_curve([this.out], this.out / "curve.png")
    summary = {
        "stopped": result.stopped,
        "seconds": result.seconds,
        "iteration": result.iteration,
        "env_steps": result.env_steps,
    }
    evaluations = this.out / "evaluations.csv"
    text = evaluations.read_text() if evaluations.exists() else ""
    rows = list(csv.DictReader(text.splitlines()))
    if rows := rows[-this.key.size :]:  # of every seed: the newest
        means = {k: [float(r[k]) if r[k] else None for r in rows] for k in ("greedy", "sampled")}
        summary["evaluation"] = {"iteration": int(rows[0]["iteration"]), **means}
    write_json(this.out / "summary.json", summary)
