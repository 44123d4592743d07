"""Parameters that players share, or have each their own; and their rows in a replay buffer.

Rows of a batch have an axis of players, [B, P_g, ...], for each group of `core.games`. Players of a
group share parameters, and all their rows are one batch; or each has its own, leaves [P_g, ...],
and its own rows. So a loss is the sum of `row_means` over learners, each of which moves its own
parameters, and an optimiser is `own_rule`, one for each.

All functions read the field `share_parameters`, where both ways differ.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core.games import Group, Rows, groups, rows_of
from jaxpg.core.types import Array, Key, Transition, Tree
from jaxpg.loops import replay
from jaxpg.loops.optimizers import for_each_network
from jaxpg.ops.normalize import masked_mean


def teams(cfg: Any, env: E.Env) -> list[Group]:
    """The groups; players who share a network see their number, if `player_id`."""
    return groups(env, with_id=cfg.share_parameters and cfg.player_id)


def init_each(cfg: Any, group: Group, init: Callable[[Key], Tree], key: Key) -> Tree:
    """Parameters of a group: init(key), or of every player, leaves [P_g, ...]."""
    if cfg.share_parameters:
        return init(key)
    return jax.vmap(init)(jax.random.split(key, group.size))


def apply_each(cfg: Any, apply: Callable, params: Tree, *rows: Tree, out_axis: int = 1) -> Tree:
    """Applies apply(params, *rows) to the rows [B, P_g, ...] of a group.

    out_axis: axis of the players in what it gives.
    """
    if cfg.share_parameters:
        return apply(params, *rows)
    return jax.vmap(apply, (0, *[1] * len(rows)), out_axis)(params, *rows)


def own_rule(cfg: Any, rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimiser of a group's parameters: each player's own see its own gradient alone."""
    return rule if cfg.share_parameters else for_each_network(rule)


def row_means(cfg: Any, x: Array, alive: Array) -> Array:
    """Mean over the rows [B, P_g] of players that were there, of each learner: [1] or [P_g]."""
    if cfg.share_parameters:
        return masked_mean(x, alive)[None]
    return jax.vmap(masked_mean, 1)(x, alive)


def rows_of_batch(group: Group, b: replay.Batch) -> Rows:
    """Rows of the players of a group in the steps of a batch: leaves [B, P_g].

    The batch is of single steps, `n_step` 1. A truncated row is one that goes on: where an episode
    is cut, what follows still has a value.
    """
    over = b.discount == 0
    no = jnp.zeros_like(over)
    return rows_of(group, Transition(b.obs, b.action, b.reward, over, no, b.next_obs, b.signals))


def td_target(cfg: Any, rows: Rows, next_value: Array) -> Array:
    """Target reward + gamma V(next_obs) [B, P_g]; of a player's last step the reward alone."""
    return rows.reward + cfg.gamma * jnp.where(rows.terminated, 0, next_value)


def named(group: Group, found: list[Group], info: dict[str, Array]) -> dict[str, Array]:
    """Metrics under names that tell the groups of a game apart, if it has several."""
    suffix = f"_{group.name}" if len(found) > 1 else ""
    return {f"{name}{suffix}": x for name, x in info.items()}
