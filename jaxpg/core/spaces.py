"""Action spaces that gymnax lacks: several choices at once. Like gymnax's, they are static.

And which numbers bound a space.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxpg.core.types import Array, Key


def is_bound(x: Any) -> Any:
    """True where a number bounds a space; infinity and gymnax's 3.4e38 stand for no bound."""
    return abs(x) < 1e30


class MultiDiscrete:
    """Vectors of integers [M]; entry i is one of 0 .. nvec[i] - 1."""

    def __init__(self, nvec: Sequence[int], dtype=jnp.int32):
        """Raises ValueError unless every number of choices is an integer >= 1."""
        self.nvec = tuple(int(n) for n in nvec)
        if not self.nvec or min(self.nvec) < 1 or any(int(n) != n for n in nvec):
            raise ValueError(f"MultiDiscrete nvec={nvec!r}: allowed are integers >= 1")
        self.shape, self.dtype = (len(self.nvec),), jnp.dtype(dtype)

    def __repr__(self) -> str:
        return f"MultiDiscrete({list(self.nvec)})"

    def sample(self, key: Key) -> Array:
        return jax.random.randint(key, self.shape, 0, jnp.array(self.nvec), self.dtype)

    def contains(self, x: Array) -> Array:
        x = jnp.asarray(x)
        if x.shape != self.shape:
            return jnp.zeros((), bool)
        return ((x >= 0) & (x < jnp.array(self.nvec)) & (x == jnp.floor(x))).all()


class MultiBinary:
    """Arrays of zeros and ones, of any shape."""

    def __init__(self, shape: int | Sequence[int], dtype=jnp.int32):
        """Raises ValueError unless every side is an integer >= 1."""
        self.shape = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        if not self.shape or any(int(n) != n or n < 1 for n in self.shape):
            raise ValueError(f"MultiBinary shape={shape!r}: allowed are integers >= 1")
        self.dtype = jnp.dtype(dtype)

    def __repr__(self) -> str:
        return f"MultiBinary({list(self.shape)})"

    def sample(self, key: Key) -> Array:
        return jax.random.bernoulli(key, 0.5, self.shape).astype(self.dtype)

    def contains(self, x: Array) -> Array:
        x = jnp.asarray(x)
        return ((x == 0) | (x == 1)).all() if x.shape == self.shape else jnp.zeros((), bool)


def kind(space) -> str:
    """One of "discrete", "multi-discrete", "multi-binary", "continuous"; else its own name."""
    if hasattr(space, "n"):
        return "discrete"
    if hasattr(space, "nvec"):
        return "multi-discrete"
    if isinstance(space, MultiBinary):
        return "multi-binary"
    return "continuous" if hasattr(space, "low") else str(space)


def num_choices(space) -> int:
    """Number of entries of an action mask, and of a head's logits."""
    if hasattr(space, "n"):
        return space.n
    return sum(space.nvec) if hasattr(space, "nvec") else math.prod(space.shape)
