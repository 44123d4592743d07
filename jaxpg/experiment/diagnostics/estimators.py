"""How good is a policy-gradient estimate, and how far does a policy move?

For every agent whose policy and critic are the network of `nets.networks.actor_critic`. All
functions are pure and can be vmapped over seeds, but for `probe`, a callback for `jaxpg.run`.

An estimator is a table of weights w [T, E]: the estimate from one episode is

    g = sum_t  grad log pi(a_t | s_t)  w_t,

in the actor's parameters. Estimators differ in w alone, so they are compared on the same episodes.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jaxpg.core import env as E
from jaxpg.core.config import label, require_integer, unknown
from jaxpg.core.types import Array, Key, Tree
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.heads import ActionHead
from jaxpg.ops import losses, normalize
from jaxpg.ops.normalize import masked_mean
from jaxpg.ops.returns import episode_return, episode_time, gae, n_step_return, reward_to_go

_CONFIG = ("head", "temperature", "net", "hidden", "activation", "kernel_init", "shared", "memory")


LEARNT = ("params", "actor", "critic", "obs_stats", "reward_scale")  # what is read of a state


LAMBDAS = (0.0, 0.5, 0.9, 0.95, 0.98, 1.0)


class Parts(NamedTuple):
    """An agent's policy and critic, wherever its state keeps them."""

    pi: ActionHead
    actor: Tree  # the policy's parameters; a torso that it shares with the critic is part of them
    policy: Callable  # (actor, obs [..., *obs]) -> the head's inputs [..., size]
    value: Callable | None  # obs -> [...], in units of the reward; None if none is learnt


def parts(cfg, env: E.Env, state: Tree) -> Parts:
    """Finds an agent's policy and critic in its state.

    Raises ValueError for a state that has neither `params`, nor `actor` and `critic`, for the
    network that `actor_critic(cfg, env)` makes, and for a memory; one of many seeds must be vmapped
    over.
    """
    fields = getattr(state, "_fields", ())
    split = {"actor", "critic"} <= {*fields}
    whole = isinstance(getattr(state, "params", None), Mapping)  # a search has a vector there
    if not (split or whole) or not all(hasattr(cfg, name) for name in _CONFIG):
        raise ValueError(
            f"{label(type(cfg))} has a state of {fields}: allowed is one with `params`, or with "
            "`actor` and `critic`, of the network that nets.networks.actor_critic makes"
        )
    if cfg.memory != "none":
        raise ValueError(
            f"{label(type(cfg))} memory={cfg.memory!r}: allowed is 'none', for diagnostics ask a "
            "policy for one observation at a time"
        )
    net, pi = actor_critic(cfg, env)
    actor, critic = (state.actor, state.critic) if split else (state.params, state.params)
    if not split:
        own = {k: v for k, v in actor["params"].items() if not k.startswith("critic")}
        actor = {**actor, "params": own}
    shapes = functools.partial(jax.tree.map, lambda x: x.shape)
    example = jax.eval_shape(
        functools.partial(net.init, method="policy"), jax.random.key(0), env.example_obs
    )
    if shapes(actor) != shapes(example):
        raise ValueError(
            f"{label(type(cfg))} has an actor of shapes {shapes(actor)}: allowed is the network of "
            f"actor_critic, {shapes(example)}; vmap over a state of many seeds"
        )
    whiten = functools.partial(normalize.whiten, getattr(state, "obs_stats", ()))
    scale = getattr(state, "reward_scale", ())
    unit = 1.0 if scale == () else normalize.std(scale.stats)  # what rewards were divided by
    return Parts(
        pi,
        actor,
        lambda actor, obs: net.apply(actor, whiten(obs), method="policy"),
        None if critic == () else lambda obs: unit * net.apply(critic, whiten(obs), method="value"),
    )


class Episodes(NamedTuple):
    """One whole episode in each of E environments, in T steps."""

    obs: Tree  # [T, E, *obs]
    draw: Array  # [T, E, ...] what the policy drew
    action: Array  # [T, E, *action] as the environment received it
    reward: Array  # [T, E]
    terminated: Array  # [T, E] bool
    truncated: Array  # [T, E] bool
    next_obs: Tree  # [T, E, *obs] the true successor
    mask: Array  # [T, E] bool: false after the episode's end


