"""Exact answers for a game in matrix form: payoffs, gradients, best responses, NashConv.

payoffs [P, n_0, ..., n_{P-1}] are what each of P players gets where they choose these actions.
Each draws its action by itself, from a mixed strategy: `strategies` are P vectors, [n_i] each.
What one controller of all players can do is the game of one player over all tuples of actions,
`payoffs[:1].reshape(1, -1)`. All functions are pure and differentiable, and as exact as the floats
in hand (`jax.enable_x64` for more).
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from jaxpg.core.types import Array

Vectors = tuple[Array, ...]  # one of each player, [n_i]: strategies, logits, or values of actions


def action_values(payoffs: Array, strategies: Sequence[Array]) -> Vectors:
    """Expected payoff of each action [n_i] of each player, where the others play as they do.

    Raises ValueError for strategies of other numbers than the payoffs.

    >>> import jax.numpy as jnp
    >>> penny = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    >>> values = action_values(jnp.stack([penny, -penny]), [jnp.array([1.0, 0.0])] * 2)
    >>> [x.tolist() for x in values]
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    _require_fit(payoffs, strategies)
    found = []
    for player, own in enumerate(payoffs):
        for other in reversed(range(len(strategies))):  # from the last axis on: the first stay
            if other != player:
                own = jnp.tensordot(own, strategies[other], ((other,), (0,)))
        found.append(own)
    return tuple(found)


def _require_fit(payoffs: Array, strategies: Sequence[Array]) -> None:
    """Raises ValueError unless each player has a strategy, of as many actions as it has."""
    shapes, found = [jnp.shape(x) for x in strategies], jnp.shape(payoffs)
    if any(len(x) != 1 for x in shapes) or found != (len(shapes), *(x[0] for x in shapes)):
        raise ValueError(
            f"payoffs of shape {found} with strategies of shapes {shapes}: allowed are payoffs "
            "[P, n_0, .., n_P-1] and P strategies, [n_0] to [n_P-1]"
        )


def expected_payoffs(payoffs: Array, strategies: Sequence[Array]) -> Array:
    """Expected payoff of each player, [P].

    >>> import jax.numpy as jnp
    >>> expected_payoffs(jnp.array([[[0.0, 4.0]], [[1.0, 1.0]]]), [jnp.ones(1), jnp.ones(2) / 2])
    Array([2., 1.], dtype=float32)
    """
    values = action_values(payoffs, strategies)
    return jnp.stack([p @ q for p, q in zip(strategies, values, strict=True)])


def best_responses(payoffs: Array, strategies: Sequence[Array]) -> Array:
    """The most that each player can get alone, where the others play as they do: [P].

    >>> import jax.numpy as jnp
    >>> penny = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    >>> best_responses(jnp.stack([penny, -penny]), [jnp.ones(2) / 2, jnp.array([0.75, 0.25])])
    Array([0.5, 0. ], dtype=float32)
    """
    return jnp.stack([q.max() for q in action_values(payoffs, strategies)])


def nash_conv(payoffs: Array, strategies: Sequence[Array]) -> Array:
    """Sum over players of what each can gain alone, []: 0 in an equilibrium, and nowhere else.

    Lanctot et al. (2017), "A unified game-theoretic approach to multiagent reinforcement learning".

    >>> import jax.numpy as jnp
    >>> penny = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    >>> float(nash_conv(jnp.stack([penny, -penny]), [jnp.ones(2) / 2] * 2))
    0.0
    """
    return (best_responses(payoffs, strategies) - expected_payoffs(payoffs, strategies)).sum()


