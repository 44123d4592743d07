"""The core of an environment on the host: JAX hands it the actions of all lanes in one ordered
callback, and gets what they led to.

The host has the state. JAX has a handle of it, which follows from the key, as do the seeds of the
episodes: the same key gives the same run.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.experimental import io_callback

from jaxpg.core.types import Array, Key, Tree
from jaxpg.envs.suites.host import instances
from jaxpg.envs.suites.host.instances import Batch, Kind
from jaxpg.envs.suites.host.spaces import as_acted, as_seen, convert, shapes


class Made(NamedTuple):
    """Spaces of one environment, gymnasium's, and how its suite makes a batch of it."""

    obs: Any
    actions: Any
    limit: int  # the usual steps of an episode
    make: Callable[[int, int], Batch]  # number of environments, limit of an episode


@struct.dataclass
class Params:
    max_steps_in_episode: int = struct.field(pytree_node=False, default=0)  # the host has to know


class State(NamedTuple):
    handle: Array  # [N] int32: of the instance, the same for all
    time: Array  # [N] int32: steps since its reset, the same for all


class Core:
    """Environments on the host, all lanes in one call: see `core.single.is_batched`."""

    batched = True

    def __init__(self, name: str, made: Made):
        """Raises ValueError for spaces that have no counterpart."""
        self.name, self.made = name, made
        self.obs = convert(f"{name} observation", made.obs, nested=True)
        self.actions = convert(f"{name} action", made.actions, nested=False)
        self.default_params = Params(made.limit)

    def reset(self, keys: Key, params: Params) -> tuple[Tree, State]:
        """First observations [N, ...] of episodes that the keys [N] decide."""
        num_envs = keys.shape[0]
        keys = _refuse_vmap(self.name)(keys)
        seeds = (jax.vmap(jax.random.bits)(keys) >> 1).astype(jnp.int32)
        kind = self._kind(num_envs, params)

        def begin(seeds):
            return self._seen(num_envs, instances.begin(kind, np.asarray(seeds).tolist()))

        obs = io_callback(begin, shapes(self.made.obs, num_envs), seeds, ordered=True)
        return obs, State(jnp.full(num_envs, seeds[0]), jnp.zeros(num_envs, jnp.int32))

    def step(self, keys: Key, state: State, action: Array, params: Params) -> tuple[Any, ...]:
        """One step of all lanes; the host draws what is random itself."""
        num_envs = action.shape[0]
        state, action = _refuse_vmap(self.name)((state, action))
        kind = self._kind(num_envs, params)

        def advance(at, action):
            handle, steps = np.asarray(at).tolist()
            action = np.asarray(action).astype(self.made.actions.dtype)
            action = as_acted(self.made.actions, action)
            obs, final, *rest = instances.advance(kind, handle, steps, action)
            reward, *ends = (np.asarray(x) for x in rest)
            seen = (self._seen(num_envs, x) for x in (obs, final))
            return *seen, reward.astype(number), np.stack(ends).astype(bool)

        obs, number = shapes(self.made.obs, num_envs), jnp.result_type(float)
        reward = jax.ShapeDtypeStruct((num_envs,), number)
        ends = jax.ShapeDtypeStruct((2, num_envs), jnp.bool_)
        at = jnp.stack([state.handle[0], state.time[0]])
        obs, final, reward, ends = io_callback(
            advance, (obs, obs, reward, ends), at, action, ordered=True
        )
        state = State(state.handle, state.time + 1)
        return obs, state, reward, ends[0], ends[1], {"final_observation": final}

    def release(self, state: State, params: Params) -> None:
        """Says that nobody will step these environments any more."""
        kind = self._kind(state.handle.shape[0], params)
        end = lambda handle: instances.end(kind, int(handle))  # noqa: E731
        io_callback(end, None, state.handle[0], ordered=True)

    def action_space(self, params: Any = None) -> Any:
        return self.actions

    def observation_space(self, params: Any = None) -> Any:
        return self.obs

    def _kind(self, num_envs: int, params: Params) -> Kind:
        return Kind(self.name, self.made.make, num_envs, int(params.max_steps_in_episode))

    def _seen(self, num_envs: int, obs: Tree) -> Tree:
        """Observations of the suite as jaxpg has them, in the dtypes that JAX was told."""
        obs, like = as_seen(self.made.obs, obs), shapes(self.made.obs, num_envs)
        return jax.tree.map(lambda s, x: np.asarray(x).astype(s.dtype), like, obs)


@functools.cache
def _refuse_vmap(name: str) -> Callable[[Tree], Tree]:
    """The identity, which `jax.vmap` cannot pass, in words of ours and before anything compiles."""

    @jax.custom_batching.custom_vmap
    def same(tree):
        return tree

    @same.def_vmap
    def refuse(size, batched, tree):
        raise ValueError(
            f"{name} is on the host, where jax.vmap cannot copy it: allowed are jaxpg.run with "
            "keys of several seeds, which it trains one after the other, a process for each, and "
            "agents that step one batch of environments (populations, such as cem, step many)"
        )

    return same
