"""One episode of a policy, step by step, with the environment's states."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import env as E
from jaxpg.core.episodes import begin_episodes, play_until_ended, policy_of
from jaxpg.core.observations import Masked
from jaxpg.core.train import without_weak_types
from jaxpg.core.types import Agent, Key, Tree


class Episode(NamedTuple):
    """Episode of T steps, on the host. Time T is its end, at which there is no action."""

    env: E.Env
    states: Tree  # [T + 1, ...] the environment's own, the true last one too; () if not recorded
    obs: Tree  # [T + 1, *obs] as the agent sees them, masks left out
    actions: np.ndarray  # [T, *action] in the units of the space
    rewards: np.ndarray  # [T]
    ending: str  # what the last picture says

    def at(self, t: int) -> Tree:
        """State of the environment at time t."""
        return jax.tree.map(lambda x: x[t], self.states)

    def action(self, t: int) -> np.ndarray | None:
        """Action that is taken at time t; None at the end."""
        return self.actions[t] if t < len(self.actions) else None


def play_episode(
    agent: Agent, cfg, env: E.Env, state: Tree, key: Key, *,
    greedy: bool = True, max_steps: int = 1000, states: bool = True,
) -> Episode:  # fmt: skip
    """Plays one episode. states: whether to record the environment's own states, which takes
    gymnax's `step_env`."""
    first, steps, length, terminated = jax.device_get(
        _record_steps(
            agent, cfg, env, state, key, greedy=greedy, max_steps=max_steps, states=states
        )
    )
    obs, inner = jax.tree.map(
        lambda x, rest: np.concatenate([x[None], rest[:length]]), first, steps[:2]
    )
    action, reward, ended = (x[:length] for x in steps[2:])
    ending = "terminated" if terminated else "time limit" if ended[-1] else "not ended"
    return Episode(env, inner, obs, action, reward, ending)


@functools.partial(jax.jit, static_argnames=("agent", "greedy", "max_steps", "states"))
def _record_steps(agent, cfg, env, state, key, *, greedy, max_steps, states):
    """Returns the first observation and state; then what follows each step, [max_steps, ...], of
    which the first `length` are filled; `length`; whether the episode terminated."""
    policy = policy_of(agent, cfg, env, state, greedy)
    begin, carry, key = begin_episodes(env, policy, key, 1)

    def seen(obs):
        return jax.tree.map(lambda x: x[0], obs.obs if isinstance(obs, Masked) else obs)

    from jaxpg.envs.wrappers.layer import plain_state  # gymnax takes a second

    first = plain_state(env.core, jax.tree.map(lambda x: x[0], begin.inner))

    def reached(env_state, action, key):
        """Returns the state that a step leads to: `step` itself gives the one after the reset."""
        k_step, _ = jax.random.split(jax.random.split(key, 1)[0])  # as `step` splits it
        before = jax.tree.map(lambda x: x[0], (env_state.inner, action))
        core = env.core if hasattr(env.core, "step_env") else core_of(env)
        inner = plain_state(env.core, core.step_env(k_step, *before, env.params)[1])
        return jax.tree.map(lambda x, f: jnp.asarray(x, f.dtype).reshape(f.shape), inner, first)

    def one(env_state, carry, key):
        k_policy, k_env = jax.random.split(key)
        action, carry, _ = policy(env_state.obs, carry, k_policy)
        after, t = E.step(env, env_state, action, k_env)
        inner = reached(env_state, action, k_env) if states else ()
        ended = (t.terminated | t.truncated)[0]
        step = seen(t.next_obs), inner, action[0], t.reward[0], ended
        return (without_weak_types(after), carry), step, t.terminated[0]

    like = jax.eval_shape(lambda: one(begin, carry, key)[1])
    buffers = jax.tree.map(lambda x: jnp.zeros((max_steps, *x.shape), x.dtype), like)

    def advance(step, alive, loop):
        (env_state, carry), key, buffers, _, _ = loop
        key, k_step = jax.random.split(key)
        now, new, terminated = one(env_state, carry, k_step)
        buffers = jax.tree.map(lambda all_, x: all_.at[step].set(x), buffers, new)
        return (now, key, buffers, step + 1, terminated), new[-1]

    loop = (begin, carry), key, buffers, jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    loop, _ = play_until_ended(advance, loop, (), max_steps)
    return (seen(begin.obs), first if states else ()), *loop[2:]


def core_of(env: E.Env):
    """Unwraps the environment's code from wrappers, and from what hides a part of its
    observations."""
    from jaxpg.envs.wrappers.layer import innermost

    core = innermost(env.core)
    while not hasattr(core, "step_env") and hasattr(core, "core"):
        core = innermost(core.core)
    return core


def has_states(env: E.Env) -> bool:
    """True if the states of an episode can be recorded, the last one too: not where a wrapper is
    around what resets itself."""
    from jaxpg.envs.wrappers.layer import is_wrapped

    return hasattr(env.core, "step_env") or not is_wrapped(env.core)
