"""Random numbers of JAX, equal to the bit, with a fast lowering for CPUs.

Threefry, Salmon et al. (2011), is twenty rounds of addition, rotation and exclusive or. For a CPU
JAX writes them as a loop of five trips, some eighty small operations, between others that take the
key apart, count, and put the words together. Here one draw is one operation: five times as fast for
a few hundred numbers, and programs with many draws compile in less time. The numbers are the same
to the bit. `use_fast_random` makes it so for all that the process compiles from then on; importing
this file changes nothing.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxpg.core.types import Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key_1: Array, key_2: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Two words from two words under a key of two words, each [...] uint32."""

    def rotated(x, r):
        high = lax.shift_left(x, np.uint32(r))
        return lax.bitwise_or(high, lax.shift_right_logical(x, np.uint32(32 - r)))

    parity = lax.bitwise_xor(lax.bitwise_xor(key_1, key_2), np.uint32(0x1BD11BDA))
    schedule = key_1, key_2, parity
    x, y = lax.add(x, schedule[0]), lax.add(y, schedule[1])
    for i in range(5):
        for r in ROTATIONS[i % 2]:
            x = lax.add(x, y)
            y = lax.bitwise_xor(rotated(y, r), x)
        x = lax.add(x, schedule[(i + 1) % 3])
        y = lax.add(y, lax.add(schedule[(i + 2) % 3], np.uint32(i + 1)))
    return x, y


def hash_counts(keys: Array, counts: Array) -> tuple[Array, Array]:
    """Two words for each count, under keys [..., 2] of which the first axes are broadcast."""
    words = keys[..., 0], keys[..., 1], jnp.zeros_like(counts), counts
    return threefry(*jnp.broadcast_arrays(*words))


def hash_shape(keys: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Two words [..., *shape] of the counts 0, 1, ... under each of keys [..., 2]."""
    counts = lax.iota(np.uint32, math.prod(shape)).reshape(shape)
    return hash_counts(keys.reshape(*keys.shape[:-1], *[1] * len(shape), 2), counts)


def join(x: Array, y: Array) -> Array:
    """Joins two words into a key [..., 2]; XLA would make two hashes of a concatenation."""
    shape = (*x.shape, 2)
    first = lax.broadcasted_iota(np.uint32, shape, x.ndim) == 0
    return lax.select(first, *(jnp.broadcast_to(word[..., None], shape) for word in (x, y)))


@functools.partial(jax.jit, static_argnames=("bit_width", "shape"))
def draw_bits(keys: Array, *, bit_width: int, shape: tuple[int, ...]) -> Array:
    """Draws unsigned integers [..., *shape] of up to 32 bits from keys [..., 2]."""
    bits = lax.bitwise_xor(*hash_shape(keys, shape))
    return lax.convert_element_type(bits, f"uint{bit_width}")


@functools.partial(jax.jit, static_argnames="shape")
def split_keys(keys: Array, *, shape: tuple[int, ...]) -> Array:
    """Makes new keys [..., *shape, 2] of keys [..., 2]."""
    return join(*hash_shape(keys, shape))


@jax.jit
def fold_in(keys: Array, data: Array) -> Array:
    """Makes new keys [..., 2] of keys [..., 2] and integers, broadcast against each other."""
    return join(*hash_counts(keys, lax.convert_element_type(data, np.uint32)))


def _fits(impl: Any, bit_width: int = 32, shape: tuple[int, ...] = ()) -> bool:
    """True if a draw is one of those above: of this hash, this wide, and counted in one word."""
    counted = all(isinstance(n, int) for n in shape) and math.prod(shape) < 2**32
    kind = impl.name == "threefry2x32" and jax.config.values["jax_threefry_partitionable"]
    return kind and counted and bit_width <= 32


def _make_rule(method: str, draw: Callable[..., Array]) -> Callable:
    """Lowering rule for a primitive of JAX's keys, by `draw` where it fits, else as JAX has it.

    XLA would put the hash into every operation that reads it: a chain of `split`s into itself,
    which takes seconds to compile. A function that may not be inlined, with one result, stays
    apart.
    """
    from jax.experimental.xla_metadata import set_xla_metadata
    from jax.interpreters.mlir import lower_fun

    def rule(ctx: Any, keys: Any, *data: Any, **params: Any) -> Any:
        aval, *others = ctx.avals_in
        impl = aval.dtype._impl

        def apart(*args):
            with set_xla_metadata(inlineable="false"):
                return draw(*args, **params)

        def usual(*args):
            if data:
                return jnp.vectorize(getattr(impl, method), signature="(k),()->(k)")(*args)

            def function(key):
                return getattr(impl, method)(key, *params.values())

            for _ in range(aval.ndim):
                function = jax.vmap(function)
            return function(*args)

        base = jax.core.ShapedArray((*aval.shape, *impl.key_shape), np.uint32)
        lower = lower_fun(apart if _fits(impl, **params) else usual, multiple_results=False)
        return lower(ctx.replace(avals_in=[base, *others]), keys, *data)

    return rule


@functools.cache
def use_fast_random() -> bool:
    """Switches the process to the fast hash for a CPU; returns whether it is on.

    `jaxpg.train`, `run`, `evaluate` and the command call it; call it yourself before you compile
    loops of your own over `agent.step`. It holds for every program compiled afterwards, other
    code's too, whose numbers stay the same to the bit. Where JAX's internals, which this needs,
    have moved, it changes nothing and JAX's own hash stays.

    >>> jaxpg.use_fast_random()
    True
    """
    try:
        from jax.extend.core import Primitive
        from jax.extend.core.primitives import random_bits_p, random_fold_in_p, random_split_p
        from jax.interpreters import mlir

        rules = {
            random_bits_p: _make_rule("random_bits", draw_bits),
            random_split_p: _make_rule("split", split_keys),
            random_fold_in_p: _make_rule("fold_in", fold_in),
        }

        # Copies of the primitives, which nothing else has, show whether the rules still work.
        copies = [Primitive("rehearsal") for _ in rules]
        for copy, (primitive, rule) in zip(copies, rules.items(), strict=True):
            copy.def_effectful_abstract_eval(primitive.abstract_eval)
            mlir.register_lowering(copy, rule, platform="cpu")

        def rehearse(key):
            bits, split, fold = copies
            folded = fold.bind(split.bind(key, shape=()), np.uint32(0))
            return bits.bind(folded, bit_width=32, shape=())

        key = jax.eval_shape(jax.random.key, 0)
        jax.jit(rehearse).trace(key).lower(lowering_platforms=("cpu",))
        for primitive, rule in rules.items():
            mlir.register_lowering(primitive, rule, platform="cpu")
    except Exception:  # whatever a JAX of tomorrow raises
        return False
    return True
