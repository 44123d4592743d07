"""Fitting the networks of a bonus to what a rollout met."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core.types import Array, Key, Tree
from jaxpg.loops.minibatch import epochs


class Fitted(NamedTuple):
    params: Tree
    opt_state: Tree
    loss: Array  # [] of the newest rollout
    key: Key


def init(params: Tree, learning_rate: float, key: Key) -> Fitted:
    """Parameters before the first step of Adam."""
    zero = jnp.zeros((), float)
    return Fitted(params, optax.adam(learning_rate).init(params), zero, key)


def descend(
    loss: Callable, fitted: Fitted, data: Tree, lead: tuple[int, ...], bonus: Any, when: Array
) -> Fitted:
    """Descends loss(params, minibatch, key) [] on data [*lead, ...], such as [T, N, ...], over
    epochs of shuffled minibatches; nothing happens unless `when` [] bool.

    Reads `learning_rate, epochs, minibatches` of the bonus. Where the data cannot be cut into so
    many minibatches they are fewer.
    """
    rule, key = optax.adam(bonus.learning_rate), fitted.key
    size = math.prod(lead)
    flat = jax.tree.map(lambda x: x.reshape(size, *x.shape[len(lead) :]), data)
    key, k_epochs = jax.random.split(key)

    def update(carry, minibatch, key):
        params, opt_state = carry
        value, grads = jax.value_and_grad(loss)(params, minibatch, key)
        updates, opt_state = rule.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), {"loss": value}

    old = fitted.params, fitted.opt_state
    new, info = epochs(
        update, old, flat, k_epochs,
        num_epochs=bonus.epochs, minibatches=math.gcd(size, bonus.minibatches),
    )  # fmt: skip
    params, opt_state, value = jax.tree.map(
        lambda x, y: jnp.where(when, x, y), (*new, info["loss"]), (*old, fitted.loss)
    )
    return Fitted(params, opt_state, value, key)
