"""Backward curriculum: a policy learns to do as well as one episode, the demonstration, from starts
along it, which move from its end to its beginning. Salimans & Chen (2018), arXiv:1812.03381.

Whatever learns, learns in an environment whose episodes begin at one of the steps

    frontier, .., frontier + window - 1      (of which those below 0 and at its end are left out),

each as likely; at step 0 with a reset of the environment's own. An episode matches the
demonstration if it returns at least what that returned from there. When enough episodes have ended
and a share `success_threshold` of them matched, the frontier moves back by half a window.

Deviations: if none of them matched it moves forward again, each time in a row twice as far, for the
demonstration may be a new one;
a policy with a memory begins without what the demonstration's first part would have left there.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxpg.core import env as E
from jaxpg.core.env import Env
from jaxpg.core.gymnax_import import has_own_step
from jaxpg.core.single import call_reset, call_step, name_of
from jaxpg.core.types import Array, EnvState, Key, Metrics, Transition, Tree

MATCHED = "matched_demonstration"  # signal: 1 in the last step of an episode that did
UNMATCHED = 1e30  # a return that no episode has: where there is no demonstration, none match it


class Demonstration(NamedTuple):
    """An episode of L steps at most, its observations and states as the core gives them."""

    is_met = True  # and not learnt
    obs: Tree  # [L, *obs] before each action
    state: Tree  # [L, ...]
    to_go: Array  # [L] float: undiscounted return from there to its end; without one, UNMATCHED
    length: Array  # [] int32; 0: there is none


class Curriculum(NamedTuple):
    """Progress of a policy along the demonstration, from its end."""

    distance: Array  # [] int32: steps between the frontier and the end
    matched: Array  # [] float: episodes that did, since the frontier moved or should have
    ended: Array  # [] float: all of them
    retreat: Array  # [] int32: steps that the frontier moves forward if none matches


@struct.dataclass
class Params:
    """Parameters of `Along`: the environment's, the demonstration, and the chances of starts."""

    inner: Any
    demonstration: Demonstration
    chances: Array  # [L] float

    @property
    def max_steps_in_episode(self):
        return self.inner.max_steps_in_episode


@dataclasses.dataclass(frozen=True)
class Along:
    """Core of an environment whose episodes begin along a demonstration."""

    core: Any

    @property
    def name(self) -> str:
        return name_of(self.core)

    @property
    def signals(self) -> tuple[str, ...]:
        return (*getattr(self.core, "signals", ()), MATCHED)

    @property
    def default_params(self) -> Params:
        inner = self.core.default_params
        return Params(inner, no_demonstration(self.core, inner), jnp.ones(1))

    def reset(self, key: Key, params: Params):
        k_start, k_reset = jax.random.split(key)
        shown = params.demonstration
        start = jax.random.categorical(k_start, jnp.log(params.chances))
        first = call_reset(self.core, k_reset, params.inner)
        there = jax.tree.map(lambda x: x[start], (shown.obs, shown.state))
        obs, inner = jax.tree.map(lambda x, y: jnp.where(start == 0, x, y), first, there)
        return obs, (inner, shown.to_go[start], jnp.zeros((), float))

    def step(self, key: Key, state: tuple, action: Array, params: Params):
        k_step, k_reset = jax.random.split(key)
        inner, wanted, total = state
        obs, inner, reward, terminated, truncated, info = call_step(
            self.core, k_step, inner, action, params.inner
        )
        total, ended = total + reward, terminated | truncated
        info = {**info, MATCHED: (ended & is_as_good(total, wanted)).astype(float)}
        fresh = self.reset(k_reset, params)
        obs, state = jax.tree.map(
            lambda x, y: jnp.where(ended, x, y), fresh, (obs, (inner, wanted, total))
        )
        return obs, state, reward, terminated, truncated, info

    def action_space(self, params: Params):
        return self.core.action_space(params.inner)

    def observation_space(self, params: Params):
        return self.core.observation_space(params.inner)


def no_demonstration(core: Any, params: Any) -> Demonstration:
    """An empty demonstration: a single step, whose return no episode matches."""
    first = call_reset(core, jax.random.key(0), params)
    obs, state = jax.tree.map(lambda x: jnp.asarray(x)[None], first)
    return Demonstration(obs, state, jnp.full(1, UNMATCHED, float), jnp.zeros((), jnp.int32))


def is_as_good(total: Array, wanted: Array) -> Array:
    """True for returns that are at least what is wanted, but for the rounding of their sums."""
    return total >= wanted - 1e-4 * (1 + jnp.abs(wanted))


