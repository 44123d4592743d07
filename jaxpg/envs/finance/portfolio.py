"""Portfolio choice: Merton (1969, 1971) and Kelly (1956), in gymnax's protocol.

Before each period of dt = horizon / num_steps years the agent says which fractions w [n] of its
wealth n risky assets shall have; the rest, 1 - sum w, earns the rate r (or costs it, below 0). The
assets move as correlated geometric Brownian motion,

    S' = S exp((mu - sigma^2 / 2) dt + sigma sqrt(dt) xi),

or as rows of `data`, returns that you give, drawn with replacement. Wealth grows by

    (1 - costs) (1 + sum w (S' / S - 1) + (1 - sum w) (e^(r dt) - 1))

where costs are `cost` times what is traded, sum |w - h|, of the holdings h that the last period
left. The reward is an increase in utility, so that an episode's return is the utility of its end:

    log              log(W_T / W_0)
    crra             ((W_T / W_0)^(1 - a) - 1) / (1 - a), with risk_aversion a; 1 is log
    mean_variance    sum of R - a / 2 R^2 over periods, of their excess returns R over cash

Without costs and in short periods the best weights of all three are constant (Merton):

    w* = Sigma^-1 (mu - r) / a       a = 1 for log, which is Kelly's; "mean_variance" has (mu - r)^2
                                     dt beside Sigma, which is nothing in short periods

Returns of a few years say little about a weight. One that is 5 % off costs a ten-thousandth of
wealth a year, whose deviation is 30 %. `price_noise` = 0 takes off each reward

    (W / W_0)^(1 - a) w (S' / S - E S' / S)

The weights are chosen before prices move, so that its mean is 0 and every policy keeps its expected
return.

Wealth that falls below a millionth of the first ends the episode: with a loan it can.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.config import unknown
from jaxpg.core.env import Env
from jaxpg.core.types import Array
from jaxpg.envs.finance.almgren_chriss import correlated
from jaxpg.envs.finance.constant_weights import Config as Config
from jaxpg.envs.finance.constant_weights import constant as constant
from jaxpg.envs.finance.prices import read

UTILITIES = "log", "mean_variance", "crra"
BOUNDS = "box", "simplex"
RUIN = 1e-6
OF_EACH = "drift", "volatility"


@struct.dataclass
class Params:
    """Parameters of a market, per year.

    With several assets, a number for all of them or an array [assets].
    """

    drift: float = 0.08  # mu
    volatility: float = 0.2  # sigma
    correlation: float = 0.0  # between any two assets
    rate: float = 0.02  # r, continuously compounded
    cost: float = 0.0  # of what is traded
    risk_aversion: float = 1.0  # a, of "crra" and "mean_variance"
    min_weight: float = 0.0  # of each asset, with weights="box"
    max_weight: float = 2.0
    max_leverage: float = 2.0  # of sum |w|: larger weights are scaled down to it
    horizon: float = 1.0  # years
    num_steps: int = 12  # periods
    price_noise: float = 1.0  # of rewards, see above

    @property
    def max_steps_in_episode(self):
        return self.num_steps


@struct.dataclass
class State:
    wealth: Array  # [] log(W / W_0)
    holdings: Array  # [n] what the weights have become
    returns: Array  # [R, n] the last ones, see `Portfolio`
    time: Array  # [] int32 periods done


class Portfolio(environment.Environment):
    """Actions [n]: with weights="box" the weights themselves, in [min_weight, max_weight]; with
    "simplex" numbers in [0, 1], divided by their sum where that is above 1. So no weight is
    negative, nothing is borrowed, and what is left of 1 is cash.

    Observations: holdings [n], the time left in [-1, 1], log-wealth, and the last `returns`
    returns [R, n] less `rate`, in units of their standard deviation. data: one for each asset and
    period, [rows, n], as an array, a nested sequence or the path of a CSV file, whose first line
    may be names; then drift, volatility, correlation and the assets are its own, and
    dt is only what `rate` is counted in.
    """

    name, default_params = "Portfolio-jaxpg", Params()  # type: ignore  # properties in gymnax

    def __init__(
        self,
        assets: int = 1,
        utility: str = "log",
        weights: str = "box",
        returns: int = 0,
        data: str = "",
    ):
        """Raises ValueError for numbers, names or data that are not allowed."""
        for field, value, least in (("assets", assets, 1), ("returns", returns, 0)):
            if value != int(value) or value < least:
                raise ValueError(f"{self.name} {field}={value!r}: allowed is an integer >= {least}")
        if utility not in UTILITIES:
            raise unknown(f"{self.name} utility", utility, UTILITIES)
        if weights not in BOUNDS:
            raise unknown(f"{self.name} weights", weights, BOUNDS)
        self.data = None if isinstance(data, str) and not data else read(data)
        self.assets = int(assets) if self.data is None else self.data.shape[1]
        self.utility, self.weights, self.returns = utility, weights, int(returns)
        inf = math.inf
        self.limits = {
            "volatility": (0, inf),
            "correlation": (-1 / max(self.assets - 1, 1), 1),
            "cost": (0, 0.5),
            "risk_aversion": (0, inf),
            "max_leverage": (0, inf),
            "horizon": (1e-9, inf),
            "num_steps": (1, inf),
            "price_noise": (0, 1),
        }

    def each(self, params: Params, field: str) -> Array:
        """A parameter for each asset, [n]. Raises ValueError for an array of another length."""
        value = jnp.asarray(getattr(params, field), float)
        if value.shape not in ((), (1,), (self.assets,)):
            raise ValueError(
                f"{self.name} {field} of shape {value.shape}: allowed is a number, or one for each "
                f"of {self.assets} assets"
            )
        return jnp.broadcast_to(value, self.assets)

    def moments(self, params: Params) -> tuple[Array, Array]:
        """Mean [n] and standard deviation [n] of a period's simple returns."""
        if self.data is not None:
            return jnp.asarray(self.data.mean(0), float), jnp.asarray(self.data.std(0), float)
        mu, sigma = (self.each(params, field) for field in OF_EACH)
        dt = params.horizon / params.num_steps
        mean = jnp.exp(mu * dt)
        return mean - 1, mean * jnp.sqrt(jnp.expm1(jnp.square(sigma) * dt))

    def reset_env(self, key, params):
        kind = jnp.result_type(params.num_steps)
        if not jnp.issubdtype(kind, jnp.integer):
            raise ValueError(f"{self.name} num_steps of type {kind}: allowed is an integer >= 1")
        for field in OF_EACH:
            self.each(params, field)
        state = State(
            wealth=jnp.zeros((), float),
            holdings=jnp.zeros(self.assets, float),
            returns=jnp.zeros((self.returns, self.assets), float),
            time=jnp.zeros((), jnp.int32),
        )
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        w, dt = self.allowed(params, action), params.horizon / params.num_steps
        risky, cash = self.draw(key, params, dt), jnp.expm1(params.rate * dt)
        growth = 1 + (w * risky).sum() + (1 - w.sum()) * cash
        kept = 1 - params.cost * jnp.abs(w - state.holdings).sum()
        factor = jnp.maximum(growth * kept, RUIN)
        wealth = jnp.maximum(state.wealth + jnp.log(factor), math.log(RUIN))

        mean, std = self.moments(params)
        a = {"log": 1.0, "crra": params.risk_aversion, "mean_variance": 1.0}[self.utility]
        if self.utility == "mean_variance":
            excess = factor - 1 - cash
            reward = excess - params.risk_aversion / 2 * jnp.square(excess)
        else:
            reward = crra(wealth, a) - crra(state.wealth, a)
        slope = jnp.exp((1 - a) * state.wealth)  # of the utility in a period's return
        reward = reward - (1 - params.price_noise) * slope * (w * (risky - mean)).sum()
        new = (risky - mean) / jnp.where(std > 0, std, 1)
        state = State(
            wealth=wealth,
            holdings=w * (1 + risky) / jnp.maximum(growth, RUIN),
            returns=jnp.concatenate([new[None], state.returns])[: self.returns],
            time=state.time + 1,
        )
        over = (state.time >= params.num_steps) | (wealth <= math.log(RUIN))
        return self.observe(key, state, action, params), state, reward, over, {}

    def allowed(self, params, action):
        """The weights [n] that an action is; a NaN is none of that asset."""
        if self.weights == "simplex":
            w = jnp.where(action > 0, jnp.minimum(action, 1), 0)
            return w / jnp.maximum(w.sum(), 1)
        w = jnp.clip(jnp.nan_to_num(action), params.min_weight, params.max_weight)
        gross = jnp.abs(w).sum()
        return w * jnp.where(gross > params.max_leverage, params.max_leverage / gross, 1)

    def draw(self, key, params, dt):
        """A period's simple returns [n]."""
        if self.data is not None:
            return jnp.asarray(self.data, float)[jax.random.randint(key, (), 0, len(self.data))]
        mu, sigma = (self.each(params, field) for field in OF_EACH)
        z = correlated(jax.random.normal(key, (self.assets,), float), params.correlation)
        return jnp.expm1((mu - jnp.square(sigma) / 2) * dt + sigma * jnp.sqrt(dt) * z)

    def observe(self, key, state, action, params):
        left = 1 - state.time.astype(float) / params.num_steps
        now = jnp.stack([2 * left - 1, state.wealth])
        return jnp.concatenate([state.holdings, now, state.returns.ravel()])

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        if self.weights == "simplex":
            return spaces.Box(0.0, 1.0, (self.assets,))
        low, high = params.min_weight, params.max_weight
        return spaces.Box(low, high, (self.assets,))

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (2 + self.assets * (1 + self.returns),))


