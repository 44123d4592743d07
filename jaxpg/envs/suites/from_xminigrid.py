"""XLand-MiniGrid (Nikulin et al. 2023): its MiniGrid environments, seen from the agent's place, in
one-hot codes of tile and colour.

The reward falls with the time as a share of `max_steps`, which is also the usual time limit. The
environments of XLand need rules that are a download, and are left out.
"""

import functools
from collections.abc import Callable
from typing import Any

from gymnax.environments import spaces
from xminigrid.core.constants import NUM_COLORS, NUM_TILES
from xminigrid.registration import make, registered_environments

from jaxpg.envs.suites.base import Adapter, encode_layers

SIZES = (NUM_TILES, NUM_COLORS)


def names() -> list[str]:
    return [x for x in registered_environments() if x.startswith("MiniGrid-")]


def find_constructor(name: str) -> Callable[..., Any]:
    return functools.partial(_make, name)


def _make(name: str, max_steps: int | None = None, view_size: int = 7) -> Any:
    env, params = make(name, view_size=view_size)
    return env, params if max_steps is None else params.replace(max_steps=max_steps)


class Core(Adapter):
    def __init__(self, name: str, inner: Any):
        self.env, self.settings = inner
        super().__init__(name, inner, self.settings.max_steps)
        self.limits = {"max_steps_in_episode": (1, self.limit)}  # beyond it a reward is below 0.1
        *sides, _ = self.env.observation_shape(self.settings)
        self.obs = spaces.Box(0, 1, (*sides, sum(SIZES)))
        self.actions = spaces.Discrete(self.env.num_actions(self.settings))

    def begin(self, key, params):
        first = self.env.reset(self.settings, key)
        return encode_layers(first.observation, SIZES), first

    def move(self, key, state, action, params):
        now = self.env.step(self.settings, state, action)
        return encode_layers(now.observation, SIZES), now, now.reward, now.discount == 0
