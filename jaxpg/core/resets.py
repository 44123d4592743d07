"""Fresh states of a rollout: what follows the episodes that end in it, drawn before its loop.

gymnax's `step` splits its key and resets, whether or not the episode ends: T * N fresh states in T
steps of N environments, nearly all for nothing. Drawn ahead they are a few large operations in
place of many small ones. A core whose reset is dear declares a pool of them: `reset_pool = K`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxpg.core import packing
from jaxpg.core.checks import require_integer
from jaxpg.core.gymnax_import import has_own_step
from jaxpg.core.parallel.devices import shard_axis, unshard
from jaxpg.core.single import name_of
from jaxpg.core.types import Array, Key, Tree

LARGE = 2**26  # bytes of fresh states, of all steps of a rollout: above it they are not drawn ahead


def pool_size(core) -> int | None:
    """Fresh states that a core wants drawn for a rollout, to be used in turn; None: one for each
    step. Raises ValueError for what is no number of them.

    A `step` that is not gymnax's own resets within it: there the number says nothing. It is not
    refused, for objects that hand on what they are asked for (`__getattr__`) hand it on too.
    """
    size = getattr(core, "reset_pool", None)
    if size is None:
        return None
    require_integer(f"{name_of(core)} reset_pool", size, 1)
    return None if has_own_step(core) else int(size)


def draw(core, params: Tree, keys: Key) -> tuple[Key, Tree | None, Tree | None]:
    """Draws the resets of T steps of N environments at once, by the keys [T, N] of those steps.

    gymnax's `step` makes two of its key: the first ones are returned, for the steps alone. By the
    second ones are drawn either fresh observations and states [T, N, ...], for the episodes that
    will end there, the same that `step` would draw; or, of a core that declares fewer, a pool of
    them [K, ...], by the first K of these keys. Neither where the code of `step` is not gymnax's
    own, or where all the fresh states together are large: then every step resets for itself.
    """
    size = pool_size(core)
    if has_own_step(core):
        return keys, None, None
    if size is not None and size < keys.size:
        k_steps, k_resets = _split(keys)
        k_resets = shard_axis(k_resets.reshape(-1)[:size], 0)
        pool = jax.vmap(lambda key: _fresh(core, key, params))(k_resets)
        return k_steps, None, packing.pack(unshard(pool), keep=1)
    reset = jax.vmap(jax.vmap(lambda key: _fresh(core, key, params)))
    total = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(reset, keys)))
    if total > LARGE:
        return keys, None, None
    k_steps, k_resets = _split(keys)
    return k_steps, reset(k_resets), None


# Why in turn. The p-th end of a rollout (p = 0, 1, ...; within a step by the order of the
# environments) is followed by entry p mod K. Which one that is depends on how many have ended
# before, and on nothing that the entries hold: none is preferred for what it is, and each is a draw
# of `reset`, by a key that nothing else is drawn by. While p < K nothing in the rollout depends on
# it yet: given all that went before, the first state is distributed as a draw of its own.
# What is given up comes after K ends: first states repeat within the rollout, so they are no longer
# independent of the episodes before. In turn all are used equally often, to within one, be their
# episodes long or short; chance would not see to that. How often the turn goes round still depends
# on what the pool holds (with short episodes more of them end), which biases the mean over all ends
# by the order of 1/K; the next rollout has another pool.
def _take(pool: Tree, turn: Array, ended: Array) -> Tree:
    """Takes what follows from a pool [K, ...]: the environments that end, by a mask [N], have the
    next entries in their order, from the `turn` [] on; what others get means nothing."""
    ended = unshard(ended)  # the order is over all devices: N bools are all they tell each other
    index = shard_axis(turn + jnp.cumsum(ended, dtype=jnp.int32) - ended, 0) % _size(pool)
    return packing.unpack(jax.tree.map(lambda x: x[index], pool))


def follow(pool: Tree | None, turn: Array | None) -> Callable[[Array], Tree] | None:
    """Function from the mask [N] of environments that end in a step to fresh observations and
    states [N, ...], which follow there; None without a pool."""
    return None if pool is None or turn is None else functools.partial(_take, pool, turn)


def begin_turn(pool: Tree | None) -> Array | None:
    """The turn of a rollout's first end; None without a pool: loops carry nothing for it then."""
    return None if pool is None else jnp.zeros((), jnp.int32)


def next_turn(pool: Tree | None, turn: Array | None, ended: Array) -> Array | None:
    """The turn of the next end, after those of one step, by a mask [N]."""
    return None if turn is None else (turn + ended.sum(dtype=jnp.int32)) % _size(pool)


def _size(pool: Tree) -> int:
    return jax.tree.leaves(pool)[0].shape[0]


def _split(keys: Key) -> tuple[Key, Key]:
    """The keys of steps and of resets, of those [T, N] that gymnax's `step` is given."""
    both = jax.vmap(jax.vmap(jax.random.split))(keys)
    return both[..., 0], both[..., 1]


# As gymnax does it: parameters may be NumPy arrays, which no tracer can index.
@functools.partial(jax.jit, static_argnames="core", inline=True)
def _fresh(core, key: Key, params) -> tuple[Tree, Tree]:
    return core.reset_env(key, params)