def policy_gradient(payoffs: Array, logits: Sequence[Array], entropy_coef=0.0) -> Vectors:
    """The exact policy gradient of each player: of its own payoff, by its own logits, [n_i] each.

    p (q - p.q) for a strategy p = softmax(logits) and values q of its actions; the entropy H of p,
    times `entropy_coef`, adds its own gradient, -p (log p + H). So move independent learners whose
    steps are small and whose batches are large.

    >>> import jax.numpy as jnp
    >>> policy_gradient(jnp.array([[[4.0], [0.0]], [[1.0], [1.0]]]), [jnp.zeros(2), jnp.zeros(1)])
    (Array([ 1., -1.], dtype=float32), Array([0.], dtype=float32))
    """
    logs = [jax.nn.log_softmax(x) for x in logits]
    strategies = [jnp.exp(x) for x in logs]
    values = action_values(payoffs, strategies)
    values = [q - entropy_coef * log for q, log in zip(values, logs, strict=True)]
    return tuple(p * (q - p @ q) for p, q in zip(strategies, values, strict=True))


def follow_gradient(
    payoffs: Array, logits: Sequence[Array], time, num_steps: int, entropy_coef=0.0
) -> tuple[Vectors, Vectors]:
    """Follows the policy gradients of all players at once, by the classical Runge-Kutta method.

    time: how long, in units in which a learner's logits move by its gradient. num_steps: steps of
    the integration. Returns the last logits [n_i], and those after each step [num_steps, n_i].
    Raises ValueError for no steps.

    >>> import jax.numpy as jnp
    >>> payoffs = jnp.array([[[4.0], [0.0]], [[1.0], [1.0]]])
    >>> last, way = follow_gradient(payoffs, [jnp.zeros(2), jnp.zeros(1)], 100.0, num_steps=500)
    >>> jax.nn.softmax(last[0]).round(2).tolist(), way[0].shape
    ([1.0, 0.0], (500, 2))
    """
    if num_steps != int(num_steps) or num_steps < 1:
        raise ValueError(f"num_steps={num_steps!r}: allowed is an integer >= 1")
    step = time / num_steps

    def slope(x, ahead, by):
        moved = [a + ahead * b for a, b in zip(x, by, strict=True)]
        return policy_gradient(payoffs, moved, entropy_coef)

    def move(x, _):
        first = policy_gradient(payoffs, x, entropy_coef)
        second = slope(x, step / 2, first)
        third = slope(x, step / 2, second)
        slopes = zip(x, first, second, third, slope(x, step, third), strict=True)
        x = tuple(z + step / 6 * (a + 2 * b + 2 * c + d) for z, a, b, c, d in slopes)
        return x, x

    begin = tuple(jnp.asarray(x, payoffs.dtype) for x in logits)
    return jax.lax.scan(move, begin, length=num_steps)


def elo_ratings(scores: Array, num_steps: int = 1000) -> Array:
    """Ratings [K] by the model of Elo (1978): of two players the expected score of the first is
    1 / (1 + 10^((r_2 - r_1) / 400)). Their mean is 0.

    scores: [K, K] mean scores, of a win 1 and of a draw 1/2; NaN where two have not met. The
    ratings of maximum likelihood (Bradley & Terry 1952), with a draw of each against a player of
    rating 0, so that who wins every game has a finite one.

    >>> import jax.numpy as jnp
    >>> ratings = elo_ratings(jnp.array([[0.5, 0.9], [0.1, 0.5]]))
    >>> bool(ratings[0] > 100), bool(abs(ratings.sum()) < 1e-3)
    (True, True)
    """
    chex.assert_shape(scores, (len(scores), len(scores)))
    met = ~jnp.isnan(scores) & ~jnp.eye(len(scores), dtype=bool)
    known = jnp.where(met, scores, 0.5)

    def climb(ratings, _):
        expected = jax.nn.sigmoid(ratings[:, None] - ratings)
        slope = jnp.where(met, known - expected, 0).sum(1) + 0.5 - jax.nn.sigmoid(ratings)
        return ratings + slope / (1 + met.sum(1) / 4), None  # of a sigmoid the slope is 1/4 at most

    ratings, _ = jax.lax.scan(climb, jnp.zeros(len(scores), scores.dtype), length=num_steps)
    return (ratings - ratings.mean()) * 400 / jnp.log(10.0)
