"""JAX's random numbers, the same ones, compiled for a CPU in another way.

Threefry, Salmon et al. (2011), is twenty rounds of addition, rotation and exclusive or. For a CPU
JAX writes them as a loop of five trips, some eighty small operations. Written out they are two:
five times as fast for a few hundred numbers, and programs with many draws compile in two thirds of
the time. To import this file makes it so for all that the process compiles from then on; the
numbers are the same to the bit.
"""

import jax
import numpy as np
from jax.extend.core.primitives import threefry2x32_p
from jax.interpreters import mlir

from jaxpg.core.types import Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key_1: Array, key_2: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Two words from two words under a key of two words, each [...] uint32."""
    schedule = key_1, key_2, key_1 ^ key_2 ^ np.uint32(0x1BD11BDA)
    x, y = x + schedule[0], y + schedule[1]
    for i in range(5):
        for r in ROTATIONS[i % 2]:
            x = x + y
            y = (y << np.uint32(r) | y >> np.uint32(32 - r)) ^ x
        x, y = x + schedule[(i + 1) % 3], y + schedule[(i + 2) % 3] + np.uint32(i + 1)
    # Without a barrier XLA would put the whole hash into everything that reads it, again and again.
    return jax.lax.optimization_barrier((x, y))


mlir.register_lowering(
    threefry2x32_p, mlir.lower_fun(threefry, multiple_results=True), platform="cpu"
)
