"""Prioritised level replay as a part of an agent: `ops.level_replay` has the rule.

The environment draws each episode's level by its parameter `level_probabilities` (`jaxpg.levels`).
Before a rollout the agent puts there what the scores say, and after it takes the scores anew. The
distribution is that of a whole rollout, as are the policy and the critic.

The fields are `level_replay, level_temperature, level_staleness`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core import signals
from jaxpg.core.config import label
from jaxpg.core.types import Array, EnvState, Metrics, Transition
from jaxpg.ops import level_replay
from jaxpg.ops.returns import starts


class Levels(NamedTuple):
    """Knowledge of K levels, as level replay keeps it."""

    score: Array  # [K] float: mean |advantage| in the last rollout that had it; 0 if unseen
    seen: Array  # [K] bool
    staleness: Array  # [K] float: episodes that began anywhere since one began here


def init(cfg: Any, env: E.Env) -> Levels | tuple[()]:
    """Before the first rollout; () without level replay.

    Raises ValueError for an environment without levels.
    """
    if not cfg.level_replay:
        return ()
    found = signals.shapes(env.core, env.params).get("level")
    if found is None or found.shape != (1,):
        raise ValueError(
            f"{label(type(cfg))} level_replay=True: {env.name} has no levels; allowed is an "
            "environment of jaxpg.levels, such as jaxpg.levels(env, level=range(200))"
        )
    count = len(env.params.level_probabilities)
    return Levels(jnp.zeros(count, float), jnp.zeros(count, bool), jnp.zeros(count, float))


def draw_levels(cfg: Any, env: E.Env, state: Any) -> E.Env:
    """The environment whose episodes are on the levels that are to be replayed, or seen first.

    state: Levels, or () for the environment as it is.
    """
    if not state:
        return env
    found = level_replay.level_distribution(
        state.score, state.seen, state.staleness, cfg.level_temperature, cfg.level_staleness
    )
    return dataclasses.replace(env, params=env.params.replace(level_probabilities=found))


def update_levels(
    state: Any, before: EnvState, t: Transition, advantage: Array
) -> tuple[Any, Metrics]:
    """Levels after a rollout [T, N] from `before`, and metrics; () stays ().

    advantage: [T, N] of the reward, in the scale in which the critic sees it.
    """
    if not state:
        return state, {}
    level = t.signals["level"][..., 0].astype(jnp.int32)
    start = starts(t.terminated | t.truncated).at[0].set(before.episode_length == 0)
    score, seen = level_replay.update_scores(state.score, state.seen, level, advantage)
    staleness = level_replay.update_staleness(state.staleness, level, start)
    count = jnp.maximum(seen.sum(dtype=jnp.int32), 1)
    metrics = {
        "levels/seen": seen.mean(dtype=float),
        "levels/score": jnp.where(seen, score, 0).sum() / count,
    }
    return Levels(score, seen, staleness), metrics