def collect(
    cfg, env: E.Env, state: Tree, key: Key, episodes: int = 128, num_steps: int | None = None
) -> Episodes:
    """One whole episode in each of `episodes` environments, under the sampled policy.

    num_steps: T, by default the environment's `max_steps_in_episode`; an episode that is longer
    counts as truncated there. Raises ValueError if there is no such limit and none is given.
    """
    num_steps = longest_episode(env) if num_steps is None else num_steps
    for name, value in {"episodes": episodes, "num_steps": num_steps}.items():
        require_integer(name, value, 1)
    return _collect(cfg, env, learnt_params(state), key, episodes, num_steps)


@functools.partial(jax.jit, static_argnames=("episodes", "num_steps"))
def _collect(cfg, env, state, key, episodes, num_steps) -> Episodes:
    pi, actor, policy, _ = parts(cfg, env, state)
    k_env, k_rollout = jax.random.split(key)

    def act(obs, carry, key):
        draw, _ = pi.sample(policy(actor, obs), key)
        return pi.action(draw), carry, draw

    fresh = E.reset(env, k_env, episodes)
    _, _, t, draw, _ = E.rollout(env, act, fresh, (), k_rollout, num_steps)
    ended = t.terminated | t.truncated
    first = jnp.cumsum(ended, 0, dtype=jnp.int32) - ended == 0
    return Episodes(t.obs, draw, t.action, t.reward, t.terminated, t.truncated, t.next_obs, first)


def longest_episode(env: E.Env) -> int:
    limit = getattr(env.params, "max_steps_in_episode", None)
    if limit is None or isinstance(limit, jax.core.Tracer):
        raise ValueError(
            f"num_steps=None: {env.name} has no max_steps_in_episode (outside of a "
            "transformation), allowed is the length of its longest episode"
        )
    return int(np.max(limit))


def gradient_estimators(
    cfg,
    env: E.Env,
    state: Tree,
    t: Episodes,
    *,
    gamma=None,
    value: Callable | None = None,
    n: Sequence[int] = (10,),
    lambdas: Sequence[float] = LAMBDAS,
    discount_states: bool = False,
) -> dict[str, Array]:
    """The weights [T, E] of each estimator, by name, for episodes t from `collect`.

    "total return", "reward-to-go" and the latter with a "mean baseline" (over the other episodes'
    steps, so that it is independent of the own action); and, where there is a critic, with a
    "value baseline", "10-step" and "GAE 0.95" advantages for every n and lambda asked for.

    gamma: by default the config's. value: obs [..., *obs] -> [...], by default the agent's critic;
    one that was fitted to these very episodes is no independent baseline. discount_states: the
    factor gamma^t (Sutton & Barto 2018, sec. 13.3), which the total return has in it. With it, or
    at gamma = 1, all but n-step and GAE expect the exact gradient; a time limit ends the return.

    Raises ValueError for an n below 1 or a lambda that is not in 0 .. 1.
    """
    for k in n:
        require_integer("n", k, 1)
    if not all(0 <= lam <= 1 for lam in lambdas):
        raise ValueError(f"lambdas={lambdas!r}: allowed are numbers >= 0 and <= 1")
    gamma = cfg.gamma if gamma is None else gamma
    value = value or parts(cfg, env, state).value
    names, values = ["total return", "reward-to-go", "reward-to-go, mean baseline"], None
    if value is not None:
        values = value(t.obs), value(t.next_obs)
        names += ["reward-to-go, value baseline", *(f"{k}-step" for k in n)]
        names += [f"GAE {lam:g}" for lam in lambdas]
    weights = _weights(t, values, gamma, jnp.array(lambdas), tuple(n), discount_states)
    return dict(zip(names, weights, strict=True))


