"""gymnasium (Towers et al. 2024): its environments, and all that is registered there.

`processes=True` gives every environment a process of its own, for those whose steps take long.
"""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from jaxpg.envs.suites.base import LIMIT
from jaxpg.envs.suites.host import core
from jaxpg.envs.suites.host.core import Made

Core = core.Core
INSTALL = {  # by parts of gymnasium, what brings the packages that they import
    "box2d": "pip install 'jaxpg[gymnasium]'",
    "mujoco": "pip install 'gymnasium[mujoco]'",
}


def names() -> list[str]:
    return sorted(name for name, spec in gymnasium.registry.items() if not _is_gone(spec))


def _is_gone(spec: Any) -> bool:
    """True for what stands in the registry only to say that gymnasium has it no more."""
    entry = spec.entry_point
    return entry is None or getattr(entry, "__name__", "").startswith("_raise_")


def _part(spec: Any) -> str:
    """The part of gymnasium whose environment this is; of another package, what does not matter."""
    entry = spec.entry_point if isinstance(spec.entry_point, str) else ""
    return re.split("[.:]", entry.removeprefix("gymnasium.envs."))[0]


def find_constructor(name: str) -> Callable[..., Any]:
    """Takes what the class of the environment takes, but for how it is drawn.

    Raises ValueError for an environment whose packages are not there.
    """
    spec = gymnasium.registry[name]
    entry = spec.entry_point
    try:
        entry = load_env_creator(entry) if isinstance(entry, str) else entry
    except Exception as error:  # of many kinds
        said = " ".join(f"{type(error).__name__}: {error}".split())
        command = INSTALL.get(_part(spec))
        text = f"gymnasium/{name} cannot be imported" + f"; {command}" * bool(command)
        raise ValueError(f"{text} ({said})") from error
    make: Any = functools.partial(_make, name)
    make.__signature__ = _signature(entry)
    return make


def _signature(entry: Any) -> inspect.Signature:
    own = [x for k, x in inspect.signature(entry).parameters.items() if k != "render_mode"]
    own = [x.replace(kind=x.KEYWORD_ONLY) for x in own if x.kind == x.POSITIONAL_OR_KEYWORD]
    processes = inspect.Parameter("processes", inspect.Parameter.KEYWORD_ONLY, default=False)
    return inspect.Signature([*own, processes])


def _make(name: str, processes: bool = False, **options: Any) -> Made:
    one = gymnasium.make(name, **options)
    limit = one.spec.max_episode_steps if one.spec else None
    one.close()
    make = functools.partial(Vector, name, tuple(options.items()), processes)
    return Made(one.observation_space, one.action_space, limit or LIMIT, make)


class Vector:
    """Environments of gymnasium side by side, which are reset in the step that ends them."""

    def __init__(self, name: str, options: tuple, processes: bool, num_envs: int, limit: int):
        settings = {"disable_env_checker": True, "max_episode_steps": limit, **dict(options)}
        several = [functools.partial(gymnasium.make, name, **settings)] * num_envs
        rest: Any = {"autoreset_mode": AutoresetMode.DISABLED, "copy": False}
        if processes:  # not forked: JAX has threads
            self.envs = AsyncVectorEnv(several, context="forkserver", **rest)
        else:
            self.envs = SyncVectorEnv(several, **rest)

    def reset(self, seeds):
        return self.envs.reset(seed=seeds)[0]

    def step(self, action):
        obs, reward, terminated, truncated, _ = self.envs.step(action)
        ended = terminated | truncated
        if not ended.any():
            return obs, obs, reward, terminated, truncated
        final = jax.tree.map(np.array, obs)  # the next reset writes where it is
        obs, _ = self.envs.reset(options={"reset_mask": ended})
        return obs, final, reward, terminated, truncated

    def close(self):
        self.envs.close()