def crra(wealth: Array, a) -> Array:
    """The utility (W^(1 - a) - 1) / (1 - a) of a log-wealth; log W at a = 1."""
    a = jnp.asarray(a, wealth.dtype)
    one = jnp.abs(a - 1) < 1e-6
    power = jnp.where(one, 1.0, 1 - a)
    return jnp.where(one, wealth, jnp.expm1(power * wealth) / power)


# What is known in closed form.


def merton(env: Env) -> Array:
    """The best weights [n] without costs or bounds, Sigma^-1 (mu - r) / a, of prices that move
    continuously. Raises ValueError for an environment with data, see `best_weights`."""
    core, p = env.core, env.params
    if core.data is not None:
        raise ValueError(f"{env.name} with data: allowed is one without; see `best_weights`")
    mu, sigma = (core.each(p, field) for field in OF_EACH)
    rho = p.correlation
    R = (1 - rho) * jnp.eye(core.assets) + rho
    a = 1.0 if core.utility == "log" else p.risk_aversion
    return jnp.linalg.solve(jnp.outer(sigma, sigma) * R, mu - p.rate) / a


def growth(env: Env, w: Array) -> Array:
    """The expected log-growth [...] a year of constant weights [..., n]:
    r + w (mu - r) - w Sigma w / 2, without costs."""
    core, p = env.core, env.params
    mu, sigma = (core.each(p, field) for field in OF_EACH)
    risks = w * sigma
    together = jnp.square(risks.sum(-1))
    variance = (1 - p.correlation) * jnp.square(risks).sum(-1) + p.correlation * together
    return p.rate + (w * (mu - p.rate)).sum(-1) - variance / 2


