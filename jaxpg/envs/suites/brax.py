"""Brax (Freeman et al. 2021): robots, with actions in [-1, 1].

Its environments have no time limit, its training has one of 1000 steps, which is the usual one
here. Its wrappers, which repeat one first state in every episode, are not used.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from brax import envs
from gymnax.environments import spaces

from jaxpg.envs.suites.base import Adapter


def names() -> list[str]:
    return sorted(envs._envs.keys() - {"fast"})  # a stub for Brax's own tests


def find_constructor(name: str) -> Callable[..., Any]:
    return envs._envs[name]


class Core(Adapter):
    reset_pool = 64

    def __init__(self, name: str, inner: Any):
        super().__init__(name, inner, 1000)
        self.obs = spaces.Box(-np.inf, np.inf, (inner.observation_size,))
        self.actions = spaces.Box(-1, 1, (inner.action_size,))

    def begin(self, key, params):
        state = self.inner.reset(key)
        return state.obs, state

    def move(self, key, state, action, params):
        state = self.inner.step(state, action)
        return state.obs, state, state.reward, state.done > 0
