"""Bit flipping, Andrychowicz et al. (2017), "Hindsight Experience Replay", arXiv:1707.01495,
section 3.1: n bits, of which an action flips one, are to become another row of n bits.

The reward is -1 for each step that does not reach the goal and 0 for the one that does, so that
almost every episode of a beginner is alike: a start at distance d is reached by chance within n
steps with a probability of about 2^-n, and has a return of -n else.

Start and goal are uniform and independent, as in the paper; where they are equal one bit of the
goal, drawn uniformly, is flipped, so that no episode is over before it begins. From the distance d
the best return is -(d - 1), and d is binomial(n, 1/2), but for d = 0, which is d = 1 here. With
E[d] = n / 2 the optimal return is

    -(n / 2 - 1) - 2^-n:    -3.0039 for n = 8, -4.0010 for n = 10, -6.5000 for n = 15.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core import goals
from jaxpg.core.checks import require_integer
from jaxpg.core.types import Array

NAME = "BitFlip-jaxpg"


@struct.dataclass
class Params:
    max_steps_in_episode: int


@struct.dataclass
class State:
    bits: Array  # [n] float, of 0 and 1
    goal: Array  # [n] likewise
    time: Array  # [] int32


class BitFlip(environment.Environment):
    """Action i of 0 .. n-1 flips bit i. An episode has at most n steps, by its time limit.

    Observations: `observation` and `achieved` are the bits [n], `desired` the goal [n].
    """

    name: Any = NAME
    signals = (goals.SUCCESS,)

    def __init__(self, n: int = 10):
        """Raises ValueError for a number of bits that is not an integer >= 1."""
        require_integer(f"{NAME} n", n, 1)
        self.n = int(n)
        self.usual = Params(self.n)

    @property
    def default_params(self) -> Params:
        return self.usual

    def reset_env(self, key, params):
        k_start, k_goal, k_bit = jax.random.split(key, 3)
        bits, goal = (jax.random.bernoulli(k, shape=(self.n,)) for k in (k_start, k_goal))
        other = jax.nn.one_hot(jax.random.randint(k_bit, (), 0, self.n), self.n) > 0
        goal = jnp.where((bits == goal).all(), goal ^ other, goal)
        state = State(bits.astype(float), goal.astype(float), jnp.zeros((), jnp.int32))
        return self.observe(state), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        flip = jnp.arange(self.n) == action
        state = State(jnp.where(flip, 1 - state.bits, state.bits), state.goal, state.time + 1)
        obs = self.observe(state)
        reward, terminated, info = goals.judge_step(self, obs, params)
        return obs, state, reward, terminated, info

    def observe(self, state: State) -> dict[str, Array]:
        return goals.observe(state.bits, state.bits, state.goal)

    def goal_reached(self, achieved: Array, desired: Array, params: Params) -> Array:
        return (achieved == desired).all()

    def goal_reward(self, achieved: Array, desired: Array, params: Params) -> Array:
        return self.goal_reached(achieved, desired, params).astype(float) - 1

    def action_space(self, params):
        return spaces.Discrete(self.n)

    def observation_space(self, params):
        box = spaces.Box(0.0, 1.0, (self.n,))
        return goals.goal_space(box, box)


def optimal_return(n: int) -> float:
    """Expected return of the best policy: see this file's head.

    >>> round(optimal_return(10), 4)
    -4.001
    """
    require_integer("n", n, 1)
    return 1 - n / 2 - 2.0**-n


ENVIRONMENTS = {NAME: BitFlip}
