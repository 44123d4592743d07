"""Several sellers of one stock at the same time, each for itself: predatory trading.

Every seller has X shares and the parameters of `almgren_chriss`. The price feels all of them: the
temporary impact is that of their common speed, the permanent impacts add up (Carlin, Lobo &
Viswanathan 2007, "Episodic liquidity crises"). So seller i pays

    n_i h(sum_j n_j / tau) + gamma (sum_j n_j) x_i - sigma sqrt(tau) xi x_i

in a trade, and the risk of what it holds; its rewards are in `almgren_chriss.unit`, as if it were
alone. An environment of P players has observations and actions [P, ...], and rewards [P] in its
`info`; its own reward is their mean. `loops.independent` makes independent learners of an agent.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.env import Env
from jaxpg.core.types import Array
from jaxpg.envs.finance import almgren_chriss as ac


@struct.dataclass
class State:
    inventory: Array  # [P] what is held, as fractions of X
    price: Array  # [] dollars
    time: Array  # [] int32 trades done


class LiquidationGame(environment.Environment):
    """Actions [P, 1] in [0, 1]: how much of what it has left each seller sells.

    Observations [P, 2] of each: its own inventory and the time left, in [-1, 1]. It sees neither
    the others nor the price.
    """

    signals = ("rewards",)
    name, default_params = "LiquidationGame-jaxpg", ac.Params()  # type: ignore  # properties in gymnax

    def __init__(self, sellers: int = 2):
        """Raises ValueError for a number of sellers that is not an integer >= 1."""
        if sellers != int(sellers) or sellers < 1:
            raise ValueError(f"{self.name} sellers={sellers!r}: allowed is an integer >= 1")
        self.players, self.alone = int(sellers), ac.AlmgrenChriss()
        # One stock, whose volatility is as it is.
        fixed = {"correlation": (0, 0), "vol_of_vol": (0, 0)}
        self.limits = self.alone.limits | fixed

    def reset_env(self, key, params):
        self.alone.reset_env(key, params)  # judges the parameters
        price = self.alone.each(params, "price")[0]
        state = State(jnp.ones(self.players, float), price, jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        asked = jnp.where(action[:, 0] > 0, jnp.minimum(action[:, 0], 1), 0) * state.inventory
        last = state.time + 1 >= params.num_trades
        left = jnp.where(last, 0, jnp.maximum(state.inventory - asked, 0))
        n, x = ((a * params.shares)[None] for a in (state.inventory - left, left))
        tau = params.horizon / params.num_trades
        shock = params.volatility * jnp.sqrt(tau) * jax.random.normal(key, dtype=float)
        cost = costs(self, params, n, x, state.time[None])[0]
        cost = cost - params.price_noise * shock * x[0]
        rewards = -cost / ac.unit(self.alone, params)
        price = state.price + shock - params.permanent_impact * n.sum()
        state = State(left, price, state.time + 1)
        info = {"rewards": rewards}
        return self.observe(key, state, action, params), state, rewards.mean(), last, info

    def observe(self, key, state, action, params):
        left = 1 - state.time.astype(float) / params.num_trades
        time = jnp.full(self.players, 2 * left - 1)
        return jnp.stack([2 * state.inventory - 1, time], -1)

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return spaces.Box(0.0, 1.0, (self.players, 1))

    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (self.players, 2))


def costs(core: LiquidationGame, params: ac.Params, n: Array, x: Array, time: Array) -> Array:
    """Costs of each seller's trades without the shocks, and the price of risk: [T, P] dollars.

    n, x: [T, P] shares sold and then held. time: [T].
    """
    tau, together = params.horizon / params.num_trades, n.sum(-1)
    impact = jax.vmap(lambda v, k: core.alone.impact(params, v[None], k)[0])(together / tau, time)
    push = params.permanent_impact * together
    risk = params.risk_aversion * jnp.square(params.volatility) * tau * jnp.square(x)
    return n * impact[:, None] + push[:, None] * x + risk


def utilities(env: Env, x: Array) -> Array:
    """E + lambda V of each seller [P], dollars, for schedules x [N + 1, P]."""
    time = jnp.arange(len(x) - 1)
    return costs(env.core, env.params, x[:-1] - x[1:], x[1:], time).sum(0)


def nash(env: Env) -> np.ndarray:
    """The schedule [N + 1] of every seller that none can better alone, if all have the same one.

    With linear impact each one's utility is quadratic in its own schedule, and a linear system says
    where all slopes are zero. Raises ValueError for another impact, or where the solution buys.
    """
    if np.any(np.asarray(env.params.impact_power) != 1):
        raise ValueError(
            f"{env.name} impact_power={env.params.impact_power}: allowed is 1, a linear one"
        )
    players, trades = env.core.players, int(env.params.num_trades)
    with jax.enable_x64(True):
        shares = jnp.asarray(env.params.shares, float)

        def slope(x):
            """Slope of the first seller's utility in its own schedule [N - 1], where all have x."""

            def of(own):
                all_x = jnp.stack([own, *[x] * (players - 1)], -1)
                ends = [jnp.ones((1, players)), jnp.zeros((1, players))]
                return utilities(env, shares * jnp.concatenate([ends[0], all_x, ends[1]]))[0]

            return jax.grad(of)(x)

        even = 1 - jnp.arange(1, trades) / trades  # where a power of speed has its derivatives
        x = np.asarray(even - jnp.linalg.solve(jax.jacobian(slope)(even), slope(even)))
        x = np.concatenate([[1], x, [0]]) * np.asarray(shares)
    if (np.diff(x) > 1e-9 * x[0]).any():
        raise ValueError(f"{env.name}: the equilibrium buys between sales, which nobody may here")
    return x


ENVIRONMENTS = {"LiquidationGame-jaxpg": LiquidationGame}