@functools.partial(jax.jit, static_argnames=("n", "discount_states"))
def _weights(t, values, gamma, lambdas, n, discount_states) -> list[Array]:
    ends, mask = (t.terminated, t.truncated), t.mask
    ended = t.terminated | t.truncated
    to_go = reward_to_go(t.reward, *ends, gamma)
    steps = mask.sum(0, dtype=jnp.int32)
    sums = jnp.where(mask, to_go, 0).sum(0)
    others = (sums.sum() - sums) / jnp.maximum(steps.sum(dtype=jnp.int32) - steps, 1)
    weights = [to_go, to_go - others]
    if values is not None:
        now, ahead = values
        weights += [to_go - now]
        weights += [n_step_return(t.reward, ahead, *ends, gamma, k) - now for k in n]
        advantage = functools.partial(gae, t.reward, now, ahead, *ends, gamma)
        weights += [*jax.vmap(advantage)(lambdas.astype(now.dtype))]
    factor = gamma ** episode_time(ended) if discount_states else 1.0
    weights = [episode_return(t.reward, ended, gamma), *(w * factor for w in weights)]
    return [jnp.where(mask, w, 0) for w in weights]


class GradientStats(NamedTuple):
    """Of the estimate g from one episode, measured on E of them; all scalars."""

    variance: Array  # trace of its covariance: E ||g - E g||^2
    snr: Array  # ||E g||^2 / variance; that of a batch's mean is E times as much
    norm: Array  # of the mean over the batch, noise included
    cosine: Array  # of E g with the reference's: 1 if its direction is unbiased


def gradient_stats(
    cfg,
    env: E.Env,
    state: Tree,
    t: Episodes,
    weights: Mapping[str, Array],
    reference: str = "reward-to-go",
) -> dict[str, GradientStats]:
    """Variance and signal-to-noise ratio of the gradient estimate, for each table of weights.

    t: [T, E, ...] from `collect`. weights: name -> [T, E], zero where the mask is false.

    The mean over the batch is noisy: E ||mean||^2 = ||E g||^2 + variance / E. So ||E g||^2 is
    estimated by ||mean||^2 - variance / E, and the product with the reference's gradient less
    their covariance / E, which is unbiased. An snr can then be negative, if noise hides the
    signal, and the cosine NaN; neither says much unless E times the snr is well above 1.

    Raises ValueError for fewer than two episodes and an unknown reference.
    """
    if reference not in weights:
        raise unknown("reference", reference, weights)
    require_integer("episodes", t.reward.shape[1], 2)
    names = list(weights)  # jit would sort them
    stats = _gradient_stats(
        cfg, env, learnt_params(state), t, jnp.stack([*weights.values()]), names.index(reference)
    )
    return {name: GradientStats(*(x[i] for x in stats)) for i, name in enumerate(names)}


@jax.jit
def _gradient_stats(cfg, env, state, t, weights, reference) -> GradientStats:
    pi, actor, policy, _ = parts(cfg, env, state)
    flat, _ = ravel_pytree(actor)

    def welford(moments, episode):
        """One episode at a time: no gradient but the mean is kept. Welford (1962)."""
        mean, square, product = moments
        i, obs, draw, weights = episode
        g = episode_gradients(lambda a: pi.log_prob(policy(a, obs), draw), actor, weights)
        before = g - mean
        mean = mean + before / (i + 1)
        after = g - mean
        return (mean, square + (before * after).sum(-1), product + before @ after[reference]), None

    k, episodes = weights.shape[0], weights.shape[2]
    zeros = jnp.zeros(k, flat.dtype)
    own = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (t.obs, t.draw))
    each = (jnp.arange(episodes), *own, jnp.moveaxis(weights, 2, 0))
    moments = jnp.zeros((k, flat.size), flat.dtype), zeros, zeros
    (mean, square, product), _ = jax.lax.scan(welford, moments, each)

    variance, covariance = square / (episodes - 1), product / (episodes - 1)
    signal = jnp.square(mean).sum(-1) - variance / episodes
    common = mean @ mean[reference] - covariance / episodes
    found = (signal > 0) & (signal[reference] > 0)
    size = jnp.sqrt(jnp.where(found, signal * signal[reference], 1))
    return GradientStats(
        variance,
        signal / variance,
        jnp.linalg.norm(mean, axis=-1),
        jnp.where(found, common / size, jnp.nan),
    )


