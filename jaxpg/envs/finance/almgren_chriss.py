"""Liquidating a position that moves the price: Almgren & Chriss (2000), "Optimal execution of
portfolio transactions", in gymnax's protocol.

X shares are to be sold in N trades within T days, tau = T / N apart. Trade k sells n_k shares at
a price that its speed pushes down, and the push stays in part (eqs. 1 to 8 of the paper):

    traded at  S_{k-1} - h(n_k / tau)        h(v) = epsilon + eta v      temporary impact
    then       S_k = S_{k-1} + sigma sqrt(tau) xi_k - gamma n_k          permanent impact

So shock k falls on x_k, what is held after trade k, and selling everything at once has no risk. The
last trade sells what is left.

The cost of trade k is n_k h(n_k / tau) + gamma n_k x_k - sigma sqrt(tau) xi_k x_k; all of them sum
to the implementation shortfall X S_0 - (what the sales brought), exactly. The reward is

    -(cost of trade k + risk_aversion * sigma^2 tau x_k^2) / unit

so that with `risk_aversion` lambda = 0 an episode's return is minus the shortfall. A schedule fixed
in advance has the variance V = sigma^2 tau sum x_k^2, which is why the penalty is additive and the
expected return minus the utility E + lambda V. For a policy that looks at prices the expectation of
the penalty is the cost's expected quadratic variation (Forsyth et al. 2012). Its variance also has
that of the impact cost, and the covariance of the two: by selling faster after gains a policy can
push it lower (Lorenz & Almgren 2011). Under the penalty fixed schedules are optimal, those of the
paper.

The unit is the utility E + lambda V of equal slices, in dollars (`unit`): their mean return is -1,
whatever the parameters. It is never below one basis point of the position's value.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.env import Env
from jaxpg.core.types import Array

FRACTIONS = ("remaining", "initial")
BASIS_POINT = 1e-4
OF_EACH = "shares", "price", "volatility", "fixed_cost", "permanent_impact", "temporary_impact"


@struct.dataclass
class Params:
    """Parameters, by default the paper's example.

    With several assets, a number for all of them or an array [assets].
    """

    shares: float = 1e6  # X
    price: float = 50.0  # S_0, dollars
    horizon: float = 5.0  # T, days
    num_trades: int = 5  # N
    volatility: float = 0.95  # sigma, dollars per share and square root of a day
    fixed_cost: float = 0.0625  # epsilon, dollars per share: half the spread
    permanent_impact: float = 2.5e-7  # gamma, dollars per share, per share sold
    temporary_impact: float = 2.5e-6  # eta, dollars per share, per share sold a day
    risk_aversion: float = 1e-6  # lambda, per dollar
    impact_power: float = 1.0  # of the speed v: eta (X/T) (v / (X/T))^power; 0.5 is a square root
    volume: float = 1.0  # of the market, over the day; a curve [K] of any length, its mean is 1
    correlation: float = 0.0  # between the prices of any two assets
    vol_of_vol: float = 0.0  # standard deviation of log(sigma_k); E sigma_k^2 stays sigma^2
    vol_reversion: float = 1.0  # how fast log(sigma_k) falls back, per day
    price_noise: float = 1.0  # of rewards; 0 leaves the shocks out, which have the mean 0

    @property
    def max_steps_in_episode(self):
        return self.num_trades


@struct.dataclass
class State:
    inventory: Array  # [M] what is held, as fractions of X
    price: Array  # [M] dollars
    log_volatility: Array  # [] of the interval to come, about its mean
    returns: Array  # [R, M] the last ones, newest first, see `AlmgrenChriss`
    time: Array  # [] int32 trades done


class AlmgrenChriss(environment.Environment):
    """Actions [M] in [0, 1]: how much of what is left is sold, or of the initial position.

    Observations, all about 1 in size: inventories in [-1, 1] [M], the time left in [-1, 1], the
    market's volume less 1, log-volatility, and the last `returns` log-returns [R, M] of the prices
    in units of their standard deviation.

    A speed counts against the market's volume: where it is half, the same trade moves the price
    twice as far (at impact_power 1).
    """

    name, default_params = "AlmgrenChriss-jaxpg", Params()  # type: ignore  # properties in gymnax

    def __init__(self, assets: int = 1, returns: int = 0, fraction_of: str = "remaining"):
        """Raises ValueError for numbers or a name that are not allowed."""
        for field, value, least in (("assets", assets, 1), ("returns", returns, 0)):
            if value != int(value) or value < least:
                raise ValueError(f"{self.name} {field}={value!r}: allowed is an integer >= {least}")
        if fraction_of not in FRACTIONS:
            raise ValueError(
                f"{self.name} fraction_of={fraction_of!r}: allowed is one of {FRACTIONS}"
            )
        self.assets, self.returns, self.fraction_of = int(assets), int(returns), fraction_of
        inf = float("inf")
        self.limits = {
            "shares": (1, inf),
            "price": (1e-6, inf),
            "horizon": (1e-6, inf),
            "num_trades": (1, inf),
            "volatility": (0, inf),
            "fixed_cost": (0, inf),
            "permanent_impact": (0, inf),
            "temporary_impact": (0, inf),
            "risk_aversion": (0, inf),
            "impact_power": (0.1, 2),
            "volume": (1e-3, inf),
            "correlation": (-1 / max(self.assets - 1, 1), 1),
            "vol_of_vol": (0, 2),
            "vol_reversion": (1e-6, inf),
            "price_noise": (0, 1),
        }

    def each(self, params: Params, field: str) -> Array:
        """A parameter for each asset, [M]. Raises ValueError for an array of another length."""
        value = jnp.asarray(getattr(params, field), float)
        if value.shape not in ((), (1,), (self.assets,)):
            raise ValueError(
                f"{self.name} {field} of shape {value.shape}: allowed is a number, or one for each "
                f"of {self.assets} assets"
            )
        return jnp.broadcast_to(value, self.assets)

    def reset_env(self, key, params):
        kind = jnp.result_type(params.num_trades)
        if not jnp.issubdtype(kind, jnp.integer):
            raise ValueError(f"{self.name} num_trades of type {kind}: allowed is an integer >= 1")
        for field in OF_EACH:
            self.each(params, field)
        state = State(
            inventory=jnp.ones(self.assets, float),
            price=self.each(params, "price"),
            log_volatility=params.vol_of_vol * jax.random.normal(key, dtype=float),
            returns=jnp.zeros((self.returns, self.assets), float),
            time=jnp.zeros((), jnp.int32),
        )
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        tau = params.horizon / params.num_trades
        shares = self.each(params, "shares")
        last = state.time + 1 >= params.num_trades

        # A NaN sells nothing: inventories stay in [0, 1] under whatever actions.
        asked = jnp.where(action > 0, jnp.minimum(action, 1), 0)
        if self.fraction_of == "remaining":
            asked = asked * state.inventory
        left = jnp.where(last, 0, jnp.maximum(state.inventory - asked, 0))
        sold, held = (state.inventory - left) * shares, left * shares

        k_shock, k_volatility = jax.random.split(key)
        wander = deviations(self, params, state.log_volatility) * jnp.sqrt(tau)
        shock = wander * correlated(
            jax.random.normal(k_shock, (self.assets,), float), params.correlation
        )
        push = self.each(params, "permanent_impact") * sold
        price = state.price + shock - push

        cost = sold * self.impact(params, sold / tau, state.time) + push * held
        cost = cost - params.price_noise * shock * held
        risk = variance(wander * held, params.correlation)
        reward = -(cost.sum() + params.risk_aversion * risk) / unit(self, params)

        # Log-volatility has its stationary distribution at all times.
        kept = jnp.exp(-params.vol_reversion * tau)
        fresh = jax.random.normal(k_volatility, dtype=float)
        drawn = params.vol_of_vol * jnp.sqrt(1 - jnp.square(kept)) * fresh
        state = State(
            inventory=left,
            price=price,
            log_volatility=kept * state.log_volatility + drawn,
            returns=self.remember(params, state, price, tau),
            time=state.time + 1,
        )
        return self.observe(key, state, action, params), state, reward, last, {}

    def impact(self, params, speed, time):
        """h(v) [M], dollars per share, of selling `speed` [M] shares a day in trade `time`."""
        usual = self.each(params, "shares") / params.horizon
        relative = speed / (usual * volume(params, time))
        impact = self.each(params, "temporary_impact") * usual * relative**params.impact_power
        return self.each(params, "fixed_cost") + impact

    def remember(self, params, state, price, tau):
        """The last log-returns [R, M]. A price that fell below 1 % counts as 1 %: the walk is
        arithmetic, and may go there."""
        first = self.each(params, "price")
        before, after = (jnp.log(jnp.maximum(p / first, 0.01)) for p in (state.price, price))
        scale = self.each(params, "volatility") * jnp.sqrt(tau) / first
        new = (after - before) / jnp.where(scale > 0, scale, 1)
        return jnp.concatenate([new[None], state.returns])[: self.returns]

    def observe(self, key, state, action, params):
        left = 1 - state.time.astype(float) / params.num_trades
        now = jnp.stack([2 * left - 1, volume(params, state.time) - 1, state.log_volatility])
        return jnp.concatenate([2 * state.inventory - 1, now, state.returns.ravel()])

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)  # the last trade ends the episode, and nothing comes after it

    def action_space(self, params):
        return spaces.Box(0.0, 1.0, (self.assets,))

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (3 + self.assets * (1 + self.returns),))


def volume(params: Params, time: Array) -> Array:
    """The market's relative volume [] in trade `time`, from the curve's bins; its mean is 1."""
    curve = jnp.atleast_1d(jnp.asarray(params.volume, float))
    bins = (jnp.arange(len(curve)) + 0.5) / len(curve)
    return jnp.interp((time + 0.5) / params.num_trades, bins, curve / curve.mean())


def deviations(core: AlmgrenChriss, params: Params, log_volatility: Array) -> Array:
    """sigma_k [M]: its square has the mean sigma^2."""
    factor = jnp.exp(log_volatility - jnp.square(params.vol_of_vol))
    return core.each(params, "volatility") * factor


def correlated(z: Array, correlation) -> Array:
    """Draws [M] from independent ones: times the symmetric root of (1 - rho) I + rho 11^T."""
    root = jnp.sqrt(1 - correlation)
    along = jnp.sqrt(jnp.maximum(1 + (len(z) - 1) * correlation, 0))
    return root * z + (along - root) * z.mean()


def variance(risks: Array, correlation) -> Array:
    """Variance of a sum of [..., M] normal draws with these deviations, all equally correlated."""
    together = jnp.square(risks.sum(-1))
    return (1 - correlation) * jnp.square(risks).sum(-1) + correlation * together


def unit(core: AlmgrenChriss | Env, params: Any = None) -> Array:
    """Dollars that a reward of 1 is: the utility E + lambda V of equal slices in a flat market.

    core: an Env has its parameters with it.
    """
    own, params = (core.core, core.params) if isinstance(core, Env) else (core, params)
    n, horizon = params.num_trades, params.horizon
    shares, price, sigma, fixed, permanent, temporary = (own.each(params, f) for f in OF_EACH)
    per_share = fixed + permanent * shares * (n - 1) / (2 * n) + temporary * shares / horizon
    days = horizon / n * (n - 1) * (2 * n - 1) / (6 * n)  # tau sum (x_k / X)^2
    risk = days * variance(sigma * shares, params.correlation)
    usual = (shares * per_share).sum() + params.risk_aversion * risk
    return jnp.maximum(usual, BASIS_POINT * (shares * price).sum())


ENVIRONMENTS = {"AlmgrenChriss-jaxpg": AlmgrenChriss}
