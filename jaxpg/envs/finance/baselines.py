"""Optima of liquidation in closed form, Almgren & Chriss (2000), and policies that follow them.

A schedule is what is held, x [..., N + 1, M] shares of each asset: x_0 = X first, x_N = 0 last, and
trade k sells n_k = x_{k-1} - x_k. Functions take the environment and are pure in its parameters:
`vmap` them over `env.params`, save `num_trades`, which fixes shapes.

The best schedule (eq. 17), with t_j = j tau and eta~ = eta - gamma tau / 2, is

    x_j = X sinh(kappa (T - t_j)) / sinh(kappa T),
    2 (cosh(kappa tau) - 1) / tau^2 = lambda sigma^2 / eta~

As agents `twap`, `vwap` and `almgren_chriss` have nothing to learn: their state is ().

    returns = jaxpg.evaluate(twap, twap.Config(), env, (), key)
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxpg.core.config import config, number
from jaxpg.core.env import Env
from jaxpg.core.types import Agent, Array
from jaxpg.envs.finance import almgren_chriss as ac

FASTEST, SLOWEST = 1e4, 1e-12  # kappa in units of 1 / tau, in float32


def kappa(env: Env) -> Array:
    """The urgency [M], per day, of the best schedule.

    Where the permanent impact is the larger one, eta <= gamma tau / 2, splitting costs more than it
    saves: the urgency is so large that everything is sold at once.
    """
    p, each = env.params, env.core.each
    tau = p.horizon / p.num_trades
    eta = each(p, "temporary_impact") - each(p, "permanent_impact") * tau / 2
    ratio = p.risk_aversion * jnp.square(each(p, "volatility")) / jnp.where(eta > 0, eta, 1)
    # cosh z - 1 = 2 sinh(z / 2)^2, without the difference of two numbers close to 1.
    z = jnp.where(eta > 0, 2 * jnp.arcsinh(jnp.sqrt(ratio) * tau / 2), FASTEST)
    return jnp.clip(z, SLOWEST, FASTEST) / tau


def half_life(env: Env) -> Array:
    """Days [M] in which the best schedule sells about 1 - 1/e of a position that has no deadline,
    1 / kappa (sec. 2.3 of the paper)."""
    return 1 / kappa(env)


def trajectory(env: Env) -> Array:
    """The best schedule [N + 1, M].

    Raises ValueError for what it does not hold for: use `optimal`.
    """
    _plain(env)
    p, n = env.params, _trades(env)
    left = p.horizon * (1 - jnp.arange(n + 1) / n)[:, None]
    return env.core.each(p, "shares") * _decay(kappa(env), left, p.horizon)


def equal_slices(env: Env) -> Array:
    """The schedule [N + 1, M] that sells as much in each trade (TWAP)."""
    left = 1 - jnp.arange(_trades(env) + 1) / _trades(env)
    return left[:, None] * env.core.each(env.params, "shares")


def with_volume(env: Env) -> Array:
    """The schedule [N + 1, M] that sells in proportion to the market's volume (VWAP)."""
    volumes = jax.vmap(lambda k: ac.volume(env.params, k))(jnp.arange(_trades(env)))
    left = jnp.concatenate([jnp.ones(1), 1 - jnp.cumsum(volumes / volumes.sum())])
    return left.at[-1].set(0)[:, None] * env.core.each(env.params, "shares")


def at_once(env: Env) -> Array:
    """The schedule [N + 1, M] that sells all in the first trade."""
    first = (jnp.arange(_trades(env) + 1) == 0)[:, None]
    return first * env.core.each(env.params, "shares")


def cost(env: Env, x: Array) -> Array:
    """The expected implementation shortfall E [...] of a schedule, in dollars (eqs. 3 to 6)."""
    p, n = env.params, x[..., :-1, :] - x[..., 1:, :]
    trades = n.shape[-2]
    per_share = jax.vmap(
        lambda n, k: env.core.impact(p, n / (p.horizon / trades), k), (-2, 0), -2
    )(n, jnp.arange(trades))  # fmt: skip
    lasting = env.core.each(p, "permanent_impact") * x[..., 1:, :]
    return (n * (per_share + lasting)).sum((-2, -1))


def variance(env: Env, x: Array) -> Array:
    """The variance V [...] of the shortfall of a schedule, in dollars squared."""
    p, sigma = env.params, env.core.each(env.params, "volatility")
    tau = p.horizon / (x.shape[-2] - 1)
    return tau * ac.variance(sigma * x[..., 1:, :], p.correlation).sum(-1)


def utility(env: Env, x: Array) -> Array:
    """E + lambda V [...] of a schedule, in dollars: to be small, as the paper has it."""
    return cost(env, x) + env.params.risk_aversion * variance(env, x)


