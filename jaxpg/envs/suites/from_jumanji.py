"""jumanji (Bonnet et al. 2024): games, packing and routing, with masks of legal actions.

Its time limits are terminations: here they are out of reach, and the adapter's clock truncates.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from jumanji.registration import make, registered_environments

from jaxpg.core.spaces import MultiDiscrete
from jaxpg.envs.suites.base import LIMIT, Adapter, bounded, encode

# A reward for each agent (the first three), a mask that lacks an action, a download.
LEFT_OUT = "Connector-v3 LevelBasedForaging-v0 SearchAndRescue-v0 MultiCVRP-v0 Sokoban-v0"


def names() -> list[str]:
    return sorted(registered_environments().difference(LEFT_OUT.split()))


def find_constructor(name: str) -> Callable[..., Any]:
    found = functools.partial(make, name)  # with the signature of the class:
    return functools.update_wrapper(found, type(found()), updated=())


class Core(Adapter):
    def __init__(self, name: str, inner: Any):
        self.obs, limit = _space(inner.observation_spec), getattr(inner, "time_limit", None)
        super().__init__(name, inner, limit or LIMIT)
        self.limits = {"max_steps_in_episode": (1, limit)} if limit else {}  # arrays' lengths
        inner.time_limit = np.iinfo(np.int32).max
        sizes = self.sizes = tuple(np.ravel(inner.action_spec.num_values).tolist())
        mask = self.obs.spaces.get("action_mask")
        # A mask of all combinations is of one choice among them.
        self.joint = len(sizes) > 1 and getattr(mask, "shape", None) == sizes
        several = len(sizes) > 1 and not self.joint
        self.actions = MultiDiscrete(sizes) if several else spaces.Discrete(math.prod(sizes))

    def begin(self, key, params):
        state, first = self.inner.reset(key)
        return encode(self.obs, first.observation), state

    def move(self, key, state, action, params):
        action = jnp.stack(jnp.unravel_index(action, self.sizes)) if self.joint else action
        state, now = self.inner.step(state.replace(key=key), action)
        return encode(self.obs, now.observation), state, now.reward, now.last()


def _space(spec: Any) -> Any:
    if parts := getattr(spec, "_specs", None):
        return spaces.Dict({name: _space(part) for name, part in parts.items()})
    low, high = getattr(spec, "minimum", -np.inf), getattr(spec, "maximum", np.inf)
    return bounded(low, high, spec.shape, spec.dtype)
