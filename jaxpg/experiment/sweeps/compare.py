"""Comparisons: several agents, each with its settings for an environment, on equal steps and seeds.

It is a sweep whose fields are the agent and, of several, the environment; see sweep.py for its
folder, and for what happens to a seed that diverges.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpg import agents, presets
from jaxpg.core.checks import require_key, show
from jaxpg.core.config import to_dict
from jaxpg.core.episodes import require_episodes
from jaxpg.core.plan import plan_run
from jaxpg.core.types import Key
from jaxpg.envs import registry
from jaxpg.experiment.files import lock
from jaxpg.experiment.run import provenance
from jaxpg.experiment.sweeps.loggers import ask_for_loggers
from jaxpg.experiment.sweeps.points import grid, require_runs
from jaxpg.experiment.sweeps.sweep import (
    new_record,
    plan_parts,
    train_parts,
    write_tables,
)
from jaxpg.experiment.sweeps.tables import Sweep, open_comparison


def compare(
    names: Sequence[str],
    envs: Sequence[str],
    key: Key,
    *,
    total_steps: int | None = None,
    seeds: int = 8,
    out: str | Path | None = None,
    evaluations: int = 10,
    episodes: int = 128,
    log_every: int | None = None,
    progress: bool = False,
    log: Callable[[str], None] = lambda text: None,
    loggers: Sequence[str] = (),
) -> Sweep:
    """Trains every agent in every environment, with its preset there or its defaults.

    total_steps: of each seed; None is the most that any of the presets asks for, or 500k if there
    is none. key: one; every agent has the same seeds, split off it. The rest as in `sweep.run`.
    Raises ValueError before anything compiles or is written for what cannot work.

    >>> names, envs, key = ["q_learning", "sarsa"], ["Cliff-jaxpg"], jax.random.key(0)
    >>> found = jaxpg.compare(names, envs, key, total_steps=1000, seeds=2, episodes=4)
    >>> len(found.scores)  # a row per agent and seed
    4
    """
    for name, value in {"names": names, "envs": envs}.items():
        if isinstance(value, str) or not np.iterable(value):
            raise ValueError(f"{name}={show(value)}: allowed is a list of names")
    require_key(key)
    points = grid(agent=list(names), env=list(envs))
    require_runs(len(points), seeds)
    tuned = [presets.table(agents.find(p["agent"], True)).get(p["env"], {}) for p in points]
    if total_steps is None:
        total_steps = int(max((t["total_steps"] for t in tuned if t), default=500_000))
    configs: dict[str, dict] = {}
    for point in points:
        agent, env = agents.find(point["agent"], True), registry.make(point["env"])
        cfg = presets.preset(agent, point["env"])
        plan_run(agent, cfg, env, key, total_steps=total_steps)
        require_episodes(env, "episodes", episodes)
        configs.setdefault(point["agent"], {})[point["env"]] = to_dict(cfg)
    about = {
        "kind": "comparison",
        "format": provenance.FORMAT,
        "configs": configs,
        "environments": {name: registry.to_dict(registry.make(name)) for name in envs},
        "key": provenance.key_to_dict(key),
        "made_with": provenance.environment_versions(),
    }
    fields = ["agent", "env"] if len(envs) > 1 else ["agent"]
    settings: dict[str, Any] = {"seeds": seeds, "evaluations": evaluations, "episodes": episodes}
    settings |= {"log_every": log_every}
    record = ask_for_loggers(loggers, out) | new_record(about, fields, total_steps, **settings)
    with lock.hold_new_folder(out) as folder:
        this = plan_parts(open_comparison(folder, key, record, trust=True), points, log)
        return write_tables(train_parts(this, (), progress))
