"""Parameters of some updates ago, for agents whose actors run behind their learner."""

import jax
import jax.numpy as jnp

from jaxpg.core.types import Tree


def begin(params: Tree, lag: int) -> Tree:
    """History of the last `lag` versions, oldest first, leaves [lag, ...]: at the start all are
    the first one. () without a lag."""
    return jax.tree.map(lambda p: jnp.repeat(p[None], lag, 0), params) if lag else ()


def oldest(history: Tree, params: Tree) -> Tree:
    """The parameters of `lag` updates ago; the current ones without a lag."""
    return jax.tree.map(lambda h: h[0], history) if history != () else params


def push(history: Tree, params: Tree) -> Tree:
    """The history once `params`, the newest until now, have been updated."""
    if history == ():
        return ()
    return jax.tree.map(lambda h, p: jnp.concatenate([h[1:], p[None]]), history, params)
