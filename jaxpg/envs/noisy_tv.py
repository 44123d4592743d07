"""A corridor with a screen of noise: who looks for what cannot be predicted need not go anywhere;
the noisy television of Burda et al. (2019), arXiv:1808.04355, section 5.

The far end of the corridor has the one reward. An action switches the screen on for a step, which
then shows pixels that are -1 or 1 with even chances, drawn anew each time; else it is dark, all
zeros. What it shows has no consequence.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.checks import require_integer
from jaxpg.core.types import Array

NAME = "NoisyTV-jaxpg"
BACK, AHEAD, WATCH = range(3)


@struct.dataclass
class Params:
    max_steps_in_episode: int


@struct.dataclass
class State:
    cell: Array  # [] int32, 0 at the start
    screen: Array  # [pixels] float
    time: Array  # [] int32


class NoisyTV(environment.Environment):
    """Actions 0 and 1 go a cell back and ahead, 2 watches the screen and stays. The last cell ends
    an episode, with reward 1; so do twice as many steps as there are cells, without one.

    Observations [length + pixels]: the cell as one-hot, the screen. The signal `watched` is 1 for
    a step of action 2.
    """

    name: Any = NAME
    signals = ("watched",)

    def __init__(self, length: int = 20, pixels: int = 16):
        """Raises ValueError for numbers that are not integers >= 2, or >= 1."""
        require_integer(f"{NAME} length", length, 2)
        require_integer(f"{NAME} pixels", pixels, 1)
        self.length, self.pixels = int(length), int(pixels)
        self.usual = Params(2 * self.length)

    @property
    def default_params(self) -> Params:
        return self.usual

    def reset_env(self, key, params):
        zero = jnp.zeros((), jnp.int32)
        state = State(zero, jnp.zeros(self.pixels), zero)
        return self.observe(state), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        watched = action == WATCH
        move = jnp.where(watched, 0, jnp.where(action == AHEAD, 1, -1))
        cell = jnp.clip(state.cell + move, 0, self.length - 1).astype(jnp.int32)
        noise = jax.random.rademacher(key, (self.pixels,), state.screen.dtype)
        state = State(cell, jnp.where(watched, noise, 0), state.time + 1)
        there = cell == self.length - 1
        info = {"watched": watched.astype(float)}
        return self.observe(state), state, there.astype(float), there, info

    def observe(self, state: State) -> Array:
        return jnp.concatenate([jax.nn.one_hot(state.cell, self.length), state.screen])

    def action_space(self, params):
        return spaces.Discrete(3)

    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (self.length + self.pixels,))


ENVIRONMENTS = {NAME: NoisyTV}
