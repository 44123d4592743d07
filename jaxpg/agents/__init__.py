"""The agents, by name. A file is imported when its agent is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxpg.core.types import Agent

NAMES = (
    "reinforce",
    "a2c",
    "a3c",
    "impala",
    "npg",
    "trpo",
    "ppo",
    "dqn",
    "ddpg",
    "td3",
    "sac",
    "sac_discrete",
    "q_learning",
    "sarsa",
    "expected_sarsa",
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
    """The agent called `name`. Raises ValueError for an unknown one, with the nearest name."""
    if name not in NAMES:
        from jaxpg.core.config import unknown  # brings JAX, which `jaxpg --help` does not need

        raise unknown("agent", name, NAMES)
    return getattr(importlib.import_module(f"jaxpg.agents.{name}"), name)
