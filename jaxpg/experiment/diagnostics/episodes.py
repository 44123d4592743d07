"""Whole episodes under the sampled policy, to measure estimators on."""

import functools
from typing import NamedTuple

import jax
import jax.core
import numpy as np

from jaxpg.core import env as E
from jaxpg.core.checks import require_integer, require_key
from jaxpg.core.episodes import play
from jaxpg.core.types import Array, Key, Tree
from jaxpg.experiment.diagnostics.learner import learnt_params, parts


class Episodes(NamedTuple):
    """Episodes, one whole one in each of E environments, in T steps."""

    obs: Tree  # [T, E, *obs]
    draw: Array  # [T, E, ...] what the policy drew
    action: Array  # [T, E, *action] as the environment received it
    reward: Array  # [T, E]
    terminated: Array  # [T, E] bool
    truncated: Array  # [T, E] bool
    next_obs: Tree  # [T, E, *obs] the true successor
    mask: Array  # [T, E] bool: false after the episode's end


def collect(
    cfg, env: E.Env, state: Tree, key: Key, episodes: int = 128, num_steps: int | None = None
) -> Episodes:
    """Collects one whole episode in each of `episodes` environments, under the sampled policy.

    num_steps: T, by default the environment's `max_steps_in_episode`; an episode that is longer
    counts as truncated there. Raises ValueError if there is no such limit and none is given.
    """
    require_key(key)
    num_steps = max_episode_length(env) if num_steps is None else num_steps
    for name, value in {"episodes": episodes, "num_steps": num_steps}.items():
        require_integer(name, value, 1)
    return _collect(cfg, env, learnt_params(state), key, episodes, num_steps)


@functools.partial(jax.jit, static_argnames=("episodes", "num_steps"))
def _collect(cfg, env, state, key, episodes, num_steps) -> Episodes:
    pi, actor, policy, _ = parts(cfg, env, state)

    def act(obs, carry, key):
        draw, _ = pi.sample(policy(actor, obs), key)
        return pi.action(draw), carry, draw

    t, draw, mask = play(env, act, key, episodes, num_steps)
    return Episodes(t.obs, draw, t.action, t.reward, t.terminated, t.truncated, t.next_obs, mask)


def max_episode_length(env: E.Env) -> int:
    """Length of the environment's longest episode. Raises ValueError if it has no limit."""
    limit = getattr(env.params, "max_steps_in_episode", None)
    if limit is None or isinstance(limit, jax.core.Tracer):
        raise ValueError(
            f"num_steps=None: {env.name} has no max_steps_in_episode (outside of a "
            "transformation), allowed is the length of its longest episode"
        )
    return int(np.max(limit))
