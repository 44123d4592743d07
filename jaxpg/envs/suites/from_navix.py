"""navix (Pignatelli et al. 2024): MiniGrid, whose cells come as one-hot codes of object, colour and
state.

Its `step` resets one call late and ignores the action of that call: `_step` does neither. A step
draws from its own key, and not from one in the state.
"""

import functools
from collections.abc import Callable
from typing import Any

import navix
from gymnax.environments import spaces

from jaxpg.core.config import unknown
from jaxpg.envs.suites.base import Adapter, encode_layers

VIEWS = ("symbolic", "symbolic_first_person")
SIZES = (11, 6, 4)  # kinds of objects and colours; of doors' states and the agent's directions


def names() -> list[str]:
    return sorted(navix.registry())


def find_constructor(name: str) -> Callable[..., Any]:
    return functools.partial(_make, name)


def _make(name: str, max_steps: int = 100, observation: str = "symbolic") -> Any:
    if observation not in VIEWS:
        raise unknown("observation", observation, VIEWS)
    see = getattr(navix.observations, observation)
    return navix.make(name, max_steps=max_steps, observation_fn=see)


class Core(Adapter):
    reset_pool = 64

    def __init__(self, name: str, inner: Any):
        super().__init__(name, inner, inner.max_steps)
        self.obs = spaces.Box(0, 1, (*inner.observation_space.shape[:2], sum(SIZES)))
        self.actions = spaces.Discrete(len(inner.action_set))

    def begin(self, key, params):
        first = self.inner.reset(key)
        return encode_layers(first.observation, SIZES), first

    def move(self, key, state, action, params):
        before = state.state.replace(key=key)
        now = self.inner._step(state.replace(state=before), action)
        terminated = self.inner.termination_fn(before, action, now.state)
        return encode_layers(now.observation, SIZES), now, now.reward, terminated
