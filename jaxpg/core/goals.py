"""Goals: environments that say with every observation what has been achieved, and what is desired.

The observation of a goal environment is a dict of three entries,

    observation [...]   the state
    achieved    [G...]  the goal that this state is, or reaches
    desired     [G...]  the goal of the episode

and its core has two pure methods, of one example, which `jax.vmap` takes:

    goal_reward(achieved, desired, params) -> [] float
    goal_reached(achieved, desired, params) -> [] bool

Both look at what is achieved *after* a step. Its `step` is by them alone: the reward is
`goal_reward`, it terminates where `goal_reached` and nowhere else, and a time limit truncates. So
what a step would have been worth for another goal can be told without a step more. The signal
`success` is 1 on the step that reaches the goal and else 0, so that `episode/success` is the
share of episodes that end at their goal.

The names of the three are those of the Gymnasium-Robotics environments (Plappert et al. 2018,
arXiv:1802.09464), without their suffix `_goal`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxpg.core import signals
from jaxpg.core.env import Env
from jaxpg.core.observations import GOAL_KEYS
from jaxpg.core.types import Array, Tree

METHODS = ("goal_reward", "goal_reached")
SUCCESS = "success"


def has_goals(env: Env) -> bool:
    """True for an environment whose core has both methods of goals.

    >>> from jaxpg.core.goals import has_goals
    >>> has_goals(jaxpg.make("BitFlip-jaxpg")), has_goals(jaxpg.make("CartPole-v1"))
    (True, False)
    """
    return all(callable(getattr(env.core, name, None)) for name in METHODS)


def goal_space(observation: Any, goal: Any) -> Any:
    """The observation space of a goal environment, a Dict, from the Boxes of state and goal."""
    from gymnax.environments import spaces  # it starts JAX

    return spaces.Dict(dict(zip(GOAL_KEYS, (observation, goal, goal), strict=True)))


def observe(observation: Array, achieved: Array, desired: Array) -> dict[str, Array]:
    """The observation of a goal environment."""
    return dict(zip(GOAL_KEYS, (observation, achieved, desired), strict=True))


def judge_step(core: Any, obs: dict[str, Array], params: Tree) -> tuple[Array, Array, dict]:
    """Reward [], termination [] bool and info of the step that has led to an observation."""
    pair = obs["achieved"], obs["desired"]
    reached = core.goal_reached(*pair, params)
    return core.goal_reward(*pair, params), reached, {SUCCESS: reached.astype(float)}


def require_goals(env: Env, what: str) -> None:
    """Raises ValueError unless an environment keeps the contract of goals, by shapes alone.

    what: asks for goals, such as a field of a config with its value, for the error.
    """
    name = f"{what} on {env.name}"
    if not has_goals(env):
        raise ValueError(
            f"{name}, which has no goals: allowed are environments with goal_reward and "
            "goal_reached, see docs/goals.md, in no wrappers but clip_reward, scale_reward, "
            "sticky_actions, time_limit and time_aware_observation"
        )
    if fault := find_goal_fault(env):
        raise ValueError(f"{name}: {fault}")


def find_goal_fault(env: Env) -> str | None:
    """Words on what a core with one of the methods does not keep of the contract of goals, by
    shapes alone, with what is allowed; None if it keeps all."""
    if missing := [name for name in METHODS if not callable(getattr(env.core, name, None))]:
        return f"it has no {missing[0]}, allowed are both of {', '.join(METHODS)}"
    space, example = env.core.observation_space(env.core.default_params), env.example_obs
    inner = getattr(space, "spaces", None)
    if not isinstance(inner, dict) or not isinstance(example, dict):
        return f"its observations are {space}, allowed is a Dict of {', '.join(GOAL_KEYS)}"
    if missing := [key for key in GOAL_KEYS if key not in inner]:
        return f"its observations have no {missing[0]}, allowed is a Dict of {', '.join(GOAL_KEYS)}"
    pair = [inner[key] for key in GOAL_KEYS[1:]]
    for key, one in zip(GOAL_KEYS[1:], pair, strict=True):
        if not hasattr(one, "low"):
            return f"its {key} is {one}, allowed is a Box"
    achieved, desired = (example[key] for key in GOAL_KEYS[1:])
    if achieved.shape != desired.shape or achieved.shape == ():
        shapes = f"achieved has shape {achieved.shape}, desired {desired.shape}"
        return f"{shapes}: allowed is one shape, of an axis or more"
    for method, kind, said in zip(
        METHODS, (jnp.floating, jnp.bool_), ("a float", "a bool"), strict=True
    ):
        found = jax.eval_shape(getattr(env.core, method), achieved, desired, env.params)
        if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, kind):
            return f"{method} gives {found}, allowed is {said} of shape ()"
    if SUCCESS not in signals.scalars(env.core, env.params):
        return f"its signals have no number {SUCCESS!r}, allowed is 1 where a step reaches the goal"
    return None
