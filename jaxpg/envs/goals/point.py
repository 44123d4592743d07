"""A point in a square that is to come to a place, with or without walls in its way.

In a step it moves by `step_size` times the action along both axes,

    x' = x + step_size a,    a in [-1, 1] x [-1, 1],

first along the first one, then along the second, and stops where it meets a wall or the edge of the
square [-1, 1] x [-1, 1]; what is left of the move along the other axis it slides. The reward is 0
for a step that leads to within `tolerance` of the goal, which ends the episode, and else -1, as in
Andrychowicz et al. (2017), arXiv:1707.01495, section 4.1.

Start and goal are uniform over all that is free, and independent: one start in a hundred is at its
goal, and a step that stays there reaches it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core import goals
from jaxpg.core.types import Array
from jaxpg.envs.goals.walls import draw_point, free_cells, grow, read_boxes, slide

NAME = "PointReach-jaxpg"


@struct.dataclass
class Params:
    step_size: float = 0.1  # longest move of a step along an axis; the square's sides are 2
    tolerance: float = 0.1  # distance within which the goal is reached
    max_steps_in_episode: int = 50


@struct.dataclass
class State:
    position: Array  # [2]
    goal: Array  # [2]
    time: Array  # [] int32


class PointReach(environment.Environment):
    """Actions [2] in [-1, 1]: the move along both axes, in units of `step_size`.

    Observations: `observation` and `achieved` are the position [2], `desired` the goal [2].

    walls: None, the name of one of `walls.LAYOUTS`, or boxes (left, bottom, right, top); one
    without width is a line.
    """

    name, default_params = NAME, Params()  # type: ignore  # properties in gymnax
    signals = (goals.SUCCESS,)

    def __init__(self, walls: Any = None):
        """Raises ValueError for walls that are none, or that leave no room or part it."""
        self.boxes = read_boxes(NAME, walls)
        self.grown, self.cells = grow(self.boxes), free_cells(self.boxes)
        self.limits = {"step_size": (1e-6, 2), "tolerance": (1e-6, 3)}

    def reset_env(self, key, params):
        position, goal = (draw_point(k, self.cells) for k in jax.random.split(key))
        state = State(position, goal, jnp.zeros((), jnp.int32))
        return self.observe(state), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        move = params.step_size * jnp.clip(action, -1, 1)
        position = slide(state.position, move, self.grown)
        state = State(position, state.goal, state.time + 1)
        obs = self.observe(state)
        reward, terminated, info = goals.judge_step(self, obs, params)
        return obs, state, reward, terminated, info

    def observe(self, state: State) -> dict[str, Array]:
        return goals.observe(state.position, state.position, state.goal)

    def goal_reached(self, achieved: Array, desired: Array, params: Params) -> Array:
        return jnp.square(achieved - desired).sum() <= jnp.square(params.tolerance)

    def goal_reward(self, achieved: Array, desired: Array, params: Params) -> Array:
        return self.goal_reached(achieved, desired, params).astype(float) - 1

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (2,))

    def observation_space(self, params):
        box = spaces.Box(-1.0, 1.0, (2,))
        return goals.goal_space(box, box)


def fewest_steps(position: np.ndarray, goal: np.ndarray, params: Params) -> np.ndarray:
    """Least number of steps [...] from positions to goals [..., 2] where no wall is in the way, at
    least 1: k steps reach all within k step_size along each axis. The best return is 1 - k.

    >>> from jaxpg.envs.goals.point import Params, fewest_steps
    >>> fewest_steps([[0.0, 0.0]], [[0.35, 0.0]], Params(step_size=0.1, tolerance=0.1)).tolist()
    [3]
    """
    apart = np.abs(np.asarray(goal) - np.asarray(position))
    most = int(np.ceil(2 / params.step_size))
    moves = np.arange(1, most + 1) * params.step_size  # [K]
    left = np.maximum(apart[..., None, :] - moves[:, None], 0)
    reached = np.square(left).sum(-1) <= np.square(params.tolerance)
    return 1 + reached.argmax(-1)


ENVIRONMENTS = {NAME: PointReach}
