"""Standing of a run, by what is in its folder: how far it has come, and what it has reached."""

import csv
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.blocks import Blocks
from jaxpg.core.parallel.lanes import Lanes
from jaxpg.core.parallel.processes import agree_on_errors, is_main_process, replicate
from jaxpg.core.parallel.seeds import seeds_here
from jaxpg.core.pieces import chunk_begin
from jaxpg.core.plan import Plan, renew_episodes
from jaxpg.core.run import Callback, Result
from jaxpg.core.single import is_batched
from jaxpg.experiment.callbacks.metrics import append_metrics, metrics_files
from jaxpg.experiment.files import CHECKPOINTS, CURVE, RUN, SUMMARY
from jaxpg.experiment.files.atomic import CheckpointError, write_atomically, write_json
from jaxpg.experiment.files.rows import (
    EVALUATIONS,
    FILES,
    LINES,
    METRICS,
    RECORD,
    Rows,
    RowsError,
    select_rows,
)
from jaxpg.experiment.run import checkpoint, seal
from jaxpg.experiment.run.record import RunFolder, write_failure
from jaxpg.experiment.text import warn


def require_last_checkpoint(folder: Path) -> int:
    """Iteration of the checkpoint that a run ended with, or of the newest if it has not ended.

    Raises CheckpointError if there is none, if only an older one is left, or if a byte of the rows
    has changed.
    """
    newest = checkpoint.require_newest(folder / CHECKPOINTS)
    ended = seal.read_summary(folder).get("iteration", newest)
    if ended != newest:
        raise CheckpointError(
            f"{folder / CHECKPOINTS}: found {newest} as the newest iteration, expected {ended}, "
            f"where by {SUMMARY} the run ended; `resume` goes on from the one that is there"
        )
    seal.check_rows(folder)
    return newest


def require_best_checkpoint(folder: Path) -> int:
    """Iteration of the checkpoint with the best greedy evaluation.

    Raises CheckpointError if none was kept for that, if it is gone, or if a byte of the rows has
    changed.
    """
    best = checkpoint.best(folder / CHECKPOINTS)
    known = seal.read_summary(folder).get("best", {}).get("iteration")
    if best is None or known not in (None, best[1]):
        found = "none" if best is None else f"iteration {best[1]}"
        expected = "a run with keep_best=True" if known is None else f"iteration {known}"
        raise CheckpointError(
            f"{folder / CHECKPOINTS}: found {found} kept as the best, expected {expected}"
        )
    seal.check_rows(folder)
    return best[1]


def is_complete(folder: Path, num_iters: int) -> bool:
    """True if a run has done all of its iterations, and finished its folder."""
    done = checkpoint.newest(folder / CHECKPOINTS)
    return done == num_iters and all((folder / name).exists() for name in (SUMMARY, CURVE))


def newest_with_rows(folder: Path, seeds: tuple[int, ...]) -> int | None:
    """Iteration of the newest checkpoint whose rows are there, to go on from; None if there is no
    checkpoint.

    Warns if it is not the newest that the run has written. Raises RowsError if no checkpoint has
    its rows, or if the run has ended: then nothing but damage can have taken them.
    """
    steps, problems = checkpoint.finished(folder / CHECKPOINTS), []
    ended = seal.read_summary(folder).get("iteration")
    for found in steps:
        try:
            if seal.checkpoint_ends(folder, found) is None:  # nothing vouches for them
                seal.read_metrics(folder / METRICS, Blocks(1, found), seeds)
            break
        except RowsError as error:
            if ended is not None:
                raise
            problems.append(error)
    else:
        if problems:
            raise problems[0]
        found = None
    newest = max([*steps[:1], ended or 0])
    if newest > (found or 0):
        why = problems[0] if problems else f"the checkpoint of iteration {newest} is not there"
        warn(f"{folder}: goes on from iteration {found or 0}: {why}", stacklevel=7)
    return found


