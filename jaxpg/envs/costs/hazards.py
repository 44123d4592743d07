"""A point among hazards, in three tasks.

In a step it moves by `step_size` times the action, x' = x + step_size a, a in [-1, 1]^2.

goal    In the square [-1, 1]^2, from goal to goal: the reward is 10 times what the step has taken
        off the distance, and 1 more for reaching the goal (within `tolerance`), when another one
        is drawn. The cost of a step is how deep it ends in a hazard, a disc: 1 in its middle and 0
        at its edge. Goals lie outside of hazards, and there is a way around each.
circle  In the plane, counter-clockwise along a circle of `radius`, Achiam et al. (2017),
        arXiv:1705.10528 section 8: the reward is (x v_y - y v_x) / (1 + off), v = a, where off is
        the distance from the circle in steps, | |p| - radius | / step_size. (In units in which the
        radius is below 1 the reward would go on rising outside of the circle.) The cost is 1 where
        |x| > `width`: the circle does not fit in.
run     Ahead along x, as fast as may be: the reward is v_x. The cost is 1 where the speed |v| is
        above `speed`, or the point is off the track, |y| > `width`.

Nothing terminates, a time limit truncates.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.types import Array

NAME, TASKS = "PointHazards-jaxpg", ("goal", "circle", "run")
HAZARDS = ((-0.4, 0.4, 0.3), (0.4, 0.4, 0.3), (-0.4, -0.4, 0.3), (0.4, -0.4, 0.3))


@struct.dataclass
class Params:
    step_size: float = 0.1  # the longest move along an axis
    tolerance: float = 0.1  # distance within which a goal is reached
    radius: float = 0.7  # of the circle
    width: float = 0.5  # half of what is allowed of the circle, or of the track
    speed: float = 0.5  # that is allowed on the track, in units of the action
    max_steps_in_episode: int = 100


@struct.dataclass
class State:
    position: Array  # [2]
    goal: Array  # [2]; of no meaning in the other tasks
    time: Array  # [] int32


class PointHazards(environment.Environment):
    """Actions [2] in [-1, 1]. Observations: the place, and in the task goal the way to it, [4]."""

    name, default_params = NAME, Params()  # type: ignore  # properties in gymnax
    signals = ("cost",)

    def __init__(self, task: str = "goal", hazards: Any = HAZARDS):
        """hazards: discs (x, y, radius) of the task goal. Raises ValueError for another task, and
        for hazards that are no discs or leave less than a tenth of the square free."""
        if task not in TASKS:
            raise ValueError(f"{NAME} task={task!r}: allowed is one of {', '.join(TASKS)}")
        self.task, self.hazards = task, read_discs(hazards)
        self.limits = {"step_size": (1e-6, 2), "tolerance": (1e-6, 1)}

    def reset_env(self, key, params):
        k_position, k_goal = jax.random.split(key)
        if self.task == "goal":
            position = draw_outside(k_position, self.hazards)
        else:
            position = jax.random.uniform(k_position, (2,), minval=-0.1, maxval=0.1)
        state = State(position, draw_outside(k_goal, self.hazards), jnp.zeros((), jnp.int32))
        return self.observe(state), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        v = jnp.clip(action, -1, 1)
        position, goal = state.position + params.step_size * v, state.goal
        if self.task == "goal":
            position = jnp.clip(position, -1, 1)
            before, after = (jnp.linalg.norm(x - goal) for x in (state.position, position))
            reached = after <= params.tolerance
            reward = 10 * (before - after) + reached
            cost = depth(position, self.hazards)
            goal = jnp.where(reached, draw_outside(key, self.hazards), goal)
        elif self.task == "circle":
            x, y = position
            off = jnp.abs(jnp.linalg.norm(position) - params.radius) / params.step_size
            reward, cost = (x * v[1] - y * v[0]) / (1 + off), jnp.abs(x) > params.width
        else:
            reward = v[0]
            cost = (jnp.linalg.norm(v) > params.speed) | (jnp.abs(position[1]) > params.width)
        state = State(position, goal, state.time + 1)
        info = {"cost": cost * 1.0}
        return self.observe(state), state, reward * 1.0, jnp.zeros((), bool), info

    def observe(self, state: State) -> Array:
        if self.task == "goal":
            return jnp.concatenate([state.position, state.goal - state.position])
        return state.position if self.task == "circle" else state.position[1:]

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (2,))

    def observation_space(self, params):
        if self.task == "goal":
            most = jnp.array([1.0, 1.0, 2.0, 2.0])
            return spaces.Box(-most, most, (4,))
        size = 2 if self.task == "circle" else 1
        return spaces.Box(-np.inf, np.inf, (size,))


def read_discs(hazards: Any) -> np.ndarray:
    """Discs [H, 3] of (x, y, radius). Raises ValueError as `PointHazards` says."""
    said = f"{NAME} hazards={hazards!r}"
    try:
        discs = np.asarray(hazards, float).reshape(-1, 3)
    except (TypeError, ValueError):
        discs = np.full((1, 3), np.nan)
    if not (np.isfinite(discs).all() and (discs[:, 2] > 0).all()):
        raise ValueError(f"{said}: allowed are discs (x, y, radius), numbers with a radius > 0")
    x = np.linspace(-1, 1, 41)
    grid = np.stack(np.meshgrid(x, x), -1)[..., None, :]
    free = (np.linalg.norm(grid - discs[:, :2], axis=-1) > discs[:, 2]).all(-1)
    if free.mean() < 0.1:
        raise ValueError(f"{said}: allowed are hazards that leave a tenth of the square free")
    return discs


def depth(position: Array, discs: np.ndarray) -> Array:
    """Depth of a place [2] in the deepest of the discs [H, 3]: 1 in the middle, 0 outside."""
    apart = jnp.linalg.norm(position - discs[:, :2], axis=-1)
    return jnp.maximum(1 - apart / discs[:, 2], 0).max(initial=0)


def draw_outside(key: Any, discs: np.ndarray, tries: int = 64) -> Array:
    """A place [2] in the square, uniform over what is outside of all discs [H, 3]: the first of so
    many draws that is, and if none is the last."""
    places = jax.random.uniform(key, (tries, 2), minval=-1, maxval=1)
    free = jax.vmap(lambda x: depth(x, discs) == 0)(places).at[-1].set(True)
    return places[free.argmax()]


ENVIRONMENTS = {NAME: PointHazards}
