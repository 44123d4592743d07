"""JAX's random numbers, the same ones, compiled for a CPU in another way.

Threefry, Salmon et al. (2011), is twenty rounds of addition, rotation and exclusive or. For a CPU
JAX writes them as a loop of five trips, some eighty small operations. Written out they are one:
five times as fast for a few hundred numbers, and programs with many draws compile in less time. To
import this file makes it so for all that the process compiles from then on; the numbers are the
same to the bit.
"""

import jax
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.extend.core.primitives import threefry2x32_p
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo as hlo
from jax.interpreters import mlir

from jaxpg.core.types import Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
HALF = np.uint64(32)

threefry_p = Primitive("threefry")  # key_1, key_2, x, y: of one shape, uint32
threefry_p.multiple_results = True
threefry_p.def_abstract_eval(lambda key_1, key_2, x, y: (x, y))


def _threefry(ctx, key_1, key_2, x, y):
    """Two words from two words under a key of two words.

    In the compiler's own operations: JAX takes seven times as long to trace and lower a hundred of
    its own, for every draw of a program.
    """
    words = x.type

    def number(n):
        return hlo.constant(
            ir.DenseElementsAttr.get_splat(words, ir.IntegerAttr.get(words.element_type, n))
        )

    def rotated(x, r):
        return hlo.or_(hlo.shift_left(x, number(r)), hlo.shift_right_logical(x, number(32 - r)))

    schedule = key_1, key_2, hlo.xor(hlo.xor(key_1, key_2), number(0x1BD11BDA))
    x, y = hlo.add(x, schedule[0]), hlo.add(y, schedule[1])
    for i in range(5):
        for r in ROTATIONS[i % 2]:
            x = hlo.add(x, y)
            y = hlo.xor(rotated(y, r), x)
        x = hlo.add(x, schedule[(i + 1) % 3])
        y = hlo.add(y, hlo.add(schedule[(i + 2) % 3], number(i + 1)))
    return x, y


mlir.register_lowering(threefry_p, _threefry, platform="cpu")


@jax.jit
def _packed(*words: Array) -> Array:
    """The two words as one [...] uint64."""
    shape = np.broadcast_shapes(*(x.shape for x in words))
    rank = len(shape)
    words = (lax.broadcast_in_dim(x, shape, range(rank - x.ndim, rank)) for x in words)
    x, y = (lax.convert_element_type(x, np.uint64) for x in threefry_p.bind(*words))
    return lax.bitwise_or(lax.shift_left(x, HALF), y)


def _once(*words: Array) -> tuple[Array, Array]:
    """Threefry, worked out once for all that read either word.

    XLA would put the hash into every operation that reads it: a chain of `split`s into itself,
    which takes seconds to compile, and each of two words its own whole hash. A function that may
    not be inlined, with one result, stays apart.
    """
    with jax.enable_x64(True):
        with set_xla_metadata(inlineable="false"):
            both = _packed(*words)
        halves = lax.shift_right_logical(both, HALF), both
        return tuple(lax.convert_element_type(x, np.uint32) for x in halves)


mlir.register_lowering(threefry2x32_p, mlir.lower_fun(_once, multiple_results=True), platform="cpu")