def frontier(env: Env, risk_aversions: Array) -> tuple[Array, Array]:
    """The efficient frontier: E and V [K] of the best schedules for so many risk aversions [K]."""

    def point(risk_aversion):
        params = dataclasses.replace(env.params, risk_aversion=risk_aversion)
        this = dataclasses.replace(env, params=params)
        x = trajectory(this)
        return cost(this, x), variance(this, x)

    return jax.vmap(point)(jnp.asarray(risk_aversions, float))


def optimal(env: Env) -> np.ndarray:
    """The best schedule that never buys, [N + 1, M], for any impact, volume curve and correlation.

    Found numerically (sequential quadratic programming), from equal slices. Raises ValueError
    where that does not converge.
    """
    from scipy.optimize import minimize

    shape = _trades(env), env.core.assets
    with jax.enable_x64(True):
        env = jax.tree.map(
            lambda x: jnp.asarray(x, float if np.asarray(x).dtype.kind == "f" else None), env
        )
        scale, shares = ac.unit(env), env.core.each(env.params, "shares")

        def schedule(n):
            left = 1 - jnp.cumsum(n.reshape(shape), 0)
            return jnp.concatenate([jnp.ones((1, shape[1])), left]) * shares

        value = jax.jit(jax.value_and_grad(lambda n: utility(env, schedule(n)) / scale))
        found = minimize(
            lambda n: tuple(np.asarray(x, float) for x in value(jnp.asarray(n))),
            np.full(shape, 1 / shape[0]).ravel(), jac=True, method="SLSQP",
            bounds=[(1e-9, 1)] * (shape[0] * shape[1]),
            constraints={"type": "eq", "fun": lambda n: n.reshape(shape).sum(0) - 1},
            options={"ftol": 1e-13, "maxiter": 1000},
        )  # fmt: skip
        if not found.success:
            raise ValueError(f"{env.name}: no best schedule was found: {found.message}")
        return np.asarray(schedule(jnp.asarray(found.x)))


def _trades(env: Env) -> int:
    return int(np.asarray(env.params.num_trades))


def _plain(env: Env) -> None:
    """Raises ValueError for what the closed form does not hold for."""
    several = {"correlation": 0} if env.core.assets > 1 else {}
    for name, value in ({"impact_power": 1} | several).items():
        given = getattr(env.params, name)
        if not isinstance(given, jax.core.Tracer) and np.any(np.asarray(given) != value):
            raise ValueError(f"{env.name} {name}={given}: allowed is {value}; see `optimal`")
    if np.size(env.params.volume) > 1:
        raise ValueError(
            f"{env.name} volume of shape {np.shape(env.params.volume)}: allowed is a flat one; see "
            "`optimal`"
        )


def _decay(kappa: Array, left, horizon) -> Array:
    """sinh(kappa left) / sinh(kappa horizon), where both would overflow too."""
    shrunk = jnp.exp(-kappa * (horizon - left))
    return shrunk * jnp.expm1(-2 * kappa * left) / jnp.expm1(-2 * kappa * horizon)


# Policies: how much of what is left to sell in trade k, [M].


@config
class Config:
    risk_aversion: float | None = number(None, ge=0)  # of `almgren_chriss`; None: the environment's


def _even(cfg: Config, env: Env, k: Array) -> Array:
    return jnp.ones(env.core.assets, float) / (env.params.num_trades - k)


def _by_volume(cfg: Config, env: Env, k: Array) -> Array:
    p = env.params
    rest = jax.lax.fori_loop(k, p.num_trades, lambda j, s: s + ac.volume(p, j), jnp.zeros(()))
    return jnp.full(env.core.assets, ac.volume(p, k) / rest)


def _best(cfg: Config, env: Env, k: Array) -> Array:
    p = env.params
    if cfg.risk_aversion is not None:
        p = dataclasses.replace(p, risk_aversion=cfg.risk_aversion)
    left = p.horizon * (1 - jnp.stack([k, k + 1]).astype(float) / p.num_trades)
    return 1 - _decay(kappa(dataclasses.replace(env, params=p)), left[1], left[0])


def _agent(name: str, fraction: Callable) -> Agent:
    def act(cfg, env, state, obs, carry, key, greedy):
        m, n = env.core.assets, env.params.num_trades
        k = jnp.round((1 - obs[:, m]) / 2 * n).astype(jnp.int32)
        share = jax.vmap(lambda k: fraction(cfg, env, k))(k)
        if env.core.fraction_of == "initial":
            share = share * (obs[:, :m] + 1) / 2
        return share, carry

    return Agent(
        name, Config, lambda cfg, env, key: (), lambda cfg, env, state: (state, {}), act,
        lambda cfg: 1,
    )  # fmt: skip


twap, vwap = _agent("twap", _even), _agent("vwap", _by_volume)
almgren_chriss = _agent("almgren_chriss", _best)
