"""Faults of goals: what `core.goals` asks of a core that has its two methods."""

from collections.abc import Iterator

import jax
import numpy as np

from jaxpg.core import goals
from jaxpg.core.env import Env
from jaxpg.core.protocol import Fault
from jaxpg.core.single import name_of
from jaxpg.envs.contract.play import Play


def find_faults(env: Env) -> Iterator[Fault]:
    """Finds what shapes show, of a core that has a method of goals."""
    methods = any(callable(getattr(env.core, name, None)) for name in goals.METHODS)
    if methods and (fault := goals.find_goal_fault(env)):
        yield Fault("goals", f"{name_of(env.core)}: {fault}")


def find_in_steps(name: str, env: Env, played: Play) -> Iterator[Fault]:
    """Finds steps whose reward or end is another one than the methods say."""
    if not goals.has_goals(env):
        return
    steps, core = played.steps, env.core
    pair = [np.asarray(steps.final[key]) for key in goals.GOAL_KEYS[1:]]
    for method, what in zip(goals.METHODS, ("reward", "terminated"), strict=True):
        one = lambda a, d, f=getattr(core, method): f(a, d, env.params)  # noqa: E731
        said, found = np.asarray(jax.jit(jax.vmap(jax.vmap(one)))(*pair)), getattr(steps, what)
        if len(wrong := np.argwhere(~np.isclose(said.astype(float), found.astype(float)))):
            at = tuple(wrong[0])
            text = f"{name}: {what} is {found[at]} where {method} of achieved and desired is "
            text += f"{said[at]}: allowed is what it says of the step's true successor, alone"
            yield Fault("goals", text)
