"""Small matrix products on a GPU: sums, which XLA fuses with what stands around them.

XLA makes a kernel of every matrix product, and others of what the library, or the order of the
work, keeps apart from it. Of a small product each costs its start and no more. Written as numbers
that are multiplied and summed it is an operation like others, and most of a layer is one kernel.
It is also exact to float32, where a GPU's own product rounds to ten bits.

`use_fused_products` makes it so for all that the process compiles for a GPU from then on. What
decides is the size of the product that is compiled, with all axes that `jax.vmap` has given it: of
many seeds, or many rows, it stays a product.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import machine
from jaxpg.core.types import Array

SMALL = 2**20  # multiplications: four of each thread that an H100 runs at a time
LARGE = 2**16  # numbers of one side: more of them a library reads faster
WARP = 32  # threads that read neighbours
SHORT = 16  # terms of a sum from which on XLA gives it threads of its own

Axes = tuple[int, ...]
Dims = tuple[tuple[Axes, Axes], tuple[Axes, Axes]]


def multiply_and_sum(x: Array, y: Array, dims: Dims) -> Array:
    """The product `jax.lax.dot_general(x, y, dims)`: [*batch, *free axes of x, *free axes of y].

    dims: the axes that are summed over, of x and of y, and those of the batch, likewise.

    >>> x, y = jax.numpy.ones((2, 3)), jax.numpy.ones((3, 4))
    >>> multiply_and_sum(x, y, (((1,), (0,)), ((), ()))).shape
    (2, 4)
    """
    (x_sum, y_sum), (x_batch, y_batch) = dims
    x_free = [i for i in range(x.ndim) if i not in (*x_sum, *x_batch)]
    y_free = [i for i in range(y.ndim) if i not in (*y_sum, *y_batch)]
    batch, rows, columns = (
        [z.shape[i] for i in axes] for z, axes in ((x, x_batch), (x, x_free), (y, y_free))
    )
    b, r, c = map(math.prod, (batch, rows, columns))
    along = y.ndim - 1 in y_sum  # neighbours of y are summed
    left = x.transpose(*x_batch, *x_free, *x_sum).reshape(b, r, -1)
    right = y.transpose(*y_batch, *y_free, *y_sum).reshape(b, c, -1)
    if not along and x.ndim - 1 not in x_sum:
        # A kernel's gradient: JAX asks for its transpose, and turns it. Turned twice it lies right.
        out = jnp.swapaxes(_sum_terms(right, left, along), 1, 2)
    else:
        out = _sum_terms(left, right, along)
    return out.reshape(*batch, *rows, *columns)


def _sum_terms(x: Array, y: Array, along: bool) -> Array:
    """Sums over the last axis of x [B, R, K] times y [B, C, K]: [B, R, C].

    XLA lets threads sum together along a last axis, and side by side along another. The first fits
    few columns, or a y that lies `along` it. Short sums are a part of what needs them, but if they
    are along a last axis.
    """
    if x.shape[-1] >= SHORT and (along or y.shape[1] < WARP):
        return (x[:, :, None] * y[:, None]).sum(-1)
    return (x[..., None] * jnp.swapaxes(y, 1, 2)[:, None]).sum(-2)


def _fits(x: Any, y: Any, out: Any, dims: Dims, out_sharding: Any) -> bool:
    """True for a product of float32 that is small, and that no mesh has laid out."""
    shapes = (*x.shape, *y.shape)
    if out_sharding is not None or not all(isinstance(n, int) for n in shapes):
        return False
    # Multiplications: an axis of the batch, and one that is summed over, is in both shapes.
    shared = math.prod(x.shape[i] for axes in (dims[0][0], dims[1][0]) for i in axes)
    short = max(math.prod(x.shape), math.prod(y.shape)) <= LARGE
    float32 = x.dtype == y.dtype == out.dtype == np.float32
    return float32 and short and 0 < math.prod(shapes) <= SMALL * max(shared, 1)


def use_fused_products() -> bool:
    """Lets small products be sums, where programs are compiled for a GPU; returns whether they are.

    `jaxpg.rollout` calls it, and so does all that trains. It holds for every program compiled
    afterwards, other code's too. Where JAX's internals, which this needs, have moved, it changes
    nothing.

    >>> use_fused_products()  # on a CPU
    False
    """
    return machine.on_gpu() and _register()


@functools.cache
def _register() -> bool:
    try:
        from jax._src.lax.lax import _dot_general_lower as usual
        from jax.extend.core import Primitive
        from jax.extend.core.primitives import dot_general_p
        from jax.interpreters import mlir

        def rule(ctx: Any, x: Any, y: Any, **params: Any) -> Any:
            dims, (left, right), out = params["dimension_numbers"], ctx.avals_in, ctx.avals_out[0]
            if not _fits(left, right, out, dims, params["out_sharding"]):
                return usual(ctx, x, y, **params)
            fused = functools.partial(multiply_and_sum, dims=dims)
            return mlir.lower_fun(fused, multiple_results=False)(ctx, x, y)

        copy = Primitive("rehearsal")  # which nothing else has
        copy.def_effectful_abstract_eval(dot_general_p.abstract_eval)
        mlir.register_lowering(copy, rule, platform="cuda")
        params = {"precision": None, "preferred_element_type": None, "out_sharding": None}
        dims = ((1,), (0,)), ((), ())

        def rehearse(x, large):
            x = copy.bind(x, x, dimension_numbers=dims, **params)
            return x, copy.bind(large, large, dimension_numbers=dims, **params)

        shapes = (jax.ShapeDtypeStruct((n, n), np.float32) for n in (2, SMALL))
        jax.jit(rehearse).trace(*shapes).lower(lowering_platforms=("cuda",))
        mlir.register_lowering(dot_general_p, rule, platform="cuda")
    except Exception:  # whatever a JAX of tomorrow raises
        return False
    return True
