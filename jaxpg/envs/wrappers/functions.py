"""Wrappers as functions: each takes an `Env` and gives another one.

They are named and behave as gymnasium's (version 1.3); docs/wrappers.md says where they do not.
Static arguments are a part of the program; numbers are parameters of the new environment, under the
argument's name, and may be traced and swept as its own.
"""

from typing import Any

from jaxpg.core.env import Env
from jaxpg.core.types import Array
from jaxpg.envs.wrappers.recipe import wrap


def frame_stack(env: Env, num: int = 4) -> Env:
    """Stacks the last `num` observations along their last axis, the oldest first.

    Of [D] it makes [num * D], of images [H, W, C] [H, W, num * C]; a discrete observation is made
    one-hot first. In an episode's first state all are the first observation. Masks are not stacked.
    Raises ValueError for a number below 1.

    >>> jaxpg.frame_stack(jaxpg.make("CartPole-v1"), 4).example_obs.shape
    (16,)
    """
    return wrap(env, "frame_stack", {"num": num})


def flatten_observation(env: Env) -> Env:
    """Lays out an observation as one vector, discrete parts of it as one-hot, dicts by their names.

    A mask of actions stays beside it: {"obs": vector, "action_mask": mask}. Raises ValueError for a
    game, whose players' rows it would mix.

    >>> env = jaxpg.make("Breakout-MinAtar")
    >>> env.example_obs.shape, jaxpg.flatten_observation(env).example_obs.shape
    ((10, 10, 4), (400,))
    """
    return wrap(env, "flatten_observation", {})


def time_aware_observation(env: Env, normalize: bool = True) -> Env:
    """Appends the time since the episode began to its observations.

    To a vector [D] it is one more number; of other observations it makes a dict with `obs` and
    `time` [1], and to a dict it adds `time`. normalize: whether it is a fraction of the longest
    episode, `max_steps_in_episode` or a `time_limit`; else it is in steps. Raises ValueError if it
    is to be one and there is no limit, and for a game. Source: Pardo et al. (2018),
    arXiv:1712.00378.

    >>> jaxpg.time_aware_observation(jaxpg.make("CartPole-v1")).example_obs.shape
    (5,)
    """
    return wrap(env, "time_aware_observation", {"normalize": normalize})


def grayscale_observation(env: Env) -> Env:
    """Makes gray images [H, W, 1] of coloured ones [H, W, 3]: .2125 red + .7154 green + .0721 blue.

    Images of integers stay so, rounded down. Raises ValueError for other observations, and
    for a game.

    >>> try:
    ...     jaxpg.grayscale_observation(jaxpg.make("Breakout-MinAtar"))
    ... except ValueError as error:
    ...     print(str(error).split(": ")[1])
    allowed are images [H, W, 3]
    """
    return wrap(env, "grayscale_observation", {})


def resize_observation(env: Env, shape: tuple[int, int]) -> Env:
    """Resizes images [H, W] or [H, W, C] to `shape`: a pixel is the mean of the area it covers.

    Images of integers stay so, rounded to the nearest. Raises ValueError for other observations,
    for a game and for a shape that is none.

    >>> jaxpg.resize_observation(jaxpg.make("Breakout-MinAtar"), (5, 5)).example_obs.shape
    (5, 5, 4)
    """
    return wrap(env, "resize_observation", {"shape": shape})


def action_repeat(env: Env, num: int) -> Env:
    """Makes `num` steps of the environment with each action, fewer if the episode ends before.

    The reward is the sum of theirs, and so are signals that are numbers; all else is of the last
    step. A player of a game is `alive` as in the first step, and `leaves` if it does in any. Raises
    ValueError for a number below 1, and where actions are masked.

    >>> env = jaxpg.action_repeat(jaxpg.make("CartPole-v1"), 4)
    >>> int(env.params.max_steps_in_episode)
    125
    """
    return wrap(env, "action_repeat", {"num": num})


def sticky_actions(env: Env, sticky_probability: float | Array = 0.25) -> Env:
    """Executes, with this probability, the action that was executed before in place of the new one.

    The first action of an episode is always its own. In a game it is drawn for each player alone.
    A parameter: `sticky_probability`. Raises ValueError for one beyond 0 .. 1, and where actions
    are masked. Source: Machado et al. (2018), arXiv:1709.06009, section 5.2.

    >>> jaxpg.sticky_actions(jaxpg.make("Breakout-MinAtar")).params.sticky_probability
    0.25
    """
    return wrap(env, "sticky_actions", {"sticky_probability": sticky_probability})


def time_limit(env: Env, time_limit: int | Array) -> Env:
    """Cuts an episode short after `time_limit` steps: it is truncated there, and not terminated.

    A parameter: `time_limit`. A limit of the environment's own stays. Raises ValueError unless it
    is an integer >= 1.

    >>> env = jaxpg.time_limit(jaxpg.make("CartPole-v1"), 100)
    >>> env.params.time_limit, int(env.params.max_steps_in_episode)
    (100, 100)
    """
    return wrap(env, "time_limit", {"time_limit": time_limit})


def clip_reward(
    env: Env, reward_low: float | Array = -1.0, reward_high: float | Array = 1.0
) -> Env:
    """Clips rewards to reward_low .. reward_high; in a game each player's, and takes their mean.

    Returns are then of clipped rewards, also in evaluations: for true ones evaluate in the
    environment without it. Parameters: `reward_low` and `reward_high`. Raises ValueError unless
    they are finite numbers, the lower one first.

    >>> jaxpg.clip_reward(jaxpg.make("Pendulum-v1")).params.reward_low
    -1.0
    """
    return wrap(env, "clip_reward", {"reward_low": reward_low, "reward_high": reward_high})


def scale_reward(env: Env, reward_scale: float | Array) -> Env:
    """Multiplies rewards by `reward_scale`, a parameter; in a game those of all players.

    Returns are then of scaled rewards, as of `clip_reward`. Raises ValueError unless it is a finite
    number.

    >>> jaxpg.scale_reward(jaxpg.make("Pendulum-v1"), 0.1).params.reward_scale
    0.1
    """
    return wrap(env, "scale_reward", {"reward_scale": reward_scale})


def randomized(env: Env, **ranges: Any) -> Env:
    """Draws parameters of the environment anew for each episode: domain randomisation.

    ranges: by a parameter's name a tuple (low, high), between which it is uniform, both included
    where it is an integer; or a list of values, each as likely. Every entry of an array is drawn
    for itself. A drawn parameter gives way to NAME_low and NAME_high, or NAME_choices, which are
    parameters too. Evaluate with fixed ones in the environment without it. Raises ValueError for a
    name that is no parameter with numbers and for a range that is none. Source: Tobin et al.
    (2017), arXiv:1703.06907; Peng et al. (2018), arXiv:1710.06537.

    >>> env = jaxpg.randomized(jaxpg.make("CartPole-v1"), gravity=(8, 12), masspole=[0.1, 0.2])
    >>> env.params.gravity_low, env.params.gravity_high
    (8, 12)
    """
    return wrap(env, "randomized", ranges)
