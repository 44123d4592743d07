"""The agents, by name. A file is imported when its agent is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxpg.core.names import Trust
    from jaxpg.core.types import Agent

NAMES = (
    "reinforce",
    "a2c",
    "a3c",
    "impala",
    "npg",
    "trpo",
    "cpo",
    "ppo",
    "ppo_lagrangian",
    "option_critic",
    "ppoc",
    "ippo",
    "mappo",
    "self_play",
    "maddpg",
    "iql",
    "dqn",
    "ddpg",
    "td3",
    "sac",
    "sac_discrete",
    "q_learning",
    "sarsa",
    "expected_sarsa",
    "go_explore",
    "hill_climbing",
    "steepest_ascent",
    "simulated_annealing",
    "adaptive_noise",
    "cem",
    "es",
    "ars",
    "evosax",
)


def get(name: str) -> Agent:
    """The agent called `name`: jaxpg's, or one that an installed package announces. Raises
    ValueError for an unknown one, with the nearest name."""
    if name in NAMES:
        return getattr(importlib.import_module(f"jaxpg.agents.{name}"), name)
    from jaxpg.core.sources import AGENTS, announced

    if isinstance(name, str) and name in announced(AGENTS):
        return find(announced(AGENTS)[name])
    from jaxpg.core.config import unknown  # brings JAX, which `jaxpg --help` does not need

    raise unknown("agent", name, names())


def names() -> list[str]:
    """Names of the agents: jaxpg's, and those that installed packages announce."""
    from jaxpg.core.sources import AGENTS, announced

    return [*NAMES, *sorted(announced(AGENTS).keys() - set(NAMES))]


def find(spec: str, trust: Trust = False) -> Agent:
    """The agent of a name that `get` knows, or of "module:Object" anywhere.

    trust: whether its module may be imported for it, see `core.names`: True for what the user has
    said. Raises ValueError for an unknown one, and for what is no Agent, UntrustedError for one
    that is not allowed.
    """
    if not isinstance(spec, str) or ":" not in spec:
        return get(spec)
    from jaxpg.core.names import Kind, name_problem, resolve_name
    from jaxpg.core.types import Agent

    kind = Kind("an Agent", lambda x: isinstance(x, Agent))
    try:
        return resolve_name(spec, kind, trust)
    except ValueError as error:
        raise name_problem("agent", spec, error) from error
