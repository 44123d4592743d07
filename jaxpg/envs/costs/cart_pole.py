"""The cart and pole of gymnax with a part of the track that is forbidden.

Its cost is 1 for each step that ends with the cart beyond `forbidden` to the right, x > forbidden
(m). The start is within 0.05 m of the middle; the pole does not care where it is balanced.
"""

from typing import Any

from flax import struct
from gymnax.environments.classic_control import cartpole

NAME = "CartPoleCost-jaxpg"


@struct.dataclass
class Params(cartpole.EnvParams):
    forbidden: float = 0.0  # m: what is to its right costs 1 a step


class CartPoleCost(cartpole.CartPole):
    """A cart and pole, as CartPole-v1, whose steps on the forbidden part cost 1 each."""

    name, default_params = NAME, Params()  # type: ignore  # properties in gymnax
    signals = ("cost",)

    def step_env(self, key, state, action, params: Any):
        obs, state, reward, terminated, info = super().step_env(key, state, action, params)
        return obs, state, reward, terminated, info | {"cost": (state.x > params.forbidden) * 1.0}


ENVIRONMENTS = {NAME: CartPoleCost}
