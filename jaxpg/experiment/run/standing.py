"""Where a run stands, by what is in its folder: how far it has come, and what it has reached."""

import csv
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxpg.core.blocks import Blocks
from jaxpg.core.run import Result
from jaxpg.experiment.callbacks.metrics import append_metrics
from jaxpg.experiment.files import CHECKPOINTS, CURVE, RUN, SUMMARY
from jaxpg.experiment.files.atomic import CheckpointError, write_json
from jaxpg.experiment.files.rows import EVALUATIONS, FILES, METRICS, Rows, RowsError
from jaxpg.experiment.run import checkpoint, seal
from jaxpg.experiment.run.record import RunFolder
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


def reached_at(folder: Path, seeds: tuple[int, ...], target: float, iteration: int) -> int | None:
    """Iteration of the newest evaluation up to a checkpoint if every seed's greedy return has
    reached the target in it, which ends a run with its next chunk; else None."""
    rows = last_evaluation(folder, seeds, seal.checkpoint_ends(folder, iteration))
    reached = rows and all(float(row["greedy"] or "nan") >= target for row in rows)
    return int(rows[0]["iteration"]) if reached else None


def open_rows(this: RunFolder, begun: int) -> Rows:
    """Opens the files of a run's rows, cut off where it goes on."""
    ends = seal.checkpoint_ends(this.out, begun) if begun else {}
    return Rows(this.out, FILES, begun, this.digest, ends)


def finish_rows(this: RunFolder, result: Result) -> None:
    """Writes the last row of a run that was killed before it could, if it ended in a block."""
    rows, last = open_rows(this, result.iteration), int(result.iteration % this.log_every > 0)
    metrics = {name: np.atleast_2d(x)[:, -last:] for name, x in result.metrics.items()}
    steps = this.agent.steps_per_iter(this.cfg)
    append_metrics(rows, result.iterations[-1:][:last], metrics, steps, None, this.formats)
