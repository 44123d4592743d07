"""`jaxpg list`: agents, environments and presets."""

import sys
from typing import TYPE_CHECKING

from jaxpg.cli import common
from jaxpg.experiment.text import printable

if TYPE_CHECKING:
    from jaxpg.core.types import Agent

PROBES = {"discrete": "CartPole-v1", "continuous": "Pendulum-v1"}  # an environment of each kind


def overview() -> int:
    """Lists the agents and environments, which go together, and which have presets."""
    from rich.table import Table

    from jaxpg import agents, presets
    from jaxpg.envs import registry

    table = Table("agent", "what it is", "actions", "preset for", show_lines=True)
    lost = []
    for name in agents.names():
        try:
            agent = agents.get(name)
        except ValueError as error:  # of an installed package that does not work
            lost.append(f"{name}: {error}")
            continue
        about = sys.modules[agent.step.__module__].__doc__ or agent.name
        actions = [kind for kind, probe in PROBES.items() if _fits(agent, probe)]
        table.add_row(
            agent.name, about.splitlines()[0], "\n".join(actions), "\n".join(presets.table(agent))
        )
    envs = Table("actions", "environments", show_lines=True)
    kinds: dict[str, list[str]] = {kind: [] for kind in PROBES}
    for name in registry.names():
        try:
            kind = "discrete" if registry.make(name).discrete else "continuous"
        except ValueError as error:
            lost.append(f"{name}: {error}")
            continue
        kinds[kind].append(name)
    for kind, names in kinds.items():
        envs.add_row(kind, printable(", ".join(names)))
    common.console().print(table, envs)
    for line in lost:
        common.say(f"warning: {line}")
    return 0


def _fits(agent: "Agent", env_name: str) -> bool:
    """True if the agent can be initialised in the environment, with its preset."""
    import jax

    from jaxpg import presets
    from jaxpg.envs import registry

    try:
        env, cfg = registry.make(env_name), presets.preset(agent, env_name)
        jax.eval_shape(lambda key: agent.init(cfg, env, key), jax.random.key(0))
    except ValueError:
        return False
    return True
