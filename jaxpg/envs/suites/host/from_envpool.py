"""envpool (Weng et al. 2022): gymnasium's, Atari's and other environments in C++ threads.

Its own interface to XLA is not used: it has no reset, its seeds are fixed before anything is
compiled, and a compiled program would belong to one batch of environments.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import envpool
import jax
import numpy as np

from jaxpg.envs.suites.base import LIMIT
from jaxpg.envs.suites.host import core
from jaxpg.envs.suites.host.core import Made

Core = core.Core
OURS = (
    "num_envs", "batch_size", "max_num_players", "base_path", "seed", "env_seed",
    "gym_reset_return_info", "max_episode_steps", "reward_threshold",
)  # fmt: skip


def names() -> list[str]:
    return sorted(envpool.list_all_envs())


def find_constructor(name: str) -> Callable[..., Any]:
    """Takes what envpool's own `make` takes, but for what says how many there are and the like."""
    config = envpool.make_spec(name).config._asdict()
    make: Any = functools.partial(_make, name)
    make.__signature__ = inspect.Signature(
        [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=usual)
            for key, usual in config.items()
            if key not in OURS
        ]
    )
    return make


def _make(name: str, **options: Any) -> Made:
    pool = envpool.make_gymnasium(name, num_envs=1, **options)
    limit = pool.config.get("max_episode_steps", 0)
    obs, actions = pool.observation_space, pool.action_space
    pool.close()
    make = functools.partial(Pool, name, tuple(options.items()))
    return Made(obs, actions, limit if 0 < limit < 2**31 - 1 else LIMIT, make)


class Pool:
    """Environments of envpool, reset in the step that ends them: its own reset comes one step
    later, and ignores the action of that step. That step is made here, and not `pool.reset`, which
    begins a new game where a life is an episode (`episodic_life`)."""

    pool: Any = None

    def __init__(self, name: str, options: tuple, num_envs: int, limit: int):
        settings = {"num_envs": num_envs, "max_episode_steps": limit, **dict(options)}
        self.make = functools.partial(envpool.make_gymnasium, name, **settings)

    def reset(self, seeds):
        self.close()
        self.pool = self.make(seed=seeds)  # of an old one they cannot be changed
        return self.pool.reset()[0]

    def step(self, action):
        obs, reward, terminated, truncated, _ = self.pool.step(action)
        ended = np.flatnonzero(terminated | truncated).astype(np.int32)
        if not len(ended):
            return obs, obs, reward, terminated, truncated
        first, *_ = self.pool.step(np.zeros_like(action[ended]), ended)
        merged = jax.tree.map(np.array, obs)
        jax.tree.map(lambda x, y: x.__setitem__(ended, y), merged, first)
        return merged, obs, reward, terminated, truncated

    def close(self):
        if self.pool is not None:
            self.pool.close()
        self.pool = None
