"""Random numbers of JAX, equal to the bit, with a fast lowering for CPUs.

Threefry, Salmon et al. (2011), is twenty rounds of addition, rotation and exclusive or. For a CPU
JAX writes them as a loop of five trips, some eighty small operations. Written out they are one:
five times as fast for a few hundred numbers, and programs with many draws compile in less time.
The numbers are the same to the bit. `use_fast_random` makes it so for all that the process compiles
from then on; importing this file changes nothing.
"""

import functools

import jax
import numpy as np
from jax import lax

from jaxpg.core.types import Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
HALF = np.uint64(32)


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


@jax.jit
def _packed(*words: Array) -> Array:
    """Packs two words into one [...] uint64."""
    shape = lax.broadcast_shapes(*(x.shape for x in words))
    rank = len(shape)
    wide = (lax.broadcast_in_dim(x, shape, range(rank - x.ndim, rank)) for x in words)
    x, y = (lax.convert_element_type(x, np.uint64) for x in threefry(*wide))
    return lax.bitwise_or(lax.shift_left(x, HALF), y)


def _once(*words: Array) -> tuple[Array, ...]:
    """Threefry, worked out once for all that read either word.

    XLA would put the hash into every operation that reads it: a chain of `split`s into itself,
    which takes seconds to compile, and each of two words its own whole hash. A function that may
    not be inlined, with one result, stays apart.
    """
    from jax.experimental.xla_metadata import set_xla_metadata

    with jax.enable_x64(True):
        with set_xla_metadata(inlineable="false"):
            both = _packed(*words)
        halves = lax.shift_right_logical(both, HALF), both
        return tuple(lax.convert_element_type(x, np.uint32) for x in halves)


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
        from jax.extend.core.primitives import threefry2x32_p
        from jax.interpreters import mlir

        # A primitive that nothing else has shows whether the rule still works.
        rehearsal = Primitive("rehearsal")
        rehearsal.multiple_results = True
        rehearsal.def_abstract_eval(lambda *words: words[:2])
        rule = mlir.lower_fun(_once, multiple_results=True)
        mlir.register_lowering(rehearsal, rule, platform="cpu")
        jax.jit(rehearsal.bind).trace(*[np.zeros(1, np.uint32)] * 4).lower(
            lowering_platforms=("cpu",)
        )
        mlir.register_lowering(threefry2x32_p, rule, platform="cpu")
    except Exception:  # whatever a JAX of tomorrow raises
        return False
    return True