def begin_episodes_anew(this: RunFolder, plan: Plan, before: Result) -> Result:
    """Begins new episodes in a run that goes on, where its environments are on the host and no
    checkpoint has their state; warns that it is not the run that it would have been."""
    if not is_batched(plan.env.core):
        return before
    warn(
        f"{this.out}: {this.env.name} is on the host, whose state no checkpoint has: its episodes "
        "begin anew, and from here on this is another run than one that was not stopped",
        stacklevel=5,
    )
    return before._replace(state=renew_episodes(plan, before.state, before.iteration))


def last_evaluation(
    folder: Path, seeds: tuple[int, ...], ends: seal.Ends | None = None
) -> list[dict[str, str]]:
    """Rows of the newest evaluation, of every seed; [] if there is none. ends: of the rows up to a
    checkpoint, if only these count."""
    text = seal.read_rows(folder / EVALUATIONS, ends)
    return list(csv.DictReader(text.splitlines()))[-math.prod(seeds) :]


def read_evaluations(
    folder: Path, seeds: tuple[int, ...], iteration: int, ends: seal.Ends | None
) -> dict[str, np.ndarray]:
    """Reads the evaluations of a run up to a checkpoint, with shapes as `EvaluationHistory` has
    them; {} if there are none. ends: of the rows up to there, if they are on record."""
    text = seal.read_rows(folder / EVALUATIONS, ends)
    rows = [x for x in csv.DictReader(text.splitlines()) if int(x["iteration"]) <= iteration]
    rows = rows[: len(rows) // math.prod(seeds) * math.prod(seeds)]
    if not rows:
        return {}
    found = {}
    for name in rows[0]:
        if name in ("iteration", "env_steps"):
            found[name] = np.array([int(x[name]) for x in rows[:: math.prod(seeds)]])
        elif name != "seed":
            column = np.array([float(x[name] or "nan") for x in rows], jnp.result_type(float))
            found[name] = column.reshape(-1, *seeds).T
    return found


def judge_lanes(result: Result, target: float | None) -> Result:
    """Result of a run that has ended: stopped by an "error" if it is of lanes and all were lost,
    since what they learnt is not finite. One that has reached the target is not lost."""
    if not isinstance(result.state, Lanes) or result.stopped == "interrupt":
        return result
    lost = ~np.asarray(replicate(result.state.active))
    if target is not None and "greedy" in result.evaluations:
        lost &= ~(result.evaluations["greedy"] >= target).any(-1)
    return result._replace(stopped="error") if lost.all() else result


def write_summary(this: RunFolder, result: Result) -> None:
    """Writes how a run ended. Raises CheckpointError if run.json or rows are no longer what this
    run wrote."""
    seal.read_seal(this.out).check(this.out / RUN, this.digest)
    seal.check_rows(this.out)
    summary = {
        "stopped": result.stopped,
        **({"signal": result.signal} if result.signal else {}),
        "seconds": result.seconds,
        "iteration": result.iteration,
        "env_steps": result.env_steps,
        "run": this.digest,
        "rows": {name: end._asdict() for name, end in (seal.read_ends(this.out)[0] or {}).items()},
    }
    if rows := last_evaluation(this.out, this.key.shape):
        kinds = [k for k in ("greedy", "sampled") if k in rows[0]]  # a callback may measure one
        means = {k: [float(r[k]) if r[k] else None for r in rows] for k in kinds}
        summary["evaluation"] = {"iteration": int(rows[0]["iteration"]), **means}
    if this.record.get("keep_best") and (best := checkpoint.best(this.out / CHECKPOINTS)):
        summary["best"] = {"iteration": best[1], "greedy": best[0]}
    write_json(this.out / SUMMARY, summary)
    if result.stopped == "error":
        lanes = this.key.size
        write_failure(this.out, f"NonFiniteError: what all {lanes} lanes learnt is not finite")


def reached_at(evaluations: Mapping[str, np.ndarray], target: float) -> int | None:
    """Iteration of the first evaluation in which every seed's greedy return reached the target,
    which ends a run with its next chunk; None if there is none. evaluations: as `read_evaluations`
    has them."""
    if not evaluations:
        return None
    reached = (np.atleast_2d(evaluations["greedy"]) >= target).all(0)
    return int(evaluations["iteration"][reached.argmax()]) if reached.any() else None


def is_past(folder: Path, reached: int, iteration: int, chunk: int) -> bool:
    """True if a run that had reached its target has also done the chunk after, which is its last.

    chunk: its iterations when the run came to `iteration`. Made longer, a run has longer chunks:
    then its summary says that it had ended.
    """
    summary = seal.read_summary(folder)
    ended = summary.get("stopped") == "callback" and summary["iteration"] == iteration
    return ended or reached < chunk_begin(iteration, chunk)


class Tables(NamedTuple):
    """Tables of metrics, open to be written."""

    rows: Rows | None  # of all seeds, which process 0 writes
    blocks: Blocks
    callbacks: list[Callback]  # that write them


def open_tables(this: RunFolder, before: Result | None) -> Tables:
    """Opens the tables of a run, cut off where it goes on: the first holds all seeds, and is
    process 0's; of several processes each has one of its own seeds beside. Raises on all what any
    of them meets."""
    begun = before.iteration if before else 0
    dtypes = {name: x.dtype for name, x in before.metrics.items()} if before else None
    begin = functools.partial(seal.read_blocks, this.out, begun, this.log_every, dtypes)
    blocks, rows, tables = begin(), None, []
    with agree_on_errors():
        if jax.process_count() > 1 and this.key.ndim:
            seeds = seeds_here(len(this.key))
            own = open_own_rows(this, begun, seeds)
            tables = [metrics_files(own, only=seeds, blocks=begin(), formats=this.formats)]
    with agree_on_errors():  # all have read what is now cut off
        if is_main_process():
            rows = open_rows(this, begun)
            tables = [metrics_files(rows, blocks=blocks, formats=this.formats), *tables]
    return Tables(rows, blocks, tables)


def open_rows(this: RunFolder, begun: int) -> Rows:
    """Opens the files of a run's rows, cut off where it goes on."""
    ends = seal.checkpoint_ends(this.out, begun) if begun else {}
    return Rows(this.out, FILES, begun, this.digest, ends)


def check_own_rows(this: RunFolder) -> None:
    """Raises RowsError if a byte of the rows that this process, of several, has on record of its
    own seeds has changed, or is not there."""
    if jax.process_count() > 1 and (own := _own_folder(this)).exists():
        seal.check_rows(own)


def open_own_rows(this: RunFolder, begun: int, seeds: Sequence[int]) -> Rows:
    """Opens the files of the metrics of this process's own seeds, with all rows up to where the run
    goes on.

    Those that are not there are taken from the table of all seeds. A process may have been killed
    before it wrote rows that a checkpoint of process 0 counts, and there may have been another
    number of processes.
    """
    own, last = _own_folder(this), begun // this.log_every * this.log_every
    own.mkdir(parents=True, exist_ok=True)
    ends = seal.checkpoint_ends(this.out, begun) if begun else {}
    for name in (METRICS, LINES):
        rows = select_rows(seal.read_rows(this.out / name, ends), seeds, last)
        found = (own / name).read_bytes() if (own / name).exists() else b""
        if not found.startswith(rows):
            (own / RECORD).unlink(missing_ok=True)  # of what is no longer there
            write_atomically(own / name, rows, sync=False)
    return Rows(own, (METRICS, LINES), last, this.digest)


def _own_folder(this: RunFolder) -> Path:
    return this.out / f"process-{jax.process_index()}"


def finish_rows(this: RunFolder, result: Result) -> None:
    """Writes the last row of a run that was killed before it could, if it ended in a block."""
    rows, last = open_rows(this, result.iteration), int(result.iteration % this.log_every > 0)
    metrics = {name: np.atleast_2d(x)[:, -last:] for name, x in result.metrics.items()}
    steps = this.agent.steps_per_iter(this.cfg)
    append_metrics(rows, result.iterations[-1:][:last], metrics, steps, None, this.formats)
