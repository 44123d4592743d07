"""Wrappers as functions: each takes an `Env` and gives another one.

They are named and behave as gymnasium's (version 1.3); docs/wrappers.md says where they do not.
Static arguments are a part of the program; numbers are parameters of the new environment, under the
argument's name, and may be traced and swept as its own.
"""

from collections.abc import Callable
from typing import Any

from jaxpg.core.env import Env
from jaxpg.core.types import Array, Tree
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


def levels(env: Env, **values: Any) -> Env:
    """Draws one of K levels for each episode: one row of parameters, which change together.

    values: by a parameter's name its values on all levels, [K, ...]: a list, an array or a range.
    A parameter gives way to NAME_choices. `level_probabilities` [K] are the chances of the levels,
    at first alike: a parameter, which `level_replay` of PPO sets. A signal `level` [1] is the
    number of the level that a step was on. Raises ValueError for a name that is no parameter with
    numbers, and for values of other numbers of levels. Source of the replay: Jiang et al. (2021),
    arXiv:2010.03934.

    >>> env = jaxpg.levels(jaxpg.make("Maze-jaxpg", size=9), level=range(200))
    >>> env.params.level_probabilities.shape, env.core.signals
    ((200,), ('level',))
    """
    return wrap(env, "levels", values)


def shielded(env: Env, project: Callable[[Tree, Array], Array] | str) -> Env:
    """Executes project(obs, action) in the place of an action: a shield, which knows what is safe.

    project: of one observation and action, both as the environment has them; or "module:Name" of
    such a function. A signal `shielded` is 1 in steps in which it changed the action, so that
    `episode/shielded` counts them. Agents learn from their own action, as it was before. A
    function that no other program finds by a name, such as a lambda, gives an environment that a
    run folder does not give again. Raises ValueError where it gives no action, for a game, and
    around another shield. Source: Alshiekh et al. (2018), arXiv:1708.08611.

    >>> def brake(obs, action):
    ...     return jax.numpy.where(obs[0] > 0.3, 0, action)
    >>> jaxpg.shielded(jaxpg.make("CartPole-v1"), brake).core.signals
    ('shielded',)
    """
    return wrap(env, "shielded", {"project": project})


def residual(
    env: Env, base: Callable[[Tree], Array] | str, residual_scale: float | Array = 1.0
) -> Env:
    """Executes base(obs) + residual_scale * action, clipped to the Box of actions.

    base: a controller, obs -> action of one environment, in the units of its Box; or "module:Name"
    of one, which is kept as in `shielded`. A parameter: `residual_scale`. Raises ValueError where
    actions are no Box of floats, where the controller gives no action, and for a game. Source:
    Johannink et al. (2019), arXiv:1812.03201; Silver et al. (2018), arXiv:1812.06298.

    >>> env = jaxpg.residual(jaxpg.make("Pendulum-v1"), lambda obs: -obs[2:], 0.5)
    >>> env.params.residual_scale
    0.5
    """
    return wrap(env, "residual", {"base": base, "residual_scale": residual_scale})


def noisy_observations(env: Env, observation_noise: float | Array = 0.1) -> Env:
    """Adds Gaussian noise with this standard deviation to observations, each entry for itself.

    Of a dict or tuple every part of floats gets it; integers and masks stay as they are. The noise
    of a step is in `next_obs` as it is in the next `obs`. A parameter: `observation_noise`, a
    number or an array for each entry. Raises ValueError for one below 0, where there are no floats,
    and for a game.

    >>> jaxpg.noisy_observations(jaxpg.make("CartPole-v1"), 0.05).params.observation_noise
    0.05
    """
    return wrap(env, "noisy_observations", {"observation_noise": observation_noise})


def noisy_actions(env: Env, action_noise: float | Array = 0.1) -> Env:
    """Executes another action by chance, one that the agent does not know of.

    Of a Box it is the action with Gaussian noise of the standard deviation `action_noise`, within
    the Box; of discrete actions it is, with the probability `action_noise`, any one with equal
    chances, of several at once each for itself. A parameter. Raises ValueError for one below 0, a
    probability above 1, where actions are masked, and for a game.

    >>> jaxpg.noisy_actions(jaxpg.make("CartPole-v1"), 0.2).params.action_noise
    0.2
    """
    return wrap(env, "noisy_actions", {"action_noise": action_noise})
