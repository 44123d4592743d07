"""Probes of a learner while it trains: divergence, entropy, size of updates, gradient variance."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxpg.core import env as E
from jaxpg.core.checks import require_integer, require_key
from jaxpg.core.parallel.seeds import over_seeds, seed_mesh
from jaxpg.core.run import Callback, Event
from jaxpg.core.train import initial_state
from jaxpg.core.types import Agent, Array, Key, Tree
from jaxpg.experiment.diagnostics.episodes import collect, max_episode_length
from jaxpg.experiment.diagnostics.gradients import gradient_estimators, gradient_stats
from jaxpg.experiment.diagnostics.learner import learnt_params, parts
from jaxpg.ops.normalize import masked_mean

_PROBE = 0xD1A6  # folded into the run's key: a probe shares no key with training


@jax.jit
def policy_kl(
    cfg, env: E.Env, old_state: Tree, new_state: Tree, obs: Tree, mask: Array | None = None
) -> Array:
    """Mean KL(old || new) of two states' policies over observations [..., *obs], in nats.

    Each sees the observations through its own running statistics, if it has any. Heads without a
    closed form estimate it (docs/policies.md), from a key that is always the same.
    """
    old, new = parts(cfg, env, old_state), parts(cfg, env, new_state)
    outs = old.policy(old.actor, obs), new.policy(new.actor, obs)
    kl = old.pi.kl(*outs, jax.random.key(0))
    return masked_mean(kl, mask)


@jax.jit
def policy_entropy(cfg, env: E.Env, state: Tree, obs: Tree, mask: Array | None = None) -> Array:
    """Mean entropy of the policy over observations [..., *obs], in nats; estimated as above."""
    pi, actor, policy, _ = parts(cfg, env, state)
    return masked_mean(pi.entropy(policy(actor, obs), jax.random.key(0)), mask)


class UpdateSize(NamedTuple):
    """Size of an update of the policy."""

    norm: Array  # Euclidean norm of the change of the actor's parameters
    relative: Array  # over the norm that they had


@jax.jit
def update_size(cfg, env: E.Env, old_state: Tree, new_state: Tree) -> UpdateSize:
    """Distance that the policy's parameters moved from one state to another."""
    old, new = (ravel_pytree(parts(cfg, env, s).actor)[0] for s in (old_state, new_state))
    norm = jnp.linalg.norm(new - old)
    return UpdateSize(norm, norm / jnp.linalg.norm(old))


def probe(
    agent: Agent,
    cfg,
    env: E.Env,
    key: Key,
    *,
    num_envs: int = 16,
    num_steps: int = 64,
    episodes: int = 0,
    every: int = 10,
) -> Callback:
    """Measures the policy of a run at the end of every chunk; a callback.

    Adds, each [] or [seeds], `diagnostics/kl`, from the policy at the end of the chunk before
    (which for the first chunk is the initial one), `diagnostics/update_norm`,
    `diagnostics/update_relative` and `diagnostics/entropy`, over num_envs * num_steps observations
    that the initial policy sees; they stay the same throughout. With episodes > 0 also
    `diagnostics/gradient_variance` and `diagnostics/gradient_snr`, over so many whole episodes
    after every `every`-th chunk: of the reward-to-go, less the critic where one is learnt.

    key: the run's, one or [seeds]. A run that goes on from a checkpoint is measured from its
    second chunk on. Raises ValueError for an agent that `parts` cannot read.
    """
    for name, value in {"num_envs": num_envs, "num_steps": num_steps, "every": every}.items():
        require_integer(name, value, 1)
    require_key(key, seeds=True)
    require_integer("episodes", episodes, 0)
    if episodes == 1:
        raise ValueError("episodes=1: allowed is 0, or an integer >= 2: one has no variance")
    jax.eval_shape(lambda k: parts(cfg, env, agent.init(cfg, env, k)).actor, key.reshape(-1)[0])
    seeds, longest = len(key) if key.ndim else 0, max_episode_length(env) if episodes else 0
    old, obs, looks = None, None, 0

    def look(event: Event) -> dict[str, Array]:
        nonlocal old, obs, looks
        measured, new = {}, learnt_params(event.state)
        if obs is None:
            initial, obs = _initial_policy(cfg, env, key, agent, seeds, num_envs, num_steps)
            begun = event.iteration - max(m.shape[-1] for m in event.metrics.values())
            old = None if begun else initial
        if old is not None:
            measured = _measure_policy(cfg, env, old, new, obs, seeds)
        old, looks = jax.tree.map(jnp.copy, new), looks + 1  # the next chunk takes the state
        if episodes and looks % every == 0:
            at = np.uint32(event.iteration)
            measured |= _measure_gradient(cfg, env, new, key, at, seeds, episodes, longest)
        return measured

    return Callback(on_chunk=look)


def _over_seeds(f: Callable, seeds: int, env: E.Env) -> Callable:
    """Vectorises f(*shared, *own) over seeds, as g(shared, *own); 0 seeds is one without an
    axis."""
    return over_seeds(f, seed_mesh(seeds, env)) if seeds else lambda shared, *own: f(*shared, *own)


@functools.partial(jax.jit, static_argnames=("agent", "seeds", "num_envs", "num_steps"))
def _initial_policy(cfg, env, key, agent, seeds, num_envs, num_steps):
    """Returns what is learnt at first, and observations [B, *obs] of that policy; of every seed."""

    def one(cfg, env, key):
        state = initial_state(agent, cfg, env, key)
        k_env, k_rollout = jax.random.split(jax.random.fold_in(key, _PROBE))

        def act(obs, carry, key):
            return *agent.act(cfg, env, state, obs, carry, key, False), ()

        fresh = E.reset(env, k_env, num_envs)
        _, _, t, _, _ = E.rollout(env, act, fresh, (), k_rollout, num_steps)
        return learnt_params(state), jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), t.obs)

    return _over_seeds(one, seeds, env)((cfg, env), key)


@functools.partial(jax.jit, static_argnames="seeds")
def _measure_policy(cfg, env, old, new, obs, seeds):
    def one(cfg, env, old, new, obs):
        norm, relative = update_size(cfg, env, old, new)
        return {
            "diagnostics/kl": policy_kl(cfg, env, old, new, obs),
            "diagnostics/entropy": policy_entropy(cfg, env, new, obs),
            "diagnostics/update_norm": norm,
            "diagnostics/update_relative": relative,
        }

    return _over_seeds(one, seeds, env)((cfg, env), old, new, obs)


@functools.partial(jax.jit, static_argnames=("seeds", "episodes", "num_steps"))
def _measure_gradient(cfg, env, state, key, iteration, seeds, episodes, num_steps):
    def one(cfg, env, iteration, state, key):
        key = jax.random.fold_in(jax.random.fold_in(key, _PROBE), iteration)
        t = collect(cfg, env, state, key, episodes, num_steps)
        weights = gradient_estimators(cfg, env, state, t, n=(), lambdas=())
        name = "reward-to-go, value baseline"
        name = name if name in weights else "reward-to-go"
        stats = gradient_stats(cfg, env, state, t, {name: weights[name]}, name)[name]
        return {
            "diagnostics/gradient_variance": stats.variance,
            "diagnostics/gradient_snr": stats.snr,
        }

    return _over_seeds(one, seeds, env)((cfg, env, iteration), state, key)
