"""Whole episodes under a policy that does not learn: their returns, or what it does in them."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core.parallel.seeds import over_seeds, seed_mesh, split_batched_args
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.core.train import without_weak_types
from jaxpg.core.types import Agent, Array, C, Key, Tree, jit


@jit(static_argnames=("agent", "episodes", "greedy", "max_steps"))
def evaluate(
    agent: Agent[C],
    cfg: C,
    env: E.Env,
    state: Tree,
    key: Key,
    episodes: int = 128,
    greedy: bool = True,
    max_steps: int = 100_000,
) -> Array:
    """Undiscounted returns [episodes] of one whole episode in each of `episodes` environments.

    greedy: the mode of the policy, else a sample. An episode that has not ended after `max_steps`
    counts as NaN. With `key` [seeds] and a state of as many seeds, returns [seeds, episodes].

    >>> env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    >>> state = jax.jit(jaxpg.q_learning.init)(cfg, env, jax.random.key(0))
    >>> key = jax.random.key(1)
    >>> jaxpg.evaluate(jaxpg.q_learning, cfg, env, state, key, episodes=4, max_steps=100).shape
    (4,)
    """
    if key.ndim:
        settings = {"episodes": episodes, "greedy": greedy, "max_steps": max_steps}
        one = functools.partial(evaluate, agent, **settings)
        shared, own = split_batched_args(cfg, env)
        return over_seeds(one, seed_mesh(len(key)))(shared, *own, state, key)
    policy, env_state, carry, key = _begin(agent, cfg, env, state, key, episodes, greedy)

    def running(loop):
        step, _, _, _, returns = loop
        return (step < max_steps) & jnp.isnan(returns).any()

    def advance(loop):
        step, env_state, carry, key, returns = loop
        key, k_policy, k_env = jax.random.split(key, 3)
        action, carry, _ = policy(env_state.obs, carry, k_policy)
        so_far = env_state.episode_return
        env_state, t = E.step(env, env_state, action, k_env, reset=False)
        ended = (t.terminated | t.truncated) & jnp.isnan(returns)
        return step + 1, env_state, carry, key, jnp.where(ended, so_far + t.reward, returns)

    loop = (0, env_state, carry, key, jnp.full(episodes, jnp.nan, float))
    return jax.lax.while_loop(running, advance, loop)[-1]


@jit(static_argnames=("agent", "episodes", "greedy", "num_steps"))
def actions(
    agent: Agent[C],
    cfg: C,
    env: E.Env,
    state: Tree,
    key: Key,
    episodes: int,
    greedy: bool,
    num_steps: int,
) -> tuple[Array, Array]:
    """The actions [T, episodes, *action] of the first T = `num_steps` steps of one episode in each
    of `episodes` environments, and a mask [T, episodes] bool, false after the episode's end.

    Summed over T the mask is the episodes' lengths. With `key` [seeds] and a state of as many
    seeds both have a leading [seeds].
    """
    if key.ndim:
        settings = {"episodes": episodes, "greedy": greedy, "num_steps": num_steps}
        one = functools.partial(actions, agent, **settings)
        shared, own = split_batched_args(cfg, env)
        return over_seeds(one, seed_mesh(len(key)))(shared, *own, state, key)
    policy, env_state, carry, key = _begin(agent, cfg, env, state, key, episodes, greedy)
    _, _, t, _, _ = E.rollout(env, policy, env_state, carry, key, num_steps)
    ended = t.terminated | t.truncated
    return t.action, jnp.cumsum(ended, 0, dtype=jnp.int32) - ended == 0


def _begin(agent, cfg, env, state, key, episodes, greedy) -> tuple[Callable, E.EnvState, Tree, Key]:
    """The policy as `rollout` calls it, fresh environments and carry, and a key to go on with."""
    use_fast_random()
    k_env, key = jax.random.split(key)

    def policy(obs, carry, key):
        action, carry = agent.act(cfg, env, state, obs, carry, key, greedy)
        return action, carry, ()

    env_state = without_weak_types(E.reset(env, k_env, episodes))
    # What the policy answers to () has the shapes of what it remembers.
    carry = E.zero_carry(jax.eval_shape(lambda: policy(env_state.obs, (), key)[1]))
    return policy, env_state, carry, key
