"""A planar arm whose fingertip is to come to a place.

Joints in a row, each with a link of the same length, which are 1 together; the first joint is
fixed at the origin. In a step each joint turns by `step_size` times its action, in radians,

    q' = q + step_size a,    a in [-1, 1]^n,

without limits and without collisions, and the fingertip is at

    (sum_j cos(q_1 + .. + q_j), sum_j sin(q_1 + .. + q_j)) / n.

The reward is 0 for a step that brings it within `tolerance` of the goal, which ends the episode,
and else -1. The goal is the fingertip of an arm whose angles are uniform, so it is in reach; the
arm's own are uniform and independent of it at first.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core import goals
from jaxpg.core.checks import require_integer
from jaxpg.core.types import Array

NAME = "ArmReach-jaxpg"


@struct.dataclass
class Params:
    step_size: float = 0.2  # radians: the longest turn of a step
    tolerance: float = 0.1  # distance within which the goal is reached; the arm's length is 1
    max_steps_in_episode: int = 50


@struct.dataclass
class State:
    angles: Array  # [n] radians, each to the link before it, in [-pi, pi)
    goal: Array  # [2]
    time: Array  # [] int32


class ArmReach(environment.Environment):
    """Actions [n] in [-1, 1]: how far the joints turn, in units of `step_size`.

    Observations: `observation` are the cosines and then the sines of the angles [2 n], `achieved`
    is the fingertip [2], `desired` the goal [2].
    """

    name, default_params = NAME, Params()  # type: ignore  # properties in gymnax
    signals = (goals.SUCCESS,)

    def __init__(self, joints: int = 2):
        """Raises ValueError for a number of joints that is not an integer >= 1."""
        require_integer(f"{NAME} joints", joints, 1)
        self.joints = int(joints)
        self.limits = {"step_size": (1e-6, np.pi), "tolerance": (1e-6, 3)}

    def reset_env(self, key, params):
        angles, other = jax.random.uniform(key, (2, self.joints), float, -jnp.pi, jnp.pi)
        state = State(angles, fingertip(other), jnp.zeros((), jnp.int32))
        return self.observe(state), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        angles = state.angles + params.step_size * jnp.clip(action, -1, 1)
        angles = (angles + jnp.pi) % (2 * jnp.pi) - jnp.pi
        state = State(angles, state.goal, state.time + 1)
        obs = self.observe(state)
        reward, terminated, info = goals.judge_step(self, obs, params)
        return obs, state, reward, terminated, info

    def observe(self, state: State) -> dict[str, Array]:
        turned = jnp.concatenate([jnp.cos(state.angles), jnp.sin(state.angles)])
        return goals.observe(turned, fingertip(state.angles), state.goal)

    def goal_reached(self, achieved: Array, desired: Array, params: Params) -> Array:
        return jnp.square(achieved - desired).sum() <= jnp.square(params.tolerance)

    def goal_reward(self, achieved: Array, desired: Array, params: Params) -> Array:
        return self.goal_reached(achieved, desired, params).astype(float) - 1

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (self.joints,))

    def observation_space(self, params):
        turned, place = (spaces.Box(-1.0, 1.0, (size,)) for size in (2 * self.joints, 2))
        return goals.goal_space(turned, place)


def joint_places(angles: Array) -> Array:
    """Places [..., n, 2] at which the links of arms with angles [..., n] end."""
    heading = jnp.cumsum(angles, -1)
    ways = jnp.stack([jnp.cos(heading), jnp.sin(heading)], -1)
    return jnp.cumsum(ways, -2) / angles.shape[-1]


def fingertip(angles: Array) -> Array:
    """Fingertips [..., 2] of arms with angles [..., n].

    >>> import jax.numpy as jnp
    >>> from jaxpg.envs.goals.arm import fingertip
    >>> fingertip(jnp.array([0.0, jnp.pi / 2])).round(3).tolist()
    [0.5, 0.5]
    """
    return joint_places(angles)[..., -1, :]


ENVIRONMENTS = {NAME: ArmReach}
