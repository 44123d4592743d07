"""Policy-gradient estimators, compared on the same episodes by their variance and bias.

An estimator is a table of weights w [T, E]: the estimate from one episode is

    g = sum_t  grad log pi(a_t | s_t)  w_t,

in the actor's parameters. Estimators differ in w alone. All functions are pure and can be vmapped
over seeds.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxpg.core import env as E
from jaxpg.core.checks import require_integer
from jaxpg.core.config import unknown
from jaxpg.core.types import Array, Tree
from jaxpg.experiment.diagnostics.episodes import Episodes
from jaxpg.experiment.diagnostics.learner import learnt_params, parts
from jaxpg.ops.returns import episode_return, episode_time, gae, n_step_return, reward_to_go

LAMBDAS = (0.0, 0.5, 0.9, 0.95, 0.98, 1.0)


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
    """Weights [T, E] of each gradient estimator, by name, for episodes t from `collect`.

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
    weights = _weight_tables(t, values, gamma, jnp.array(lambdas), tuple(n), discount_states)
    return dict(zip(names, weights, strict=True))


@functools.partial(jax.jit, static_argnames=("n", "discount_states"))
def _weight_tables(t, values, gamma, lambdas, n, discount_states) -> list[Array]:
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
    """Statistics of the gradient estimate g from one episode, measured on E of them; all
    scalars."""

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
        """Adds one episode, so that no gradient but the mean is kept. Welford (1962)."""
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
    """Gradient sum_t w_t grad log pi(a_t | s_t) for every row of weights [K, T], flattened: [K, P].

    log_prob: params -> [T], of the actions that were taken.
    """
    out, pull = jax.vjp(log_prob, params)
    return jax.vmap(lambda w: ravel_pytree(pull(w)[0])[0])(weights.astype(out.dtype))
