"""Random episodes of an environment, as it gives them: observations are no floats yet."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import single, spaces
from jaxpg.core.env import Env
from jaxpg.core.observations import random_discrete
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.core.types import Array, Key, Tree

RESETS, NUM_ENVS, NUM_STEPS = 64, 8, 100
LARGE = 2**27  # bytes of what is kept; above it fewer steps are made


class Steps(NamedTuple):
    """Steps of N environments from their first episodes on, as NumPy arrays; keys as words."""

    obs: Tree  # [T, N, ...] what `step` gives: at an end the first of the next episode
    state: Tree  # [T, N, ...] likewise
    reward: np.ndarray  # [T, N]
    terminated: np.ndarray  # [T, N]
    truncated: np.ndarray  # [T, N]
    final: Tree  # [T, N, ...] info["final_observation"]
    mask: Any  # [T, N, actions] of the state that was reached; None if there is none
    signals: dict[str, np.ndarray]  # [T, N, ...] of info, by name

    @property
    def ended(self) -> np.ndarray:
        return self.terminated | self.truncated


class Play(NamedTuple):
    """Resets, and steps from the first N of them."""

    first_obs: Tree  # [R, ...]
    first_state: Tree  # [R, ...]
    first_mask: Any  # [R, actions]
    steps: Steps


def play(env: Env, seed: int = 0) -> Play:
    """Plays with random actions, among those that are legal. The same seed gives the same episodes
    under other parameters, as long as these make no difference."""
    use_fast_random()
    first, after = single.trace_step(env.core, env.params)
    kept = (first, after[:5], after[-1]["final_observation"])
    size = NUM_ENVS * sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(kept))
    num_steps = int(min(NUM_STEPS, max(16, LARGE // max(size, 1))))
    played = _play(env.core, env.params, jax.random.key(seed), num_steps)
    return jax.tree.map(_on_host, played)


def _on_host(x: Array) -> np.ndarray:
    """An array in NumPy, keys as their words."""
    words = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if words else x)


@functools.partial(jax.jit, static_argnames=("core", "num_steps"))
def _play(core: Any, params: Tree, key: Key, num_steps: int) -> Play:
    k_reset, k_act, k_step = jax.random.split(key, 3)
    space, names = core.action_space(params), getattr(core, "signals", ())
    reset = jax.vmap(core.reset, (0, None))(jax.random.split(k_reset, RESETS), params)
    first_obs, first_state = reset
    act = jax.vmap(functools.partial(_random_action, space))

    def one_step(loop, keys):
        state, mask = loop
        k_act, k_step = (jax.random.split(k, NUM_ENVS) for k in keys)
        action = act(k_act, mask)
        move = jax.vmap(core.step, (0, 0, 0, None))
        obs, state, reward, terminated, truncated, info = move(k_step, state, action, params)
        told = _mask_of(obs, info)
        mask = _legal_next(mask, obs, told, terminated | truncated)
        final, said = info["final_observation"], {x: info[x] for x in names if x in info}
        return (state, mask), Steps(obs, state, reward, terminated, truncated, final, told, said)

    first_mask = _mask_of(first_obs, {})
    every = jnp.ones((RESETS, spaces.num_choices(space)), bool)
    mask = every if first_mask is None else first_mask.astype(bool)
    begin = jax.tree.map(lambda x: _strong(x[:NUM_ENVS]), (first_state, mask))
    keys = jax.random.split(k_act, num_steps), jax.random.split(k_step, num_steps)
    _, steps = jax.lax.scan(one_step, begin, keys)
    return Play(first_obs, first_state, first_mask, steps)


def _strong(x: Array) -> Array:
    """An array whose dtype is no longer weak, as training casts it."""
    keys = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return x if keys else x.astype(x.dtype)


def _mask_of(obs: Tree, info: dict) -> Array | None:
    """The mask of legal actions, of the observation or of info; None if there is none."""
    told = obs if isinstance(obs, dict) and "action_mask" in obs else info
    return told.get("action_mask")


def _legal_next(mask: Array, obs: Tree, told: Array | None, ended: Array) -> Array:
    """The legal actions [N, actions] of the next step: of an episode's first one all, where `info`
    says them."""
    if told is None:
        return mask
    told = told.astype(bool)
    return told if isinstance(obs, dict) and "action_mask" in obs else told | ended[:, None]


def _random_action(space: Any, key: Key, mask: Array) -> Array:
    """A random action of one environment, in units of the space; on the bounds of a Box, too."""
    kind = spaces.kind(space)
    if kind == "discrete":
        return random_discrete(key, (), space.n, mask).astype(space.dtype)
    if kind == "multi-discrete":
        keys = jax.random.split(key, len(space.nvec))
        masks = jnp.split(mask, np.cumsum(space.nvec)[:-1])
        several = zip(keys, space.nvec, masks, strict=True)
        return jnp.stack([random_discrete(k, (), int(n), m) for k, n, m in several])
    if kind == "multi-binary":
        drawn = jax.random.bernoulli(key, 0.5, space.shape) & mask.reshape(space.shape)
        return drawn.astype(space.dtype)
    drawn = jax.random.uniform(key, (math.prod(space.shape),), float, -1.2, 1.2)
    return spaces.stretch(space, drawn)
