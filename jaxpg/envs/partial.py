"""Environments of which an agent sees a part only, so that it has to remember the rest."""

import gymnax
import jax.numpy as jnp
from gymnax.environments import spaces

from jaxpg.core.types import Array, Key, Tree


class Partial:
    """An environment's observations [D], reduced to the dimensions `keep`."""

    def __init__(self, name: str, core, keep: tuple[int, ...]):
        self.name, self.core, self.keep = name, core, jnp.array(keep)

    @property
    def default_params(self):
        return self.core.default_params

    def reset(self, key: Key, params) -> tuple[Array, Tree]:
        obs, state = self.core.reset(key, params)
        return obs[self.keep], state

    def step(self, key: Key, state: Tree, action: Array, params):
        obs, state, reward, terminated, truncated, info = self.core.step(key, state, action, params)
        info = info | {"final_observation": info["final_observation"][self.keep]}
        return obs[self.keep], state, reward, terminated, truncated, info

    def action_space(self, params=None):
        return self.core.action_space(params)

    def observation_space(self, params=None) -> spaces.Box:
        whole = self.core.observation_space(params)
        low, high = (jnp.broadcast_to(x, whole.shape)[self.keep] for x in (whole.low, whole.high))
        return spaces.Box(low, high, low.shape, whole.dtype)


def cart_pole_positions() -> Partial:
    """CartPole-v1 without velocities: the cart's position and the pole's angle."""
    return Partial("CartPolePositions-jaxpg", gymnax.make("CartPole-v1")[0], (0, 2))


def pendulum_positions() -> Partial:
    """Pendulum-v1 without the velocity: the angle's cosine and sine."""
    return Partial("PendulumPositions-jaxpg", gymnax.make("Pendulum-v1")[0], (0, 1))


ENVIRONMENTS = {
    "CartPolePositions-jaxpg": cart_pole_positions,
    "PendulumPositions-jaxpg": pendulum_positions,
}
