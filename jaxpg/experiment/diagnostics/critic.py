"""Critics: how much of the returns one explains, and one fitted to given episodes."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core.checks import require_integer, require_key
from jaxpg.core.config import label
from jaxpg.core.types import Array, Key, Tree
from jaxpg.experiment.diagnostics.episodes import Episodes
from jaxpg.experiment.diagnostics.learner import parts
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.ops import losses, normalize
from jaxpg.ops.returns import reward_to_go


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
    """Fits a critic with the config's network to the returns of episodes t from `collect`.

    Returns the function obs [..., *obs] -> [...]. Adam on `updates` batches of `batch_size` steps;
    inputs and targets are standardised. Its discount `gamma` is by default the config's.
    """
    require_key(key)
    require_integer("updates", updates, 1)
    require_integer("batch_size", batch_size, 1)
    gamma = cfg.gamma if gamma is None else gamma
    params, stats, mean, std = _fit_network(
        cfg, env, t, key, gamma, learning_rate, updates, batch_size
    )
    net, _ = actor_critic(cfg, env)

    def value(obs):
        return mean + std * net.apply(params, normalize.whiten(stats, obs), method="value")

    return value


@functools.partial(jax.jit, static_argnames=("updates", "batch_size"))
def _fit_network(cfg, env, t, key, gamma, learning_rate, updates, batch_size):
    net, _ = actor_critic(cfg, env)
    k_params, k_batch = jax.random.split(key)
    params = net.init(k_params, env.example_obs, method="value")
    target, mask = reward_to_go(t.reward, t.terminated, t.truncated, gamma), t.mask
    mean, var, unit, varies = normalize.moments(target, mask)
    mean, std = unit * mean, unit * jnp.sqrt(jnp.where(varies, var, 1))
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
    """Explained variance 1 - Var[G - V(s)] / Var[G] over the steps of episodes t from `collect`, G
    the reward-to-go.

    gamma, value: as for `gradient_estimators`. Raises ValueError if there is no critic.
    """
    value = value or parts(cfg, env, state).value
    if value is None:
        raise ValueError(f"value=None: {label(type(cfg))} learnt no critic, pass a function of obs")
    gamma = cfg.gamma if gamma is None else gamma
    target = reward_to_go(t.reward, t.terminated, t.truncated, gamma)
    return losses.explained_variance(value(t.obs), target, t.mask)
