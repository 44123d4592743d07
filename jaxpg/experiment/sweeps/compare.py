"""Comparisons: several agents, each with its settings for an environment, on equal steps and seeds.

It is a sweep whose fields are the agent and, of several, the environment; see sweep.py for its
folder, and for what happens to a seed that diverges.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from jaxpg import presets
from jaxpg.core.checks import require_key, show
from jaxpg.core.episodes import require_episodes
from jaxpg.core.games import require_score
from jaxpg.core.plan import plan_run
from jaxpg.core.types import Key
from jaxpg.experiment.files import lock
from jaxpg.experiment.run import provenance
from jaxpg.experiment.sweeps import entries
from jaxpg.experiment.sweeps.entries import Agents, Envs, Given
from jaxpg.experiment.sweeps.points import grid, require_runs
from jaxpg.experiment.sweeps.sweep import (
    new_record,
    plan_parts,
    train_parts,
    write_tables,
)
from jaxpg.experiment.sweeps.tables import Sweep, open_comparison
from jaxpg.experiment.sweeps.watching import ask_for_loggers


def compare(
    agents: Agents,
    envs: Envs,
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
    name: str | None = None,
    tags: Sequence[str] = (),
) -> Sweep:
    """Trains every agent in every environment, with its preset there, its general profile, or
    its defaults.

    agents: names, "module:Object", Agents, and pairs of one of these and a config, or a dict of
    fields over the preset. envs: names, "module:Object", and Envs. In a dict of them the keys are
    the labels in the tables; in a list these are the names, and what differs where two have one.
    total_steps: of each seed; None is the most that any of the presets asks for, or 500k if there
    is none. key: one; every agent has the same seeds, split off it. The rest as in `sweep.run`.
    Raises ValueError before anything compiles or is written for what cannot work.

    >>> agents, envs, key = ["q_learning", jaxpg.sarsa], ["Cliff-jaxpg"], jax.random.key(0)
    >>> agents += [("sarsa", {"epsilon": 0.01})]
    >>> found = jaxpg.compare(agents, envs, key, total_steps=1000, seeds=2, episodes=4)
    >>> len(found.scores)  # a row per agent and seed
    6
    >>> found.scores["agent"].unique().tolist()
    ['q_learning', 'sarsa', 'sarsa, epsilon=0.01']
    """
    of_envs = entries.list_envs(envs)
    if not of_envs:
        raise ValueError(f"envs={show(envs)}: allowed is at least one")
    of_agents = entries.list_agents(agents, next(iter(of_envs.values())).env)
    require_key(key)
    points = grid(agent=list(of_agents), env=list(of_envs))
    require_runs(len(points), seeds)
    pairs = [(of_agents[point["agent"]], of_envs[point["env"]].env) for point in points]
    if total_steps is None:
        tuned = [presets.find(x.agent, env.name).settings for x, env in pairs]
        asked = [t["total_steps"] for t in tuned if "total_steps" in t]
        total_steps = int(max(asked, default=500_000))
    for x, env in pairs:
        require_score(env)
        plan_run(x.agent, x.config(env), env, key, total_steps=total_steps)
        require_episodes(env, "episodes", episodes)
    about = {
        "kind": "comparison",
        "format": provenance.FORMAT,
        **entries.describe_entries(of_agents, of_envs),
        "key": provenance.key_to_dict(key),
        "made_with": provenance.environment_versions(),
    }
    fields = ["agent", "env"] if len(of_envs) > 1 else ["agent"]
    record = ask_for_loggers(loggers, out) | new_record(
        about, fields, total_steps,
        seeds=seeds, evaluations=evaluations, episodes=episodes, log_every=log_every,
        name=name, tags=tags,
    )  # fmt: skip
    given = Given(
        {label: x.agent for label, x in of_agents.items()},
        {label: x.env for label, x in of_envs.items()},
    )
    with provenance.lasting(out), lock.hold_new_folder(out) as folder:
        this = plan_parts(open_comparison(folder, key, record, given, trust=True), points, log)
        return write_tables(train_parts(this, (), progress))
