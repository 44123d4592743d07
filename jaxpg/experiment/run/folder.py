"""Run folders: everything about a run, from which it resumes to the byte.

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
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.core import env as E
from jaxpg.core import run as loop
from jaxpg.core.checks import require_path
from jaxpg.core.config import require_integer
from jaxpg.core.episodes import require_episodes
from jaxpg.core.parallel.lanes import has_lanes, lanes, take_lane
from jaxpg.core.parallel.processes import broadcast_from_main, is_main_process
from jaxpg.core.parallel.seeds import seeds_here
from jaxpg.core.plan import Plan, plan_run
from jaxpg.core.run import Callbacks, Result
from jaxpg.core.train import initial_state, num_iterations, settle
from jaxpg.core.types import Agent, Key
from jaxpg.experiment.callbacks.evaluation import evaluation
from jaxpg.experiment.callbacks.guards import nan_guard
from jaxpg.experiment.callbacks.metrics import metrics_files
from jaxpg.experiment.run import checkpoint, provenance
from jaxpg.experiment.run.checkpoint import CheckpointError, read_json, write_json
from jaxpg.experiment.run.provenance import RUN, SUMMARY


class Settings(NamedTuple):
    """Settings of a run folder, see `jaxpg.run`; run.json keeps them under these names."""

    chunk: int | None = None  # `core.run` chooses
    evaluations: int = 10
    episodes: int = 128
    checkpoints: int = 5
    keep: int = 3
    target: float | None = None
    data_parallel: bool = False


class RunFolder(NamedTuple):
    """Open run folder: what its record says, as objects."""

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
    out: str | Path | None,
    agent: Agent,
    cfg,
    env: E.Env,
    key: Key,
    total_steps: int,
    asked: Settings,
    callbacks: Callbacks = (),
    draw: Callable[[Path], None] | None = None,
) -> Result:
    """Trains, and writes the folder `out` if there is one; see `jaxpg.run`.

    draw: draws the learning curve when the run has ended, given the folder.
    """
    if out is not None:
        require_path("out", out)
    _check_settings(asked, cfg)
    callbacks = loop.as_callbacks(callbacks)
    if out is None:
        return loop.run(
            agent, cfg, env, key, total_steps=total_steps, callbacks=callbacks, chunk=asked.chunk,
            data_parallel=asked.data_parallel,
        )  # fmt: skip
    plan = plan_run(
        agent, cfg, env, key,
        total_steps=total_steps, chunk=asked.chunk, data_parallel=asked.data_parallel,
    )  # fmt: skip
    if asked.evaluations and not has_lanes(cfg):
        require_episodes(env, "episodes", asked.episodes, key.size)
    record = {
        **provenance.describe_run(agent, cfg, env, key),
        "total_steps": int(total_steps),
        **asked._asdict(),
    }
    out = Path(out)
    broadcast_from_main(lambda: _make_folder(out, record))
    return _train(RunFolder(out, agent, cfg, env, key, record), plan, callbacks, None, draw)


def _check_settings(asked: Settings, cfg) -> None:
    """Raises ValueError for settings that are not allowed."""
    least = {"chunk": 1, "evaluations": 0, "episodes": 1, "checkpoints": 1, "keep": 1}
    for name, minimum in least.items():
        value = getattr(asked, name)
        if name == "chunk" and value is None:
            continue
        require_integer(name, value, minimum)
    target = asked.target
    if target is not None and not (has_lanes(cfg) and np.isfinite(target)):
        raise ValueError(f"target={target!r}: allowed is a finite number, and only with lanes")


def _make_folder(out: Path, record: dict) -> None:
    """Makes the folder of a run, with its record. Raises ValueError if it holds something."""
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        what = "a run (`resume` goes on with it)" if (out / RUN).exists() else "files"
        raise ValueError(f"out={str(out)!r}: holds {what}, allowed is a new or empty folder")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RUN, record)


def resume(
    out: str | Path,
    *,
    callbacks: Callbacks = (),
    total_steps: int | None = None,
    agent: Agent | None = None,
    env: E.Env | None = None,
    draw: Callable[[Path], None] | None = None,
) -> Result:
    """Resumes the run of a folder, see `jaxpg.resume`; draw as for `run`."""
    this = _open_folder(Path(out), agent, env)
    provenance.warn_of_other_versions(this.out, this.record["made_with"], stacklevel=4)
    done = broadcast_from_main(lambda: checkpoint.newest(this.out / "checkpoints"))
    if total_steps is not None:
        if num_iterations(this.agent, this.cfg, total_steps) < (done or 0):
            least = done * this.agent.steps_per_iter(this.cfg)
            raise ValueError(f"total_steps={total_steps!r}: allowed is an integer >= {least}, done")
        this = this._replace(record={**this.record, "total_steps": int(total_steps)})
    before = None if done is None else _load_result(this)
    complete = done == this.num_iters

    def begin() -> None:
        if total_steps is not None:
            write_json(this.out / RUN, this.record)
        summary = this.out / SUMMARY
        if not complete:
            summary.unlink(missing_ok=True)
        elif before and not summary.exists():  # killed at the very end
            _write_summary(this, before, draw)

    broadcast_from_main(begin)
    if before and complete:
        return before
    asked = this.record
    plan = plan_run(
        *this[1:5], total_steps=asked["total_steps"], chunk=asked["chunk"],
        data_parallel=asked.get("data_parallel", False),
    )  # fmt: skip
    return _train(this, plan, callbacks, before, draw)


def load(out: str | Path, agent: Agent | None = None, env: E.Env | None = None) -> Result:
    """Loads the run of a folder, see `jaxpg.load`."""
    require_path("out", out)
    return _load_result(_open_folder(Path(out), agent, env))


def _open_folder(out: Path, agent: Agent | None, env: E.Env | None) -> RunFolder:
    record = provenance.read_record(out / RUN, "run")
    agent, cfg, env, key = provenance.restore_objects(out / RUN, agent, env)
    return RunFolder(out, agent, cfg, env, key, record)


def _load_result(this: RunFolder) -> Result:
    out, agent, cfg, env, key, record = this
    about = checkpoint.describe(agent, cfg, env)
    cfg, _ = settle(agent, cfg, record["total_steps"])
    agent = lanes(agent) if has_lanes(cfg) else agent
    one_cfg, one_env = take_lane((cfg, env), 0) if has_lanes(cfg) else (cfg, env)
    begin = functools.partial(initial_state, agent, one_cfg, one_env)
    like = jax.eval_shape(jax.vmap(begin) if key.ndim else begin, key)
    state, iteration = checkpoint.restore(out / "checkpoints", like, about)
    one = key.reshape(-1)[0]
    _, kinds = jax.eval_shape(lambda key: agent.step(one_cfg, one_env, begin(key)), one)
    metrics = _read_metrics(out / "metrics.csv", kinds, iteration, key.shape)
    summary = {"stopped": "error", "seconds": np.nan}
    if (out / SUMMARY).exists():
        summary = read_json(out / SUMMARY)
    stopped = "done" if iteration == this.num_iters else summary["stopped"]
    return Result(
        agent, cfg, env, state, metrics, iteration, this.num_iters, stopped, summary["seconds"]
    )


def _read_metrics(path: Path, kinds: dict, iteration: int, seeds: tuple) -> dict[str, np.ndarray]:
    """Reads the metrics of the first iterations; `kinds` says which, and their dtypes."""
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
    if kinds.keys() - columns or not np.array_equal(columns.get("iteration", []), expected):
        raise CheckpointError(
            f"{path}: found {len(cells)} rows of {', '.join(columns)}; expected "
            f"{math.prod(seeds)} for each of {iteration} iterations, with {', '.join(kinds)}"
        )
    shape = (iteration, *seeds)
    return {name: columns[name].reshape(shape).T.astype(x.dtype) for name, x in kinds.items()}


def _train(
    this: RunFolder,
    plan: Plan,
    callbacks: Callbacks,
    before: Result | None,
    draw: Callable[[Path], None] | None,
) -> Result:
    """Trains from the beginning, or from `before`, and finishes the folder."""
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
        watch += [
            evaluation(
                plan.agent, cfg, env, key, every(times), asked["episodes"],
                out if is_main_process() else None, begun, asked.get("target"),
            )
        ]  # fmt: skip
    save = checkpoint.checkpoints(
        out / "checkpoints", agent, cfg, env, every(asked["checkpoints"]), asked["keep"]
    )
    # The checkpoint comes when all of its rows are written.
    watch += [*callbacks, save]
    result = loop.run_plan(plan, watch, before and before.state, begun)
    if before:
        both = {k: np.concatenate([before.metrics[k], m], -1) for k, m in result.metrics.items()}
        result = result._replace(metrics=both)
    broadcast_from_main(lambda: _write_summary(this, result, draw))
    return result


def _write_summary(this: RunFolder, result: Result, draw: Callable[[Path], None] | None) -> None:
    """Draws the curve and, last, writes how the run ended."""
    if draw and not has_lanes(this.cfg):
        draw(this.out)
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
    write_json(this.out / SUMMARY, summary)
