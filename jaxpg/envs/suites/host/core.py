"""The core of an environment on the host: JAX hands it the actions of all lanes in one ordered
callback, and gets what they led to.

The host has the state, JAX a handle of it. The seeds of the episodes follow from the key: the same
key gives the same run.
"""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.experimental import io_callback

from jaxpg.core.checks import require_integer
from jaxpg.core.single import HostError
from jaxpg.core.types import Array, Key, Tree
from jaxpg.envs.suites.host import instances
from jaxpg.envs.suites.host.instances import At, Batch, Kind
from jaxpg.envs.suites.host.spaces import as_acted, as_seen, convert, shapes

MOST_STEPS = 2**31 - 1  # that an int32 counts


class Made(NamedTuple):
    """Spaces of one environment, gymnasium's, and how its suite makes a batch of it."""

    obs: Any
    actions: Any
    limit: int  # the usual steps of an episode
    make: Callable[[int, int], Batch]  # number of environments, limit of an episode


@struct.dataclass
class Params:
    max_steps_in_episode: int = struct.field(pytree_node=False, default=0)  # the host has to know


@struct.dataclass
class State:
    handle: Array  # [N] int32: of the instance, the same for all
    seed: Array  # [N] int32: of each environment
    time: Array  # [N] int32: steps since its reset, the same for all
    num_envs: int = struct.field(pytree_node=False, default=0)  # N: they are stepped together


def _is_not_finite(x: np.ndarray) -> np.ndarray:
    return ~np.isfinite(x)


class Core:
    """Environments on the host, all lanes in one call: see `core.single.is_batched`."""

    batched = True
    most_seeds = instances.MOST - 4  # of a process: evaluations need some too

    def __init__(self, name: str, made: Made):
        """Raises ValueError for spaces that have no counterpart."""
        self.name, self.made = name, made
        self.obs = convert(f"{name} observation", made.obs, nested=True)
        self.actions = convert(f"{name} action", made.actions, nested=False)
        self.default_params = Params(made.limit)
        self.error: HostError | None = None  # that the host raised last

    def reset(self, keys: Key, params: Params) -> tuple[Tree, State]:
        """First observations [N, ...] of episodes that the keys [N] decide."""
        num_envs = keys.shape[0]
        keys = _refuse_vmap(self.name)(keys)
        seeds = (jax.vmap(jax.random.bits)(keys) >> 1).astype(jnp.int32)
        kind = self._kind(num_envs, params)

        def begin(seeds):
            with self._judged("reset"):
                handle, obs = instances.begin(kind, np.asarray(seeds).tolist())
                return np.int32(handle), self._seen(num_envs, obs)

        like = jax.ShapeDtypeStruct((), jnp.int32), shapes(self.made.obs, num_envs)
        handle, obs = io_callback(begin, like, seeds, ordered=True)
        time = jnp.zeros(num_envs, jnp.int32)
        return obs, State(jnp.full(num_envs, handle), seeds, time, num_envs)

    def step(self, keys: Key, state: State, action: Array, params: Params) -> tuple[Any, ...]:
        """One step of all lanes; the host draws what is random itself.

        Raises ValueError for other lanes than those that were reset together.
        """
        num_envs = action.shape[0]
        if num_envs != state.num_envs:
            raise ValueError(
                f"{self.name}: {num_envs} environments are stepped, of {state.num_envs} that were "
                "reset together: allowed are all, for they are one call of the host (the workers "
                "of a3c step some each)"
            )
        state, action = _refuse_vmap(self.name)((state, action))
        kind = self._kind(num_envs, params)

        def advance(at, action):
            with self._judged("step"):
                action = np.asarray(action).astype(self.made.actions.dtype)
                action = as_acted(self.made.actions, action)
                at = At(*np.asarray(at).tolist())
                obs, final, *rest = instances.advance(kind, at, action)
                reward, *ends = (np.asarray(x) for x in rest)
                seen = (self._seen(num_envs, x) for x in (obs, final))
                ends = np.stack(ends).astype(bool)
                return *seen, self._finite("reward", reward.astype(number)), ends

        obs, number = shapes(self.made.obs, num_envs), jnp.result_type(float)
        reward = jax.ShapeDtypeStruct((num_envs,), number)
        ends = jax.ShapeDtypeStruct((2, num_envs), jnp.bool_)
        obs, final, reward, ends = io_callback(
            advance, (obs, obs, reward, ends), _at(state), action, ordered=True
        )
        state = dataclasses.replace(state, time=state.time + 1)
        return obs, state, reward, ends[0], ends[1], {"final_observation": final}

    def release(self, state: State, params: Params) -> None:
        """Says that nobody will step these environments any more."""
        kind = self._kind(state.num_envs, params)
        end = lambda at: instances.end(kind, At(*np.asarray(at).tolist()))  # noqa: E731
        io_callback(end, None, _at(state), ordered=True)

    def take_error(self) -> HostError | None:
        """The error that the host raised last, once: JAX makes another one of it."""
        error, self.error = self.error, None
        return error

    def action_space(self, params: Any = None) -> Any:
        return self.actions

    def observation_space(self, params: Any = None) -> Any:
        return self.obs

    def _kind(self, num_envs: int, params: Params) -> Kind:
        limit = params.max_steps_in_episode
        require_integer(f"{self.name} max_steps_in_episode", limit, 1, MOST_STEPS)
        return Kind(self.name, self.made.make, num_envs, int(limit))

    @contextlib.contextmanager
    def _judged(self, what: str) -> Iterator[None]:
        """Context in which an error is a HostError, in one sentence, and is kept."""
        try:
            yield
        except HostError as error:
            self.error = error
            raise
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            self.error = HostError(f"{self.name}: its {what} failed on the host: {said}")
            raise self.error from error

    def _seen(self, num_envs: int, obs: Tree) -> Tree:
        """Observations of the suite as jaxpg has them, in the dtypes that JAX was told.

        Raises HostError for another shape, and for what is not a number.
        """

        def see(like, x):
            x = np.asarray(x).astype(like.dtype)
            if x.shape != like.shape:
                raise HostError(
                    f"{self.name}: observation of shape {x.shape[1:]}: allowed is "
                    f"{like.shape[1:]}, as its space says"
                )
            return self._finite("observation", x, np.isnan)

        obs, like = as_seen(self.made.obs, obs), shapes(self.made.obs, num_envs)
        return jax.tree.map(see, like, obs)

    def _finite(self, what: str, x: np.ndarray, bad: Callable = _is_not_finite) -> np.ndarray:
        """Raises HostError for numbers [N, ...] that no agent can learn from."""
        if np.issubdtype(x.dtype, np.floating) and bad(x).any():
            lane, *_ = np.argwhere(bad(x))[0]
            raise HostError(
                f"{self.name}: {what} of environment {lane} is {x[bad(x)][0]}: allowed are finite "
                "numbers (gymnasium makes NaN of None)"
            )
        return x


def _at(state: State) -> Array:
    return jnp.stack([state.handle[0], state.seed[0], state.time[0]])


def _is_said(record: logging.LogRecord) -> bool:
    """False for errors of ours, which JAX would log with its own frames beside raising them."""
    return not (record.exc_info and isinstance(record.exc_info[1], HostError))


logging.getLogger("jax._src.callback").addFilter(_is_said)


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
