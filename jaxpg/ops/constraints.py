"""A limit on the expected cost: the multiplier of a Lagrangian, and the step of CPO.

The problem is  max J(pi)  subject to  J_C(pi) <= d.  Its Lagrangian J - lambda (J_C - d) is that of
an unconstrained learner with the reward r - lambda c; lambda rises while the limit is broken.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxpg.core.types import Array, Scan


class Multiplier(NamedTuple):
    """State of a controller of lambda."""

    integral: Array  # [] sum of the violations so far, never below 0
    cost: Array  # [] the cost at its last step


def init_multiplier(start=0.0) -> Multiplier:
    """A controller whose integral is `start`, in units of cost."""
    return Multiplier(jnp.asarray(start, float), jnp.zeros((), float))


def control(
    state: Multiplier, cost: Array, limit, kp, ki, kd, steps: Array | None = None
) -> tuple[Multiplier, Array]:
    """A step of a PID controller, and the multiplier [], Stooke et al. (2020), arXiv:2007.03964
    algorithm 2.

    With the violation v = cost - limit:  I <- (I + v)+,  D = (cost - cost before)+,
    lambda = (kp v + ki I + kd D)+.  kp = kd = 0 is the dual ascent of a Lagrangian. A cost of NaN,
    "no data", moves nothing. The gains are in units of the reward over those of the cost. steps: []
    how many times the integral gets v; None is once.
    """
    known, seen = jnp.isfinite(cost), jnp.where(jnp.isfinite(cost), cost, state.cost)
    violation = jnp.where(known, seen - limit, 0)
    gained = violation if steps is None else steps * violation
    integral = jnp.maximum(state.integral + gained, 0)
    rise = jnp.maximum(seen - state.cost, 0)
    multiplier = jnp.maximum(kp * violation + ki * integral + kd * rise, 0)
    return Multiplier(integral, seen), multiplier


def penalize(advantage: Array, cost_advantage: Array, multiplier) -> Array:
    """Advantages [...] of the Lagrangian, (A - lambda A_C) / (1 + lambda): the scale of the
    gradient does not grow with the multiplier, arXiv:2007.03964 eq. 11. Of several costs [K, ...]
    with multipliers [K] it is (A - sum_k lambda_k A_k) / (1 + sum_k lambda_k)."""
    if jnp.ndim(multiplier):
        cost_advantage = jnp.tensordot(multiplier, cost_advantage, 1)
        chex.assert_equal_shape([advantage, cost_advantage])
        return (advantage - cost_advantage) / (1 + multiplier.sum())
    chex.assert_equal_shape([advantage, cost_advantage])
    return (advantage - multiplier * cost_advantage) / (1 + multiplier)


class Running(NamedTuple):
    """Sums over the episodes that are under way: leaves [N]."""

    cost: Array  # discounted from the episode's start
    length: Array  # sum of the discounts
    discount: Array  # of the next step, gamma^t


def init_running(num_envs: int) -> Running:
    zeros = jnp.zeros(num_envs, float)
    return Running(zeros, zeros, zeros + 1)


def sum_costs(
    running: Running, cost: Array, ended: Array, gamma, *, scan: Scan = jax.lax.scan
) -> tuple[Running, Running]:
    """Sums of the costs [T, N] over episodes, from where they are under way.

    Returns what is under way after the data, and for each step [T, N] its discount and the sums
    of its episode up to and with it, which are those of the whole episode where `ended`.
    """
    chex.assert_equal_shape([cost, ended])

    def step(now, x):
        cost, ended = x
        total, length = now.cost + now.discount * cost, now.length + now.discount
        after = Running(
            jnp.where(ended, 0, total),
            jnp.where(ended, 0, length),
            jnp.where(ended, 1, gamma * now.discount),
        )
        return after, Running(total, length, now.discount)

    return scan(step, running, (cost, ended))


class Products(NamedTuple):
    """Inner products [] of the gradients g of the return and b of the cost, over the Fisher matrix
    H: what the step of CPO depends on."""

    q: Array  # g' H^-1 g
    r: Array  # g' H^-1 b
    s: Array  # b' H^-1 b


# Cases of a step of CPO: nothing near keeps the limit, its border is followed, it does not bind.
RECOVER, BORDER, FREE = 0, 1, 2


def solve_cpo(
    products: Products, violation: Array, max_kl, recovery=1.0
) -> tuple[Array, Array, Array]:
    """The step of constrained policy optimisation, Achiam et al. (2017), arXiv:1705.10528 eq. 10:

        max g' x  subject to  violation + b' x <= 0  and  x' H x / 2 <= max_kl

    It is x = along_g H^-1 g + along_b H^-1 b; returns both factors [] and the case. FREE: the
    natural step to the edge of the trust region keeps the limit. BORDER: it does not, and as the
    problem is convex the best step is on violation + b' x = 0; there theorem 2 has the multipliers
    a = sqrt((q - r^2 / s) / (2 max_kl - violation^2 / s)) and nu = (a violation + r) / s. RECOVER:
    the limit is broken, and no step within the trust region mends it. There the cost can fall by
    sqrt(2 max_kl s) at most. With `recovery` = 1 the step is the one that does so (eq. 14); with
    less, the best one for the return that takes this part of the fall.
    """
    q, r, s = products
    tiny = jnp.finfo(q.dtype).tiny
    s = jnp.maximum(s, tiny)
    free = jnp.sqrt(2 * max_kl / jnp.maximum(q, tiny))
    reach = jnp.sqrt(2 * max_kl * s) * (products.s > 0)
    lost = (violation > 0) & (violation >= reach)
    fall = jnp.where(lost, recovery * reach, violation)
    room, gain = 2 * max_kl - fall**2 / s, q - r**2 / s
    # Where g and b are parallel, nothing is to be gained along the border.
    inverse = jnp.sqrt(jnp.maximum(room, 0) / jnp.maximum(gain, tiny))
    inverse = jnp.where(gain > jnp.finfo(q.dtype).eps * q, inverse, 0)
    keeps = fall + free * r <= 0
    case = jnp.where(lost, RECOVER, jnp.where(keeps, FREE, BORDER))
    along_b = jnp.where(keeps, 0, -(fall + inverse * r) / s)
    return jnp.where(keeps, free, inverse), along_b, case
