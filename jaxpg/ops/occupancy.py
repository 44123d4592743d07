"""Exact answers for a finite MDP with a limit on its costs, by a linear program over visits.

The discounted visits of a policy, mu(s, a) = sum over t of gamma^t Pr(S_t = s, A_t = a), are the
non-negative solutions of linear equations, one a state; returns and costs are linear in them. So
the best policy under a limit is a linear program, Altman (1999), "Constrained Markov Decision
Processes", chapter 3. With one limit it mixes actions in one state at most. On the host, by HiGHS.
"""

from typing import NamedTuple

import chex
import numpy as np


class Optimum(NamedTuple):
    """The best policy under a limit, and what it earns from the start."""

    policy: np.ndarray  # [S, A]; rows of states that are never visited are uniform
    value: float  # discounted return
    cost: float  # discounted cost
    multiplier: float  # what a unit of the limit is worth, in units of the return; never below 0


def solve_constrained(
    P: np.ndarray, R: np.ndarray, C: np.ndarray, start: np.ndarray, gamma: float, limit: float
) -> Optimum:
    """The policy of the greatest discounted return whose discounted cost is at most `limit`.

    P [S, A, S], R and C [S, A], start [S], as `envs.tabular.model` and `cost_model` have them; a
    limit of infinity asks for no constraint. Raises ValueError if no policy keeps the limit.
    """
    from scipy.optimize import linprog  # slow to import

    chex.assert_equal_shape([R, C])
    S, A = R.shape
    flow = np.repeat(np.eye(S), A, axis=1) - gamma * np.asarray(P, float).reshape(S * A, S).T
    bound = {} if np.isinf(limit) else {"A_ub": np.reshape(C, (1, -1)), "b_ub": [limit]}
    found = linprog(-np.ravel(R), A_eq=flow, b_eq=np.asarray(start, float), method="highs", **bound)
    if found.status != 0:
        raise ValueError(f"limit={limit}: no policy keeps it ({found.message})")
    visits = found.x.reshape(S, A)
    total = visits.sum(1, keepdims=True)
    policy = np.where(total > 1e-12, visits / np.maximum(total, 1e-12), 1 / A)
    multiplier = -float(found.ineqlin.marginals[0]) if bound else 0.0
    return Optimum(policy, float((visits * R).sum()), float((visits * C).sum()), multiplier)
