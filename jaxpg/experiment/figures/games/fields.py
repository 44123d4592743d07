"""Exact fields of two players' policies in a game in matrix form: velocities, rest points, basins.

Policies are drawn as probabilities, while learners move logits. Along their gradients g, which are
`ops.games.policy_gradient`, a policy p = softmax(logits) moves by p (g - p.g).
"""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.ops import games

LEAST = 1e-6  # of a probability that becomes a logit
NEAR = 0.4  # from an equilibrium, in probability: a path that ends there has come to it


def velocities(payoffs, policies, entropy_coef: float = 0.0) -> np.ndarray:
    """Velocities [S, 2, n] of the policies [S, 2, n] of two learners, in probability a unit of
    time.

    >>> velocities([[[1, -1], [-1, 1]], [[-1, 1], [1, -1]]], [[[0.5, 0.5], [0.75, 0.25]]]).tolist()
    [[[0.125, -0.125], [0.0, 0.0]]]
    """

    def move(policy):
        slopes = games.policy_gradient(payoffs, list(jnp.log(policy)), entropy_coef)
        return jnp.stack([p * (g - p @ g) for p, g in zip(policy, slopes, strict=True)])

    payoffs, policies = jnp.asarray(payoffs, float), _inside(policies)
    return np.asarray(jax.jit(jax.vmap(move))(policies))


def nash_equilibria(payoffs) -> np.ndarray:
    """Nash equilibria [K, 2, n] of a game [2, n, n] of two players, the pure ones first.

    By their supports: on those of equal size each player is indifferent between the actions that
    the other's policy leaves it, and no other action is better. So all are found where the game is
    not degenerate, Nisan et al. (2007), "Algorithmic Game Theory", algorithm 3.4.

    >>> nash_equilibria([[[2, 0], [0, 1]], [[1, 0], [0, 2]]]).round(2)[:, :, 0].tolist()
    [[1.0, 1.0], [0.0, 0.0], [0.67, 0.33]]
    """
    one, other = np.asarray(payoffs, float)
    n, found = len(one), []
    for size in range(1, n + 1):
        supports = [list(s) for s in itertools.combinations(range(n), size)]
        for own, others in itertools.product(supports, supports):
            # What a player does makes the other one indifferent.
            pair = _indifferent(other.T, others, own), _indifferent(one, own, others)
            if pair[0] is None or pair[1] is None:
                continue
            values = one @ pair[1], pair[0] @ other
            gains = [v.max() - p @ v for p, v in zip(pair, values, strict=True)]
            if max(gains) < 1e-9:
                found.append(np.stack(pair))  # type: ignore
    return np.array(found).reshape(-1, 2, n)


def _indifferent(table: np.ndarray, rows: list[int], columns: list[int]) -> np.ndarray | None:
    """The policy [n] on `columns` under which all of `rows` are worth the same; None if none is."""
    size = len(rows)
    system = np.zeros((size + 1, size + 1))
    system[:size, :size], system[:size, size], system[size, :size] = (
        table[np.ix_(rows, columns)], -1, 1
    )  # fmt: skip
    if abs(np.linalg.det(system)) < 1e-12:
        return None
    chances = np.linalg.solve(system, np.eye(size + 1)[size])[:size]
    if chances.min() < 1e-12:
        return None
    policy = np.zeros(len(table))
    policy[columns] = chances
    return policy


def rest_points(payoffs, entropy_coef: float = 0.0) -> np.ndarray:
    """Points [K, 2, n] at which learners stay for good: Nash equilibria, or with entropy, of two
    actions each, those where a policy is softmax(values / entropy_coef).

    >>> rest_points([[[1, -1], [-1, 1]], [[-1, 1], [1, -1]]], entropy_coef=0.1).tolist()
    [[[0.5, 0.5], [0.5, 0.5]]]
    """
    if not entropy_coef:
        return nash_equilibria(payoffs)
    one, other = np.asarray(payoffs, float)

    def answer(values: np.ndarray) -> np.ndarray:  # to [K, 2]
        margin = (values[:, 0] - values[:, 1]) / entropy_coef
        first = 0.5 * (1 + np.tanh(margin / 2))
        return np.stack([first, 1 - first], -1)

    def both(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = np.stack([p, 1 - p], -1)
        reply = answer(own @ other)
        return own, reply, answer(reply @ one.T)[:, 0] - p

    low = np.linspace(0, 1, 4000)  # an even number: none is at the middle
    high = low[1:]
    change = both(low)[2]
    crossed = np.flatnonzero(np.sign(change[1:]) != np.sign(change[:-1]))
    low, high, sign = low[crossed], high[crossed], np.sign(change[crossed])
    for _ in range(50):
        middle = (low + high) / 2
        before = np.sign(both(middle)[2]) == sign
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    own, reply, _ = both((low + high) / 2)
    return np.stack([own, reply], 1).round(12)


def basins(payoffs, policies, time: float, num_steps: int) -> np.ndarray:
    """Basins [S] in which policies [S, 2, n] lie: the index among `nash_equilibria` of the pure one
    that the exact gradients lead to; -1 where they have come to none.

    >>> hunt = [[[4, 0], [3, 1]], [[4, 3], [0, 1]]]
    >>> basins(hunt, [[[0.7, 0.3]] * 2, [[0.3, 0.7]] * 2], time=50.0, num_steps=200).tolist()
    [0, 1]
    """
    last = np.asarray(_follow(num_steps)(jnp.asarray(payoffs, float), _inside(policies), time))
    known = nash_equilibria(payoffs)
    pure = known[known.max((1, 2)) > 1 - 1e-9] if len(known) else known
    pure = pure[(pure.max(2) > 1 - 1e-9).all(1)] if len(pure) else pure
    if not len(pure):
        return np.full(len(last), -1)
    far = np.abs(last[:, None] - pure).max((2, 3))
    return np.where(far.min(1) < NEAR, far.argmin(1), -1)


@functools.cache
def _follow(num_steps: int) -> Callable:
    def end(payoffs, policy, time):
        last, _ = games.follow_gradient(payoffs, list(jnp.log(policy)), time, num_steps)
        return jnp.stack([jax.nn.softmax(x) for x in last])

    return jax.jit(jax.vmap(end, (None, 0, None)))


def _inside(policies) -> jax.Array:
    """Policies with no probability of 0, whose logit would be infinite."""
    policies = jnp.clip(jnp.asarray(policies, float), LEAST)
    return policies / policies.sum(-1, keepdims=True)
