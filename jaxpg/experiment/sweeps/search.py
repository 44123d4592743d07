"""Search beyond grids: Optuna chooses a batch of points from what all others came to, and the batch
is trained as one part of a sweep, in the program of the batch before. Needs the extra `optuna`.

Nothing is kept of Optuna's study: it is made again from the tables before each batch, with a seed
of its own. So a search that was killed goes on as it would have.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpg.core import env as E
from jaxpg.core.checks import require_integer, show
from jaxpg.core.config import plain
from jaxpg.core.episodes import require_episodes
from jaxpg.core.interrupt import catch_signals
from jaxpg.core.run import Callbacks, as_callbacks
from jaxpg.core.train import require_objects
from jaxpg.core.types import Agent, C, Key
from jaxpg.experiment.analysis import scores
from jaxpg.experiment.extras import require_extra
from jaxpg.experiment.files import lock
from jaxpg.experiment.run import provenance
from jaxpg.experiment.sweeps.points import (
    MOST,
    Point,
    Range,
    check_points,
    grid,
    require_range,
    require_runs,
)
from jaxpg.experiment.sweeps.sweep import (
    EPISODES,
    SEEDS,
    new_record,
    plan_parts,
    train_parts,
    write_tables,
)
from jaxpg.experiment.sweeps.tables import Sweep, SweepFolder, open_sweep, read_tables
from jaxpg.experiment.sweeps.watching import ask_for_loggers
from jaxpg.presets import find_objects


def search(
    agent: Agent[C] | str,
    cfg: C | None,
    env: E.Env | str,
    key: Key,
    space: Mapping[str, Sequence | Range],
    *,
    trials: int = 32,
    batch: int = 8,
    total_steps: int,
    out: str | Path | None = None,
    callbacks: Callbacks = (),
    progress: bool = False,
    log: Callable[[str], None] = lambda text: None,
    loggers: Sequence[str] = (),
    **settings: Any,
) -> Sweep:
    """Searches for the point with the highest interquartile mean of its seeds' final evaluations.

    space: field -> list of values, or Range; a Range is of numbers that are not static. trials:
    points, rounded up to whole batches. batch: points that are chosen at a time, by Optuna's
    tree-structured Parzen estimator, each aware of the others; the first are random. settings and
    all else: as of `sweep.run`. Raises ValueError before anything compiles for what cannot work,
    ImportError without Optuna.

    >>> env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    >>> space, key = {"learning_rate": jaxpg.sweep.uniform(0.1, 0.9)}, jax.random.key(0)
    >>> few = {"trials": 2, "batch": 2, "seeds": 2, "episodes": 4}
    >>> found = jaxpg.search(jaxpg.q_learning, cfg, env, key, space, total_steps=1000, **few)
    >>> len(found.scores)  # a row per trial and seed
    4
    """
    _import_optuna()
    agent, cfg, env = find_objects(agent, cfg, env)
    require_objects(agent, cfg, env)
    require_integer("trials", trials, 1, MOST)
    require_integer("batch", batch, 1, MOST)
    require_runs(max(trials, batch), settings.get("seeds", SEEDS))
    require_episodes(env, "episodes", settings.get("episodes", EPISODES))
    if not (isinstance(space, Mapping) and space):
        raise ValueError(f"space={show(space)}: allowed is a dict of fields, at least one")
    callbacks = as_callbacks(callbacks)
    for name, values in space.items():
        if isinstance(values, Range):
            require_range(values, name, cfg)
    # Points at the corners of the space: a value that is not allowed is one of them.
    ends = {name: _end_values(name, values) for name, values in space.items()}
    corners = [{name: x[i] for name, x in ends.items()} for i in (0, -1)]
    each = [corners[0] | {name: v} for name, x in ends.items() for v in x]
    check_points(agent, cfg, env, key, [*corners, *each], total_steps, 1)
    with provenance.lasting(out):
        about = {"kind": "sweep", **provenance.describe_run(agent, cfg, env, key)}
    record = ask_for_loggers(loggers, out) | new_record(about, list(space), total_steps, **settings)
    told = {
        n: x._asdict() if isinstance(x, Range) else list(map(plain, x)) for n, x in space.items()
    }
    record["search"] = {"space": told, "trials": trials, "batch": batch}
    record = provenance.add_sources(record, told)
    with provenance.lasting(out), lock.hold_new_folder(out) as folder:
        this = open_sweep(folder, agent, cfg, env, key, record, trust=True)
        return train_batches(this, callbacks, progress, log)


def train_batches(
    this: SweepFolder,
    callbacks: Callbacks,
    progress: bool,
    log: Callable[[str], None] = lambda text: None,
) -> Sweep:
    """Trains the batches that are missing."""
    asked = this.record["search"]
    total = -(-asked["trials"] // asked["batch"]) * asked["batch"]
    with catch_signals() as signals:  # between two batches too
        while True:
            share = len(this.record["points"]) / total
            if share:
                this = train_parts(this, callbacks, progress, share)
            over = all(part["over"] for part in this.record["parts"])
            if share == 1 or not over or signals.asked:
                return write_tables(this)
            this = plan_parts(this, propose_points(this), log if not share else lambda text: None)


def _end_values(name: str, values: Sequence | Range) -> list:
    """Values at the ends of a field's range, or all of its list."""
    if isinstance(values, Range):
        return [values.low, values.high]
    return [point[name] for point in grid({name: values})]  # which judges a list


def _import_optuna():
    require_extra("optuna", "optuna", "a search")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def propose_points(this: SweepFolder) -> list[Point]:
    """Proposes the points of the next batch, by Optuna from all scores so far."""
    optuna, asked = _import_optuna(), this.record["search"]
    done: Any = None
    points = this.record["points"]
    spaces: dict[str, Any] = {
        name: optuna.distributions.CategoricalDistribution(list(range(len(x))))
        if isinstance(x, list)
        else optuna.distributions.FloatDistribution(**x)
        for name, x in asked["space"].items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=len(points), constant_liar=True, n_startup_trials=max(10, asked["batch"])
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        if points:
            done = scores.final(read_tables(this.out, this.record))
        for i, point in enumerate(points):
            value = done.iqm([i]) if i in done.scores else np.nan
            state = "FAIL" if np.isnan(value) else "COMPLETE"
            study.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState[state],
                    value=None if state == "FAIL" else value,
                    params={n: _encode_value(asked["space"][n], point[n]) for n in spaces},
                    distributions=spaces,
                )
            )
        trials = [study.ask(spaces) for _ in range(asked["batch"])]
    return [{n: _decode_value(asked["space"][n], t.params[n]) for n in spaces} for t in trials]


def _encode_value(values, value):
    """Encodes a value for Optuna, which knows plain values only: one of a list by its place."""
    return values.index(value) if isinstance(values, list) else value


def _decode_value(values, x):
    """Decodes a value that `_encode_value` encoded."""
    return values[x] if isinstance(values, list) else Range(**values).round(x)
