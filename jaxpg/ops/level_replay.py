"""Prioritised level replay: which level of an environment an episode is played on, by what the
critic's errors say is still to be learnt there. Jiang, Grefenstette & Rocktaeschel (2021),
arXiv:2010.03934, algorithm 1.

There are K levels. Each has a score, whether it was seen, and its staleness: the episodes that
began anywhere since one began there. The next episode is on a level that was never seen, each as
likely, with the share of these among all as the probability; otherwise on one that was seen, by

    P = (1 - staleness_coef) P_S + staleness_coef P_C
    P_S(i) proportional to h(S_i)^(1 / temperature), h(S_i) = 1 / rank of its score, highest first
    P_C(i) proportional to its staleness.
"""

import chex
import jax.numpy as jnp

from jaxpg.core.types import Array


def replay_distribution(
    score: Array, seen: Array, staleness: Array, temperature, staleness_coef
) -> Array:
    """Probabilities [K] of the levels that were seen, P above; zeros if none was.

    score, staleness: [K] float. seen: [K] bool. temperature: > 0. Equal scores are ranked by their
    number. Where nothing is stale, as with one level alone, P is P_S.

    >>> score, seen = jnp.array([1.0, 3.0, 2.0]), jnp.array([True, True, False])
    >>> stale = jnp.array([1.0, 0.0, 5.0])
    >>> replay_distribution(score, seen, stale, temperature=1.0, staleness_coef=0.25).tolist()
    [0.5, 0.5, 0.0]
    """
    chex.assert_equal_shape([score, seen, staleness])
    order = jnp.argsort(jnp.where(seen, -score, jnp.inf), stable=True)
    rank = jnp.zeros(len(score), score.dtype).at[order].set(jnp.arange(1.0, len(score) + 1))
    by_rank = jnp.where(seen, jnp.exp(-jnp.log(rank) / temperature), 0)  # of the first it is 1
    by_rank = by_rank / jnp.maximum(by_rank.sum(), 1)
    stale = jnp.where(seen, staleness, 0)
    total = stale.sum()
    by_staleness = jnp.where(total > 0, stale / jnp.where(total > 0, total, 1), by_rank)
    return (1 - staleness_coef) * by_rank + staleness_coef * by_staleness


def level_distribution(
    score: Array, seen: Array, staleness: Array, temperature, staleness_coef
) -> Array:
    """Probabilities [K] of the next episode's level: one never seen, or one that is replayed.

    >>> args = jnp.array([1.0, 0.0]), jnp.array([True, False]), jnp.zeros(2)
    >>> level_distribution(*args, 0.1, 0.1).tolist()  # half were seen
    [0.5, 0.5]
    """
    share = seen.mean(dtype=score.dtype)
    new = (~seen).astype(score.dtype) / len(seen)  # their share, each as likely
    return share * replay_distribution(score, seen, staleness, temperature, staleness_coef) + new


def update_scores(score: Array, seen: Array, level: Array, advantage: Array) -> tuple[Array, Array]:
    """Scores [K] and which levels were seen [K], after steps on these levels.

    level: [T, N] int32. advantage: [T, N], generalised advantages (GAE). A level's new score is the
    mean of their magnitude over its steps, the paper's L1 value loss; of one without any step it
    stays.
    """
    chex.assert_equal_shape([level, advantage])
    # One sum a level, and not a scatter, whose order of additions a GPU leaves to chance.
    on = level.reshape(-1, 1) == jnp.arange(len(score))  # [T * N, K], which the sums consume
    total = jnp.where(on, jnp.abs(advantage).reshape(-1, 1), 0).sum(0)
    steps = on.sum(0, dtype=jnp.int32)
    return jnp.where(steps > 0, total / jnp.maximum(steps, 1), score), seen | (steps > 0)


def update_staleness(staleness: Array, level: Array, start: Array) -> Array:
    """Staleness [K] after the episodes that began in some steps: that of the level of each is 0,
    and with each that of all others one more.

    level: [T, N] int32. start: [T, N] bool, the first steps of episodes; those of one time count in
    the order of the environments.
    """
    chex.assert_equal_shape([level, start])
    turn = jnp.cumsum(start.ravel(), dtype=jnp.int32)
    last = jnp.zeros(len(staleness), jnp.int32)
    last = last.at[level.ravel()].max(jnp.where(start.ravel(), turn, 0))
    since = (turn[-1] - last).astype(staleness.dtype)
    return jnp.where(last > 0, since, staleness + since)
