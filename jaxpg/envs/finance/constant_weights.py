"""A portfolio of constant weights, as an agent that does not learn."""

import jax.numpy as jnp
import numpy as np

from jaxpg.core.config import config, static
from jaxpg.core.env import Env
from jaxpg.core.types import Agent


@config
class Config:
    weights: tuple = static((1.0,))  # of the risky assets, and of cash last


def _fixed(cfg: Config, env: Env, key) -> tuple:
    w = np.asarray(cfg.weights, float)
    if w.shape != (env.core.assets + 1,):
        raise ValueError(
            f"portfolio.Config weights={cfg.weights}: allowed are {env.core.assets + 1} numbers, "
            "one for each asset and cash last"
        )
    if not np.isfinite(w).all() or abs(w.sum() - 1) > 1e-6:
        raise ValueError(
            f"portfolio.Config weights={cfg.weights}: their sum is {w.sum():g}, allowed is 1"
        )
    return ()


def _hold(cfg: Config, env: Env, state, obs, carry, key, greedy):
    _fixed(cfg, env, key)
    w = jnp.asarray(cfg.weights[:-1], float)
    return jnp.broadcast_to(w, (len(obs), len(w))), carry


constant = Agent(
    "constant", Config, _fixed, lambda cfg, env, state: (state, {}), _hold, lambda cfg: 1
)
