"""A scalar linear system with quadratic costs: what training should find is known exactly.

    x' = a x + u,    reward = -(q x^2 + r u^2)

An episode starts at x = start or x = -start, each as likely, and is truncated after
`max_steps_in_episode` = T steps. Under the linear policy u = -k x its cost is a sum of powers of
the closed loop's factor c = a - k,

    cost(k, a) = (q + r k^2) start^2  sum of (gamma c^2)^t over t = 0 .. T - 1.

The best gain k rises with a. So there is one for a known a, another one for the mean cost over an
interval of a, and another one for the worst a in it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.types import Array

NAME = "ScalarLQR-jaxpg"
MOST = 1e6


@struct.dataclass
class Params:
    a: float = 1.0  # what is left of the state after a step without action
    q: float = 1.0  # cost of the state
    r: float = 1.0  # cost of the action
    start: float = 1.0  # distance of the first state from 0
    max_steps_in_episode: int = 10


@struct.dataclass
class State:
    x: Array  # []
    time: Array  # [] int32


class ScalarLQR(environment.Environment):
    """Observations [1]: the state x. Actions [1]: u, without bounds."""

    name, default_params = NAME, Params()  # type: ignore  # properties in gymnax
    limits = {  # noqa: RUF012
        "a": (-MOST, MOST), "q": (0, MOST), "r": (0, MOST), "start": (0, MOST)
    }  # fmt: skip

    def reset_env(self, key, params):
        sign = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        state = State(sign * params.start, jnp.zeros((), jnp.int32))
        return state.x[None], state

    def step_env(self, key, state: Any, action: Any, params: Any):
        u = action[0]
        reward = -(params.q * state.x**2 + params.r * u**2)
        state = State(params.a * state.x + u, state.time + 1)
        return state.x[None], state, reward, jnp.zeros((), bool), {}

    def action_space(self, params):
        return spaces.Box(-np.inf, np.inf, (1,))

    def observation_space(self, params):
        return spaces.Box(-np.inf, np.inf, (1,))


def expected_cost(gain: Any, a: Any, params: Params = Params(), gamma: float = 1.0) -> np.ndarray:
    """Expected cost [...] of an episode under u = -gain x in worlds a, both [...].

    >>> from jaxpg.envs.lqr import expected_cost
    >>> float(expected_cost(1.0, 1.0)), float(expected_cost(0.0, 1.0))
    (2.0, 10.0)
    """
    gain, a = np.broadcast_arrays(np.asarray(gain, float), np.asarray(a, float))
    powers = (gamma * (a - gain) ** 2)[..., None] ** np.arange(params.max_steps_in_episode)
    return (params.q + params.r * gain**2) * params.start**2 * powers.sum(-1)


ENVIRONMENTS = {NAME: ScalarLQR}