def step_by_chance(
    env: Env, state: EnvState, action: Array, chance: Array
) -> tuple[EnvState, Transition]:
    """`step_before_reset` in which the i-th step of every episode draws from the same key.

    chance: [] uint32, the seed of these keys.
    """
    keys = _step_keys(chance, state.episode_length)

    def one(state: EnvState, action: Array, key: Key):
        state, action = jax.tree.map(lambda x: x[None], (state, action))
        return jax.tree.map(lambda x: x[0], E.step_before_reset(env, state, action, key))

    return jax.vmap(one)(state, action, keys)


def record(env: Env, actions: Array, length: Array, chance: Array) -> Demonstration:
    """Plays actions [L, *action], in the units of the space, until the episode ends: from the reset
    by the key of that seed, and by the steps of `step_by_chance`.

    length: [] int32 of those actions that count.
    """

    def move(loop: tuple[Tree, Tree, Array], x: tuple[Array, Array, Key]):
        obs, state, going = loop
        action, i, key = x
        going &= i < length
        # What `core.env` makes of the key of one environment.
        key = jax.random.split(key, 1)[0]
        key = key if has_own_step(env.core) else jax.random.split(key)[0]
        given = call_step(env.core, key, state, action, env.params)
        _, new_state, reward, terminated, truncated, info = given
        reward = jnp.where(going, reward, 0).astype(float)
        before = obs, state, reward, going
        going &= jnp.logical_not(terminated | truncated)  # Python's bools have no `~`
        return (info["final_observation"], new_state, going), before

    steps = jnp.arange(len(actions), dtype=jnp.int32)
    k_reset = jax.random.split(key_of(chance), 1)[0]
    begin = *call_reset(env.core, k_reset, env.params), jnp.ones((), bool)
    given = actions, steps, _step_keys(chance, steps)
    _, (obs, state, reward, taken) = jax.lax.scan(move, begin, given)
    to_go = jnp.where(length > 0, jnp.cumsum(reward[::-1])[::-1], UNMATCHED)
    return Demonstration(obs, state, to_go, taken.sum(dtype=jnp.int32))


def key_of(chance: Array) -> Key:
    """Key of a seed, of which many at once draw what each does alone; JAX's other kinds do not."""
    return jax.random.key(chance, impl="threefry2x32")


def _step_keys(chance: Array, step: Array) -> Key:
    """Keys [N] of steps [N] int32 of any episode, 0 its first."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key_of(chance), step + 1)


def init(window: int) -> Curriculum:
    """A curriculum that begins with the last `window` steps."""
    distance, retreat = (jnp.full((), n, jnp.int32) for n in (window, _move_of(window)))
    return Curriculum(distance, jnp.zeros((), float), jnp.zeros((), float), retreat)


def _move_of(window: int) -> int:
    """Steps that the frontier moves back: half a window."""
    return max(window // 2, 1)


def along(env: Env, shown: Demonstration, state: Curriculum, window: int) -> Env:
    """The environment with starts along a demonstration; without one, as it is."""
    step = jnp.arange(len(shown.to_go), dtype=jnp.int32)
    frontier = frontier_of(shown, state, window)
    chances = (step >= frontier) & (step < frontier + window) & (step < shown.length)
    chances = jnp.where(chances.any(), chances, step == 0).astype(float)
    return Env(Params(env.params, shown, chances), Along(env.core))


def frontier_of(shown: Demonstration, state: Curriculum, window: int) -> Array:
    """The first step [] int32 that episodes begin at: below 0 where some are left out, and at its
    least, 1 - window, where all begin at step 0."""
    return jnp.maximum(shown.length - state.distance, 1 - window)


def update(
    cfg: Any, shown: Demonstration, state: Curriculum, metrics: Metrics
) -> tuple[Curriculum, Metrics]:
    """The curriculum after a rollout, by the metrics of its episodes; and metrics of its own.

    Fields: `start_window, success_threshold, num_envs`.
    """
    window, count = cfg.start_window, metrics["episode/count"].astype(float)
    share = jnp.where(count > 0, metrics[f"episode/{MATCHED}"], 0)
    matched, ended = state.matched + share * count, state.ended + count
    enough = (ended >= cfg.num_envs) & (shown.length > 0)
    move, none = _move_of(window), matched == 0
    step = jnp.where(matched >= cfg.success_threshold * ended, move, 0)
    step = jnp.where(none, -state.retreat, step)
    most = jnp.maximum(shown.length, 1) + window - 1
    distance = jnp.clip(state.distance + jnp.where(enough, step, 0), window, most)
    retreat = jnp.where(none, jnp.minimum(2 * state.retreat, most), move)
    retreat = jnp.where(enough, retreat, state.retreat).astype(jnp.int32)
    again = lambda x: jnp.where(enough, 0, x)  # noqa: E731
    new = Curriculum(distance.astype(jnp.int32), again(matched), again(ended), retreat)
    return new, {
        "backward/matched": metrics[f"episode/{MATCHED}"],
        "backward/start": jnp.maximum(frontier_of(shown, new, window), 0),
    }