def episode_gradients(log_prob: Callable, params: Tree, weights: Array) -> Array:
    """sum_t w_t grad log pi(a_t | s_t) for every row of weights [K, T], flattened: [K, P].

    log_prob: params -> [T], of the actions that were taken.
    """
    out, pull = jax.vjp(log_prob, params)
    return jax.vmap(lambda w: ravel_pytree(pull(w)[0])[0])(weights.astype(out.dtype))


def fit_value(
    cfg,
    env: E.Env,
    t: Episodes,
    key: Key,
    *,
    gamma=None,
    updates: int = 1000,
    batch_size: int = 2048,
    learning_rate: float = 3e-3,
) -> Callable:
    """Regresses a critic with the config's network on the returns of episodes t from `collect`.

    Returns the function obs [..., *obs] -> [...]. Adam on `updates` batches of `batch_size` steps;
    inputs and targets are standardised. Its discount `gamma` is by default the config's.
    """
    require_integer("updates", updates, 1)
    require_integer("batch_size", batch_size, 1)
    gamma = cfg.gamma if gamma is None else gamma
    params, stats, mean, std = _fit(cfg, env, t, key, gamma, learning_rate, updates, batch_size)
    net, _ = actor_critic(cfg, env)

    def value(obs):
        return mean + std * net.apply(params, normalize.whiten(stats, obs), method="value")

    return value


@functools.partial(jax.jit, static_argnames=("updates", "batch_size"))
def _fit(cfg, env, t, key, gamma, learning_rate, updates, batch_size):
    net, _ = actor_critic(cfg, env)
    k_params, k_batch = jax.random.split(key)
    params = net.init(k_params, env.example_obs, method="value")
    target, mask = reward_to_go(t.reward, t.terminated, t.truncated, gamma), t.mask
    mean = masked_mean(target, mask)
    std = jnp.sqrt(masked_mean(jnp.square(target - mean), mask) + 1e-8)
    stats = normalize.update_stats(normalize.init_stats(env.example_obs), t.obs)
    data = normalize.whiten(stats, t.obs), (target - mean) / std
    data = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), data)
    inside, count = jnp.argsort(~mask.ravel()), mask.sum(dtype=jnp.int32)
    opt = optax.adam(optax.cosine_decay_schedule(learning_rate, updates))

    def error(params, obs, target):
        return losses.value(net.apply(params, obs, method="value"), target)

    def update(carry, key):
        params, opt_state = carry
        rows = inside[jax.random.randint(key, (batch_size,), 0, count)]
        grads = jax.grad(error)(params, *jax.tree.map(lambda x: x[rows], data))
        step, opt_state = opt.update(grads, opt_state)
        return (optax.apply_updates(params, step), opt_state), None

    carry = params, opt.init(params)
    (params, _), _ = jax.lax.scan(update, carry, jax.random.split(k_batch, updates))
    return params, stats, mean, std


def explained_variance(
    cfg, env: E.Env, state: Tree, t: Episodes, *, gamma=None, value: Callable | None = None
) -> Array:
    """1 - Var[G - V(s)] / Var[G] over the steps of episodes t from `collect`, G the reward-to-go.

    gamma, value: as for `gradient_estimators`. Raises ValueError if there is no critic.
    """
    value = value or parts(cfg, env, state).value
    if value is None:
        raise ValueError(f"value=None: {label(type(cfg))} learnt no critic, pass a function of obs")
    gamma = cfg.gamma if gamma is None else gamma
    target = reward_to_go(t.reward, t.terminated, t.truncated, gamma)
    return losses.explained_variance(value(t.obs), target, t.mask)


def learnt_params(state: Tree) -> Tree:
    """The state with only what `parts` reads: less to copy, and one program for all of them."""
    if not hasattr(state, "_fields"):
        return state  # `parts` has the words for it
    return state._replace(**{name: () for name in state._fields if name not in LEARNT})
