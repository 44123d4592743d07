"""Origin of a run's first parameters: another run, by its folder, its result or its state.

Of a folder the arrays alone are read, by their paths: no agent or environment is restored for it,
so that nothing is imported. The run's own folder has what it begins with as the checkpoint of
iteration 0: whoever resumes it does not need the other run again.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import show
from jaxpg.core.parallel.processes import broadcast_from_main, replicate
from jaxpg.core.plan import Plan, begin_from_other, check_begin
from jaxpg.core.run import Result
from jaxpg.core.transfer import learnt_by_path
from jaxpg.core.types import Tree
from jaxpg.experiment.files import CHECKPOINTS, RUN
from jaxpg.experiment.files.atomic import CheckpointError
from jaxpg.experiment.run import checkpoint, provenance, seal, standing
from jaxpg.experiment.run.record import RunFolder

INIT = "init_from"  # in run.json


class Origin(NamedTuple):
    """Parameters that a run begins with."""

    leaves: dict[str, Any]  # what the other run has learnt, by paths in its state; and its key
    parts: tuple[str, ...]  # names of what is taken; () is all
    about: dict[str, Any]  # where they are from, as run.json has it

    def check(self, plan: Plan) -> None:
        """Raises ValueError unless they fit the run that is planned. Compiles nothing."""
        check_begin(plan, self.leaves, self.parts)

    def begin(self, plan: Plan) -> Tree:
        """The state that the run begins with."""
        return begin_from_other(plan, self.leaves, self.parts)


def read_origin(
    init_from: str | Path | Result | Tree | None, parts: Sequence[str]
) -> Origin | None:
    """Reads what a run shall begin with; None if that is nothing. See `jaxpg.run`.

    Raises ValueError for what is no run, CheckpointError for a folder that is damaged or has no
    checkpoint.
    """
    if isinstance(parts, str) or not all(isinstance(x, str) and x for x in parts):
        raise ValueError(f"init_parts={show(parts)}: allowed is a list of names")
    if init_from is None:
        if parts:
            raise ValueError(f"init_parts={show(parts)}: allowed only with init_from")
        return None
    about: dict[str, Any] = {}
    if isinstance(init_from, (str, Path)):
        leaves, about = _read_folder(Path(init_from))
    elif isinstance(init_from, Result):
        leaves = init_from.state
        about = {
            "agent": init_from.agent.name, "environment": init_from.env.name,
            "iteration": init_from.iteration,
        }  # fmt: skip
    else:
        leaves = init_from
    learnt = learnt_by_path(leaves)
    host = {path: x if _is_key(x) else _to_host(x) for path, x in learnt.items()}
    about |= {"parts": list(parts), "digest": _digest(host)}
    return Origin(host, tuple(parts), about)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _to_host(x: Any) -> np.ndarray:
    return np.array(jax.device_get(replicate(x)))


def _read_folder(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Leaves of the newest checkpoint of a run, and where they are from."""
    if provenance.is_sweep(out) or provenance.is_tuning(out):
        raise ValueError(
            f"init_from={str(out)!r}: is no run, allowed is the folder of one; of a sweep what "
            "jaxpg.sweep.result gives"
        )
    record = provenance.read_record(out / RUN, "run")
    iteration = standing.require_last_checkpoint(out)
    seal.checkpoint_ends(out, iteration)  # it is this run's
    about = {
        "folder": str(out), "agent": record["agent"], "environment": record["environment"]["name"],
        "iteration": iteration, "run": seal.read_seal(out).digests[0],
    }  # fmt: skip
    return checkpoint.read_leaves(out / CHECKPOINTS, iteration), about


def _digest(leaves: dict[str, Any]) -> str:
    """SHA-256 of arrays and their paths."""
    found = hashlib.sha256()
    for path in sorted(leaves):
        if not _is_key(leaves[path]):
            found.update(f"{path} {leaves[path].dtype}{list(leaves[path].shape)}\n".encode())
            found.update(leaves[path].tobytes())
    return found.hexdigest()


def save_begin(this: RunFolder, plan: Plan, origin: Origin | None) -> Tree | None:
    """Saves what a run begins with as the checkpoint of iteration 0, and returns it; None for what
    the agent makes itself."""
    if origin is None:
        return None
    state = origin.begin(plan)
    about = checkpoint.describe(this.agent, this.cfg, this.env) | {"run": this.digest, "rows": {}}
    snap = checkpoint.take_snapshot(state)
    broadcast_from_main(lambda: checkpoint.save(this.out / CHECKPOINTS, snap, 0, about))
    return state


def require_begin(this: RunFolder, done: int | None) -> None:
    """Raises CheckpointError for a run without a checkpoint that began with another run's
    parameters: it cannot begin anew. done: iteration of the checkpoint that it goes on from."""
    if done is None and INIT in this.record:
        raise CheckpointError(
            f"{this.out / CHECKPOINTS}: found no finished checkpoint, expected that of iteration "
            "0: the run began with the parameters of another one; train it again"
        )


def describe_origin(record: dict[str, Any]) -> str:
    """Says by the record of a run what it began with, for a line of text; "" for what the agent
    makes itself."""
    if (about := record.get(INIT)) is None:
        return ""
    what = ", ".join(about.get("parts", ())) or "all that is learnt"
    of = f"{about['agent']} on {about['environment']}" if "agent" in about else "a state"
    at = f", iteration {about['iteration']:,}" if "iteration" in about else ""
    return f"{what} of {about.get('folder', of)}" + f" ({of}{at})" * ("folder" in about)