def best_weights(env: Env) -> np.ndarray:
    """The weights [n] with the most expected utility of one period of the data, within the bounds
    and without costs: Kelly's (1956) for log. Found numerically.

    Raises ValueError for an environment without data, or where that does not converge.
    """
    from scipy.optimize import minimize

    core, p = env.core, env.params
    if core.data is None:
        raise ValueError(f"{env.name} without data: allowed is one with data; see `merton`")
    cash = np.expm1(p.rate * p.horizon / p.num_steps)
    a = 1.0 if core.utility == "log" else float(p.risk_aversion)

    def loss(w):
        r = core.data @ w + (1 - w.sum()) * cash
        if core.utility == "mean_variance":
            return -(r - cash - a / 2 * (r - cash) ** 2).mean()
        log = np.log(np.maximum(1 + r, RUIN))
        return -(log if abs(a - 1) < 1e-6 else np.expm1((1 - a) * log) / (1 - a)).mean()

    simplex = core.weights == "simplex"
    bounds = (0.0, 1.0) if simplex else (float(p.min_weight), float(p.max_weight))
    most = 1.0 if simplex else float(p.max_leverage)
    gross = {"type": "ineq", "fun": lambda w: most - np.abs(w).sum()}
    found = minimize(
        loss, np.clip(np.zeros(core.assets), *bounds), method="SLSQP", constraints=gross,
        bounds=[bounds] * core.assets, options={"ftol": 1e-12, "maxiter": 1000},
    )  # fmt: skip
    if not found.success:
        raise ValueError(f"{env.name}: no best weights were found: {found.message}")
    return found.x


def kelly(p, odds=1.0) -> Array:
    """The fraction of wealth to stake on a bet that is won with probability p and then pays `odds`
    times the stake, p - (1 - p) / odds; 0 if that is negative (Kelly 1956)."""
    p, odds = jnp.asarray(p, float), jnp.asarray(odds, float)
    return jnp.maximum(p - (1 - p) / odds, 0)


ENVIRONMENTS = {"Portfolio-jaxpg": Portfolio}
