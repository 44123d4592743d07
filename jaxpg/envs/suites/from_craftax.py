"""Craftax (Matthews et al. 2024) and Craftax-Classic, from symbols or pixels.

It ends an episode at its time limit as if the player had died: here that is out of reach, and the
adapter's clock truncates. All other parameters are Craftax's own. A reset costs five steps.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from craftax.craftax_env import make_craftax_env_from_name
from gymnax.environments import spaces

from jaxpg.envs.suites.base import Adapter, make_params

KINDS = ("Craftax", "Craftax-Classic")


def names() -> list[str]:
    return [f"{kind}-{seen}-v1" for kind in KINDS for seen in ("Symbolic", "Pixels")]


def find_constructor(name: str) -> Callable[..., Any]:
    return lambda: make_craftax_env_from_name(name, auto_reset=False)


class Core(Adapter):
    reset_pool = 64

    def __init__(self, name: str, inner: Any):
        self.usual = inner.default_params
        super().__init__(name, inner, self.usual.max_timesteps)
        self.obs = inner.observation_space(self.usual)
        self.actions = spaces.Discrete(inner.num_actions)
        values = {f.name: getattr(self.usual, f.name) for f in dataclasses.fields(self.usual)}
        del values["max_timesteps"]
        self.params = make_params(values, self.limit)

    def _as_own(self, params: Any) -> Any:
        values = {f.name: getattr(params, f.name) for f in dataclasses.fields(params)[:-1]}
        return self.usual.replace(**values, max_timesteps=np.iinfo(np.int32).max)

    def begin(self, key, params):
        return self.inner.reset_env(key, self._as_own(params))

    def move(self, key, state, action, params):
        return self.inner.step_env(key, state, action, self._as_own(params))[:4]
