"""Sweeps: many configs times many seeds in few programs: `jaxpg.sweep`.

points.py    points of a sweep: grids, random draws, random batches
sweep.py     what trains them, part by part
search.py    points that Optuna chooses (`jaxpg.search`)
compare.py   several agents and environments (`jaxpg.compare`)
entries.py   what these are called, and how a folder finds them again
tables.py    what was found, and the folder of a sweep
watching.py  the bar on stderr, loggers, and a count of what is compiled
"""

from pathlib import Path

from jaxpg.core.checks import require_path
from jaxpg.core.env import Env
from jaxpg.core.run import Callbacks, as_callbacks
from jaxpg.core.types import Agent
from jaxpg.experiment.files import lock
from jaxpg.experiment.run import provenance
from jaxpg.experiment.sweeps import search, sweep
from jaxpg.experiment.sweeps.entries import Agents, Envs
from jaxpg.experiment.sweeps.points import batch, grid, loguniform, random, uniform
from jaxpg.experiment.sweeps.sweep import run
from jaxpg.experiment.sweeps.tables import Sweep, SweepFolder, load, open_folder, result

__all__ = ["Sweep", "batch", "grid", "load", "loguniform", "random", "result", "resume", "run"]
__all__ += ["uniform"]


def resume(
    out: str | Path,
    *,
    callbacks: Callbacks = (),
    progress: bool = False,
    agent: Agent | None = None,
    env: Env | None = None,
    trust: bool = False,
    agents: Agents = (),
    envs: Envs = (),
) -> Sweep:
    """Resumes a sweep, a search or a comparison that was stopped, in whatever way; its tables will
    be, to the byte, those of one that was never stopped.

    agent, env, trust: as of `jaxpg.load`. agents, envs: those of a comparison that no name finds
    again, in a list, or in a dict by the labels of its tables. Raises CheckpointError for a
    damaged, missing or foreign folder, or an object that is needed and not given, ValueError for a
    network that is not trusted, or an object that is not of this folder.
    """
    require_path("out", out)
    callbacks = as_callbacks(callbacks)
    given = agent, env, trust, agents, envs
    this = open_folder(Path(out), *given)
    if "digests" in this.record:
        return load(out)
    parts = (part for part in this.record["parts"] if not part["over"])
    for point in {p for part in parts for p, _ in part["lanes"]}:
        this.resolve(this.record["points"][point])  # an object may be missing
    with lock.hold(this.out):
        return _resume(open_folder(this.out, *given), callbacks, progress)


def _resume(this: SweepFolder, callbacks: Callbacks, progress: bool) -> Sweep:
    """Resumes the sweep of a folder that this process holds."""
    if "digests" in this.record:  # by now
        return load(this.out)
    provenance.warn_of_other_versions(this.out, this.record["made_with"], stacklevel=4)
    if "search" in this.record:
        return search.train_batches(this, callbacks, progress)
    return sweep.write_tables(sweep.train_parts(this, callbacks, progress))
