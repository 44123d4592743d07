"""Steps measured by how far they move the policy, not its parameters.

Near the old policy the mean KL divergence is d' F d / 2, with F the Fisher matrix. The step that
gains the most to first order within KL <= delta is therefore along x = F^-1 g, Kakade (2001), and
its length is sqrt(2 delta / x' F x), Schulman et al. (2015), arXiv:1502.05477, appendix C. F is
never formed: conjugate gradients only ask for its products with vectors.

Parameters, gradients and directions are pytrees of the same structure.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxpg.core.types import Array, Tree


def fisher_vector_product(kl: Callable, params: Tree, damping=0.0) -> Callable:
    """The function v -> (F + damping I) v, F the Hessian of `kl` at `params`.

    kl(params) -> []: the mean KL divergence from the policy at `params`, fixed, to that of its
    argument. There its gradient is zero and its Hessian is the Fisher matrix. The gradient is
    linearised once; each product costs one more forward and backward pass.
    """
    _, hessian = jax.linearize(jax.grad(kl), params)
    return lambda v: jax.tree.map(lambda h, x: h + damping * x, hessian(v), v)


def conjugate_gradient(product: Callable, b: Tree, iterations: int) -> Tree:
    """x such that product(x) = b, for a symmetric positive semidefinite `product`; Hestenes &
    Stiefel (1952). Exact in as many iterations as there are distinct eigenvalues.

    The trip count is fixed, so lanes of a `vmap` stay in step. Once the residual is 1e-10 of b,
    what is left is rounding, and the remaining iterations do nothing.
    """
    enough = 1e-20 * optax.tree.vdot(b, b)

    def over(x, y, going):
        return jnp.where(going, x / jnp.where(going, y, 1), 0)

    def body(_, loop):
        x, residual, p, size = loop
        q = product(p)
        curvature: Any = optax.tree.vdot(p, q)
        alpha = over(size, curvature, (size > enough) & (curvature > 0))
        x = optax.tree.add_scale(x, alpha, p)
        residual = optax.tree.add_scale(residual, -alpha, q)
        new = optax.tree.vdot(residual, residual)
        p = optax.tree.add_scale(residual, over(new, size, size > enough), p)
        return x, residual, p, new

    begin = optax.tree.zeros_like(b), b, b, optax.tree.vdot(b, b)
    return jax.lax.fori_loop(0, iterations, body, begin)[0]


def natural_step(product: Callable, gradient: Tree, max_kl, iterations: int) -> Tree:
    """The step along F^-1 gradient whose KL divergence is `max_kl`, to second order.

    Zero where the gradient is zero, or where no positive length exists.
    """
    x = conjugate_gradient(product, gradient, iterations)
    curvature: Any = optax.tree.vdot(x, product(x))
    length = jnp.sqrt(2 * max_kl / jnp.where(curvature > 0, curvature, jnp.inf))
    return optax.tree.scale(length, x)


def line_search(
    accept: Callable, params: Tree, step: Tree, shrink: float, backtracks: int
) -> tuple[Tree, Array]:
    """The first of params + step, params + shrink step, params + shrink^2 step, ... to be accepted.

    accept(params) -> [] bool. Returns the parameters and the fraction of the step taken: after
    `backtracks` refusals 0, and the very parameters that came in.
    """

    def moved(fraction):
        return jax.tree.map(lambda p, s: p + (fraction * s).astype(p.dtype), params, step)

    def refused(loop):
        tries, _, accepted = loop
        return ~accepted & (tries <= backtracks)

    def shorten(loop):
        tries, fraction, _ = loop
        fraction = jnp.where(tries == 0, 1.0, fraction * shrink)
        return tries + 1, fraction, accept(moved(fraction))

    begin = jnp.zeros((), jnp.int32), jnp.ones((), float), jnp.zeros((), bool)
    _, fraction, accepted = jax.lax.while_loop(refused, shorten, begin)
    params = jax.tree.map(lambda p, new: jnp.where(accepted, new, p), params, moved(fraction))
    return params, jnp.where(accepted, fraction, 0)
