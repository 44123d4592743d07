"""Run folders: everything about a run, from which it resumes to the byte.

run.json         agent, config, environment, key, what was asked for, versions
metrics.csv      the agent's metrics, a row per seed and iteration, or block of iterations
evaluations.csv  returns of whole episodes, greedy and sampled
rows.jsonl       how many bytes of these are whole rows, and their digests
checkpoints/     the newest whole states
summary.json     how it ended; not there while it is going on, or if it was killed
failure.json     why it failed, if it did; not there when it has gone on
curve.png        the learning curve
.jaxpg-lock      who writes here, while it is going on
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxpg.core import env as E
from jaxpg.core import run as loop
from jaxpg.core.blocks import Blocks, block_length
from jaxpg.core.checks import require_bool, require_folder, require_path
from jaxpg.core.episodes import require_episodes
from jaxpg.core.parallel.lanes import has_lanes, lanes, take_lane
from jaxpg.core.parallel.processes import (
    agree_on_errors,
    broadcast_from_main,
    is_main_process,
)
from jaxpg.core.pieces import chunk_begin
from jaxpg.core.plan import Plan, chunk_length, plan_run
from jaxpg.core.run import Callback, Callbacks, Result
from jaxpg.core.train import initial_state, num_iterations, settle, with_episode_steps
from jaxpg.core.types import Agent, Key, Tree
from jaxpg.experiment.callbacks.evaluation import EvaluationHistory, evaluations
from jaxpg.experiment.callbacks.guards import nan_guard, stop_at
from jaxpg.experiment.files import CHECKPOINTS, CURVE, RUN, SUMMARY, arrays, lock
from jaxpg.experiment.files.atomic import write_json
from jaxpg.experiment.files.rows import METRICS
from jaxpg.experiment.run import checkpoint, provenance, saving, seal, standing
from jaxpg.experiment.run.origin import INIT, read_origin, require_begin, save_begin
from jaxpg.experiment.run.record import (
    RunFolder,
    Settings,
    change_record,
    check_settings,
    count_evaluations,
    new_record,
    open_folder,
    record_failure,
    warn_of_many_rows,
)
from jaxpg.experiment.text import warn


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
    init_from: Any = None,
    init_parts: Sequence[str] = (),
) -> Result:
    """Trains, and writes the folder `out` if there is one; see `jaxpg.run`.

    draw: draws the learning curve into a file when the run has ended.
    """
    with agree_on_errors():
        if out is not None:
            require_folder("out", out)
        asked = count_evaluations(asked, out)
        check_settings(asked, cfg, out)
        callbacks = loop.as_callbacks(callbacks)
        plan = plan_run(
            agent, cfg, env, key,
            total_steps=total_steps, chunk=asked.chunk, data_parallel=asked.data_parallel,
        )  # fmt: skip
        cfg = with_episode_steps(cfg, env)
        if asked.evaluations and not has_lanes(cfg):
            require_episodes(env, "episodes", asked.episodes, key.size)
        if origin := read_origin(init_from, init_parts):
            origin.check(plan)
        record = new_record(agent, cfg, env, key, total_steps, asked) if out is not None else {}
        record |= {INIT: origin.about} if origin else {}
    if out is None:
        state = origin and origin.begin(plan)
        return _train_in_memory(plan, cfg, key, asked, callbacks, state)
    this = RunFolder(Path(out), agent, cfg, env, key, record, "")
    with lock.hold(this.out, new=True):
        this = this._replace(digest=broadcast_from_main(lambda: _begin(this.out, record)))
        return _train(this, plan, callbacks, None, draw, save_begin(this, plan, origin))


def _train_in_memory(
    plan: Plan, cfg: Any, key: Key, asked: Settings, callbacks: list[Callback], state: Tree | None
) -> Result:
    """Trains without a folder. cfg, key: as they were given, see `Plan`. state: to begin with."""
    kept = EvaluationHistory()
    watch = evaluations(plan, cfg, key, asked._asdict(), kept)
    if asked.target is not None and not has_lanes(cfg):
        watch += [stop_at(asked.target)]
    blocks = Blocks(block_length(plan.num_iters, asked.log_every))
    result = loop.run_plan(plan, [*watch, *callbacks], state, blocks=blocks)
    return standing.judge_lanes(result._replace(evaluations=kept.found), asked.target)


def _begin(out: Path, record: dict) -> str:
    """Writes the record of a new run, whose digest it returns. Raises ValueError for a folder that
    cannot have checkpoints."""
    with arrays.plain_path(out):
        return write_json(out / RUN, record)


def resume(
    out: str | Path,
    *,
    callbacks: Callbacks = (),
    total_steps: int | None = None,
    target: float | None = None,
    agent: Agent | None = None,
    env: E.Env | None = None,
    trust: bool = False,
    draw: Callable[[Path], None] | None = None,
) -> Result:
    """Resumes the run of a folder, see `jaxpg.resume`; draw as for `run`."""
    with agree_on_errors():
        callbacks = loop.as_callbacks(callbacks)
        this = open_folder(Path(out), agent, env, trust)
        provenance.warn_of_other_versions(this.out, this.record["made_with"], stacklevel=4)
    complete = broadcast_from_main(lambda: standing.is_complete(this.out, this.num_iters))
    with agree_on_errors():
        if complete and total_steps is None and target is None:
            return _load_result(this, standing.require_last_checkpoint(this.out))
        _require_as_many(this, total_steps, checkpoint.newest(this.out / CHECKPOINTS))
    with lock.hold(this.out):  # what is there is read again, now that it stays
        with agree_on_errors():
            this = open_folder(this.out, agent, env, trust)
        return _resume(this, callbacks, total_steps, target, draw)


def _require_as_many(this: RunFolder, total_steps: int | None, done: int | None) -> None:
    """Raises ValueError for fewer steps than the iterations that are done have taken."""
    if total_steps is not None and num_iterations(this.agent, this.cfg, total_steps) < (done or 0):
        least = (done or 0) * this.agent.steps_per_iter(this.cfg)
        raise ValueError(f"total_steps={total_steps!r}: allowed is an integer >= {least}, done")


def _resume(
    this: RunFolder,
    callbacks: Callbacks,
    total_steps: int | None,
    target: float | None,
    draw: Callable[[Path], None] | None,
) -> Result:
    """Resumes the run of a folder that this process holds."""
    done = broadcast_from_main(lambda: standing.newest_with_rows(this.out, this.key.shape))
    changed = total_steps is not None or target is not None
    with agree_on_errors():
        _require_as_many(this, total_steps, done)
        require_begin(this, done)
        length = chunk_length(this.num_iters, this.record["chunk"])  # with which it has come so far
        if changed:
            record = change_record(this.record, this.digest, total_steps, target)
            this = this._replace(record=record)
            warn_of_many_rows(this)
        before = None if done is None else _load_result(this, done)
        complete = done == this.num_iters
        if before and not complete and this.target is not None:
            at = standing.reached_at(before.evaluations, this.target)
            if at is not None and standing.is_past(this.out, at, before.iteration, length):
                before, complete = before._replace(stopped="callback"), True
            elif at is not None:  # it ends with the chunk after that, of which some may be done
                callbacks = [*callbacks, lambda event: True]

    def begin() -> str:
        summary = this.out / SUMMARY
        if complete:
            seal.check_rows(this.out)
        else:
            summary.unlink(missing_ok=True)
            checkpoint.remove_newer(this.out / CHECKPOINTS, done or 0)
        if before and complete:  # it may have been killed at the very end
            if seal.read_summary(this.out).get("iteration") != before.iteration:
                standing.finish_rows(this, before)
                standing.write_summary(this, before)
            if not (this.out / CURVE).exists():
                _draw_curve(this, draw)
        # Last: once the run is longer its summary alone tells that it had ended.
        return write_json(this.out / RUN, this.record) if changed else this.digest

    if before and complete:
        broadcast_from_main(begin)
        return before
    asked = this.record
    with agree_on_errors():  # what cannot work is refused before anything is changed
        plan = plan_run(
            *this[1:5], total_steps=asked["total_steps"], chunk=asked["chunk"],
            data_parallel=asked.get("data_parallel", False),
        )  # fmt: skip
        standing.check_own_rows(this)
        _asked_callbacks(this)  # an extra may be missing
    this = this._replace(digest=broadcast_from_main(begin))
    before = before and standing.begin_episodes_anew(this, plan, before)
    return _train(this, plan, callbacks, before, draw)


def load(
    out: str | Path,
    agent: Agent | None = None,
    env: E.Env | None = None,
    trust: bool = False,
    best: bool = False,
) -> Result:
    """Loads the run of a folder, see `jaxpg.load`."""
    require_path("out", out)
    require_bool("best", best)
    this = open_folder(Path(out), agent, env, trust)
    which = standing.require_best_checkpoint if best else standing.require_last_checkpoint
    return _load_result(this, which(this.out))


def _load_result(this: RunFolder, iteration: int) -> Result:
    """Loads what a run was at a checkpoint."""
    out, agent, cfg, env, key, record, _ = this
    about = checkpoint.describe(agent, cfg, env)
    cfg, _ = settle(agent, cfg, env, record["total_steps"])
    agent = lanes(agent) if has_lanes(cfg) else agent
    one_cfg, one_env = take_lane((cfg, env), 0) if has_lanes(cfg) else (cfg, env)
    begin, one = functools.partial(initial_state, agent, one_cfg, one_env), key.reshape(-1)[0]
    like = jax.eval_shape(begin, one)
    like = jax.tree.map(lambda x: x.update(shape=(*key.shape, *x.shape)), like)
    state, _ = checkpoint.restore(out / CHECKPOINTS, like, about, iteration)
    _, kinds = jax.eval_shape(lambda key: agent.step(one_cfg, one_env, begin(key)), one)
    ends = seal.checkpoint_ends(out, iteration)
    dtypes = {name: x.dtype for name, x in kinds.items()}
    blocks = seal.read_blocks(out, iteration, this.log_every, dtypes)
    metrics = seal.read_metrics(out / METRICS, blocks, key.shape, ends)
    measured = standing.read_evaluations(out, key.shape, iteration, ends)
    summary = {"stopped": "error", "seconds": np.nan} | seal.read_summary(out)
    stopped = "done" if iteration == this.num_iters else summary["stopped"]
    found = Result(
        agent, cfg, env, state, metrics, iteration, this.num_iters, stopped, summary["seconds"],
        this.log_every, measured,
    )  # fmt: skip
    return standing.judge_lanes(found, record.get("target"))


def _train(
    this: RunFolder,
    plan: Plan,
    callbacks: Callbacks,
    before: Result | None,
    draw: Callable[[Path], None] | None,
    state: Tree | None = None,
) -> Result:
    """Trains from the beginning, or from `before`, and finishes the folder. state: to begin with,
    if that is not the agent's own."""
    out, agent, cfg, env, key, asked, _ = this
    begun, log_every = before.iteration if before else 0, this.log_every
    every = lambda times: -(-this.num_iters // times)  # noqa: E731
    watch = [] if has_lanes(cfg) else [nan_guard()]
    kept = EvaluationHistory(before.evaluations if before else {})
    with agree_on_errors():
        asked_for = _asked_callbacks(this)
    rows, blocks, tables = standing.open_tables(this, before)
    watch += [table._replace(on_end=lambda result: None) for table in tables]
    watch += evaluations(plan, cfg, key, asked, kept, rows, chunk_begin(begun, plan.chunk))
    save = saving.checkpoints(
        out / CHECKPOINTS, agent, cfg, env, every(asked["checkpoints"]), asked["keep"],
        lambda: {"run": this.digest, "rows": rows.ends() if rows else {}}
        | ({"block": blocks.begun()} if log_every > 1 else {}),
        asked.get("checkpoint_minutes", 10.0), asked.get("keep_best", False),
    )  # fmt: skip
    # The checkpoint comes when all of its rows are written. The last row, of a block that the run
    # ends in, comes after it: a run that goes on has that block's sums, and finishes it.
    # At the end both come first: loggers may wait for a network, and a scheduler does not.
    watch += [Callback(on_end=c.on_end) for c in (save, *tables)]
    watch += [*asked_for, *callbacks, save._replace(on_end=lambda result: None)]
    with record_failure(out) if is_main_process() else contextlib.nullcontext():
        seen = None if rows else blocks
        result = loop.run_plan(plan, watch, before.state if before else state, begun, seen)
    result = standing.judge_lanes(result._replace(evaluations=kept.found), asked.get("target"))
    if rows:
        rows.save(anew=True)
    if result.iteration == begun:  # a signal came while it was compiled
        result = result._replace(metrics=before.metrics if before else {}, log_every=log_every)
    elif rows:
        metrics = seal.read_metrics(out / METRICS, blocks, key.shape)
        result = result._replace(metrics=metrics, log_every=log_every)
    elif before:
        both = {
            k: np.concatenate([before.metrics[k][..., : begun // log_every], m], -1)
            for k, m in result.metrics.items()
        }
        result = result._replace(metrics=both)
    broadcast_from_main(lambda: _finish(this, result, draw))
    return result


def _finish(this: RunFolder, result: Result, draw: Callable[[Path], None] | None) -> None:
    """Writes how the run ended, and then draws its curve."""
    standing.write_summary(this, result)
    _draw_curve(this, draw)


def _draw_curve(this: RunFolder, draw: Callable[[Path], None] | None) -> None:
    """Draws the learning curve. A run is whole without it: an error is a warning."""
    if draw is None or has_lanes(this.cfg) or not (this.out / METRICS).exists():
        return
    try:
        draw(this.out / CURVE)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        warn(f"{this.out}: its learning curve is not drawn: {why}", stacklevel=2)


def _asked_callbacks(this: RunFolder) -> list[Callback]:
    """Makes the callbacks that the record of a run asks for. Raises what `RunFolder.loggers`
    does."""
    found = [] if this.target is None else [stop_at(this.target)]
    return [*found, *(this.loggers() if is_main_process() else [])]
