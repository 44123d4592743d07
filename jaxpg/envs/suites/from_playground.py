"""MuJoCo Playground (Zakka et al. 2025): robots in MJX, with actions in [-1, 1].

Plain entries of an environment's config are arguments. The physics is JAX's, `impl="jax"`, and not
Warp's, which needs a GPU. The time limit is the config's `episode_length`, which Playground's
wrapper for training keeps. A step draws from its own key, and not from one in the state.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from gymnax.environments import spaces
from mujoco_playground import dm_control_suite, registry
from mujoco_playground._src import mjx_env

from jaxpg.envs.suites.base import Adapter

LEFT_OUT = ("AlohaHandOver", "PandaPickCubeCartesian")  # they end at their time limit


def names() -> list[str]:
    if not mjx_env.MENAGERIE_PATH.exists():  # models of robots, a download
        return sorted(dm_control_suite.ALL_ENVS)
    return sorted(set(registry.ALL_ENVS) - set(LEFT_OUT))


def find_constructor(name: str) -> Callable[..., Any]:
    config = registry.get_default_config(name)
    plain = {k: x for k, x in config.items() if isinstance(x, bool | int | float | str)}
    plain["impl"] = "jax"

    def make(**options: Any) -> Any:
        return registry.load(name, config_overrides=plain | options)

    kind = inspect.Parameter.KEYWORD_ONLY
    arguments = [inspect.Parameter(k, kind, default=x) for k, x in plain.items()]
    make.__signature__ = inspect.Signature(arguments)  # pyright: ignore[reportFunctionMemberAccess]
    return make


class Core(Adapter):
    def __init__(self, name: str, inner: Any):
        super().__init__(name, inner, inner._config.episode_length)
        first = jax.eval_shape(inner.reset, jax.random.key(0)).obs
        boxes = jax.tree.map(lambda x: spaces.Box(-np.inf, np.inf, x.shape), first)
        self.obs = spaces.Dict(boxes) if isinstance(boxes, dict) else boxes
        self.actions = spaces.Box(-1, 1, (inner.action_size,))

    def begin(self, key, params):
        state = self.inner.reset(key)
        return state.obs, state

    def move(self, key, state, action, params):
        info = {k: key if k == "rng" else x for k, x in state.info.items()}
        state = state.replace(info=info, metrics={**state.metrics})  # a step writes into it
        state = self.inner.step(state, action)
        return state.obs, state, state.reward, state.done > 0
