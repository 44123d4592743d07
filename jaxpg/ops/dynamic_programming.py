"""Exact answers for a finite MDP whose model is known, Sutton & Barto (2018), chapters 3, 4 and 13.

P [S, A, S] are the probabilities of successors and R [S, A] the expected rewards. Rows of terminal
states are zero in both: nothing follows, so that gamma may be 1 wherever every episode ends. A
policy is [S, A], its rows sum to 1. All functions are pure and differentiable but the iterated
one, and as exact as the floats in hand (`jax.enable_x64` for more).
"""

import chex
import jax
import jax.numpy as jnp

from jaxpg.core.types import Array


def lookahead(P: Array, R: Array, V: Array, gamma) -> Array:
    """Q [S, A] of one step and then the values V [S], eq. 4.6."""
    chex.assert_shape(P, (*R.shape, *V.shape))
    return R + gamma * P @ V


def soft_value(Q: Array, epsilon, legal: Array | None = None) -> Array:
    """V [...] of the epsilon-greedy policy over Q [..., A]; `legal` as below."""
    if legal is None:
        return (1 - epsilon) * Q.max(-1) + epsilon * Q.mean(-1)
    return jnp.where(legal, greedy_policy(Q, epsilon, legal) * Q, 0).sum(-1)


def greedy_policy(Q: Array, epsilon=0.0, legal: Array | None = None) -> Array:
    """The epsilon-greedy policy [..., A] over Q [..., A]; equal actions share alike.

    legal: [..., A] bool, by default all; the others have probability 0.
    """
    legal = jnp.ones(Q.shape, bool) if legal is None else legal
    Q = jnp.where(legal, Q, -jnp.inf)
    best = (Q.max(-1, keepdims=True) == Q) & legal
    share = lambda x: x / x.sum(-1, keepdims=True, dtype=Q.dtype)  # noqa: E731
    return (1 - epsilon) * share(best) + epsilon * share(legal)


def value_iteration(
    P: Array, R: Array, gamma, epsilon=0.0, tolerance=1e-6, max_sweeps: int = 100_000
) -> Array:
    """Q [S, A] of the best policy, eq. 4.10; of the best epsilon-soft one if epsilon > 0, sec. 5.4.

    tolerance: sweeps end when no value changes by more than that, in units of the largest value.
    """

    def going(loop):
        V, change, sweep = loop
        return (change > tolerance * jnp.maximum(1, jnp.abs(V).max())) & (sweep < max_sweeps)

    def improve(loop):
        V, _, sweep = loop
        new = soft_value(lookahead(P, R, V, gamma), epsilon)
        return new, jnp.abs(new - V).max(), sweep + 1

    begin = jnp.zeros_like(R[:, 0]), jnp.full((), jnp.inf, R.dtype), 0
    V, _, _ = jax.lax.while_loop(going, improve, begin)
    return lookahead(P, R, V, gamma)


def policy_evaluation(P: Array, R: Array, policy: Array, gamma) -> Array:
    """V [S] of a policy: the solution of Bellman's linear equations, eq. 4.4."""
    chex.assert_equal_shape([R, policy])
    follows = jnp.einsum("sa,sat->st", policy, P)
    return jnp.linalg.solve(jnp.eye(len(R)) - gamma * follows, (policy * R).sum(-1))


def policy_values(P: Array, R: Array, policy: Array, gamma) -> Array:
    """Q [S, A] of a policy."""
    return lookahead(P, R, policy_evaluation(P, R, policy, gamma), gamma)


def state_distribution(P: Array, start: Array, policy: Array, gamma) -> Array:
    """Discounted visits of a policy to each state: [S], sum over t of gamma^t Pr(S_t = s).

    start: [S] the distribution of S_0. At gamma = 1 these are eta(s), the expected visits of an
    episode, eq. 9.2; they sum to its mean length, the terminal state counted once.
    """
    follows = jnp.einsum("sa,sat->st", policy, P)
    return jnp.linalg.solve(jnp.eye(len(start)) - gamma * follows.T, start)


def policy_gradient(P: Array, R: Array, start: Array, logits: Array, gamma) -> Array:
    """The gradient [S, A] of start . V with respect to the logits of a softmax policy.

    The policy gradient theorem, Sutton et al. (2000) theorem 1, with discounted visits:
    d(s) pi(a|s) (Q(s, a) - V(s)).
    """
    policy = jax.nn.softmax(logits)
    Q = policy_values(P, R, policy, gamma)
    advantage = Q - (policy * Q).sum(-1, keepdims=True)
    return state_distribution(P, start, policy, gamma)[:, None] * policy * advantage
