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


KINDS = ("discrete", "multi-discrete", "multi-binary", "continuous")


def kind(space) -> str:
    """One of "discrete", "multi-discrete", "multi-binary", "continuous"; else its own name."""
    if hasattr(space, "n"):
        return "discrete"
    if hasattr(space, "nvec"):
        return "multi-discrete"
    if isinstance(space, MultiBinary):
        return "multi-binary"
    return "continuous" if hasattr(space, "low") else str(space)


def stretch(space: Any, action: Array) -> Array:
    """A policy's action [..., D] in the units and the shape of the space; integers stay as they
    are.

    Policies speak in [-1, 1] for every dimension of a Box: -1 is its lower bound and 1 its upper
    one, and what lies beyond a bound is clipped to it. Where one is missing a unit is a unit of the
    space, and nothing is clipped on that side; where both are, the value is left as it is.
    Of a Box of integers each has an equal part of [-1, 1]; without bounds it is the nearest one.
    """
    if hasattr(space, "n"):
        return action
    if len(space.shape) != 1:  # policies speak in vectors
        action = action.reshape(*action.shape[:-1], *space.shape)
    if not hasattr(space, "low"):
        return action
    least, most = jnp.asarray(space.low, float), jnp.asarray(space.high, float)
    below, above = is_bound(least), is_bound(most)
    whole = not jnp.issubdtype(space.dtype, jnp.floating)
    end, middle = (most + 1, 0.5) if whole else (most, 0.0)  # an integer is what `floor` leaves
    low = jnp.where(below, least, jnp.where(above, end - 2, middle - 1))
    high = jnp.where(above, end, jnp.where(below, least + 2, middle + 1))
    action = jnp.clip(action, jnp.where(below, -1, -jnp.inf), jnp.where(above, 1, jnp.inf))
    action = low + (action + 1) / 2 * (high - low)
    if whole:
        inside = jnp.where(below, least, -jnp.inf), jnp.where(above, most, jnp.inf)
        return jnp.clip(jnp.floor(action), *inside).astype(space.dtype)
    # Spaces say float32 whatever x64 says; an environment's own numbers are of the default type.
    return action.astype(float)


def clip_to(space: Any, action: Array) -> Array:
    """The nearest action of a space, in its units; one of yes and no stays as it is."""
    if hasattr(space, "n"):
        return jnp.clip(action, 0, space.n - 1)
    if hasattr(space, "nvec"):
        return jnp.clip(action, 0, jnp.asarray(space.nvec) - 1)
    return jnp.clip(action, space.low, space.high) if hasattr(space, "low") else action


def num_choices(space) -> int:
    """Number of entries of an action mask, and of a head's logits."""
    if hasattr(space, "n"):
        return space.n
    return sum(space.nvec) if hasattr(space, "nvec") else math.prod(space.shape)
