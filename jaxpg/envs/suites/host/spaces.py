"""Spaces of gymnasium as jaxpg has them, and values of the one as those of the other."""

from typing import Any

import gymnasium
import jax
import numpy as np
from gymnax.environments import spaces

from jaxpg.core.spaces import MultiBinary, MultiDiscrete
from jaxpg.core.types import Tree

SIMPLE = "Box, Discrete, MultiDiscrete (in a row) and MultiBinary"


def convert(what: str, space: Any, nested: bool) -> Any:
    """The space as jaxpg has it. nested: whether a Dict or a Tuple is allowed.

    Raises ValueError for a kind of space that has no counterpart. what: the name in it.
    """
    kinds = gymnasium.spaces
    if isinstance(space, kinds.Discrete):
        return spaces.Discrete(int(space.n))
    if isinstance(space, kinds.MultiDiscrete) and space.nvec.ndim == 1:
        return MultiDiscrete(space.nvec.tolist())
    if isinstance(space, kinds.MultiBinary):
        return MultiBinary(space.shape)
    if isinstance(space, kinds.Box):
        dtype = jax.dtypes.canonicalize_dtype(space.dtype)
        low: Any = space.low
        high: Any = space.high
        return spaces.Box(low, high, space.shape, dtype)
    if nested and isinstance(space, kinds.Dict):
        return spaces.Dict({k: convert(f"{what} {k!r}", x, True) for k, x in space.items()})
    if nested and isinstance(space, kinds.Tuple):
        return spaces.Tuple([convert(f"{what} {i}", x, True) for i, x in enumerate(space)])
    allowed = f"{SIMPLE}, and Dict and Tuple of them" if nested else SIMPLE
    raise ValueError(f"{what} space {space}: allowed are {allowed}")


def shapes(space: Any, num_envs: int) -> Tree:
    """Shapes and dtypes of a batch of the space's values."""
    kinds = gymnasium.spaces
    if isinstance(space, kinds.Dict):
        return {name: shapes(part, num_envs) for name, part in space.items()}
    if isinstance(space, kinds.Tuple):
        return tuple(shapes(part, num_envs) for part in space)
    dtype = jax.dtypes.canonicalize_dtype(space.dtype)
    return jax.ShapeDtypeStruct((num_envs, *space.shape), dtype)


def count_from_zero(space: Any, values: Tree, sign: int = -1) -> Tree:
    """Values of the space, whose integers begin at its `start`, as jaxpg's, which begin at 0; the
    other way round for sign=1."""
    kinds = gymnasium.spaces
    if isinstance(space, kinds.Dict):
        return {name: count_from_zero(part, values[name], sign) for name, part in space.items()}
    if isinstance(space, kinds.Tuple):
        parts = zip(space, values, strict=True)
        return tuple(count_from_zero(part, x, sign) for part, x in parts)
    start = getattr(space, "start", 0)
    return values + sign * start if np.any(start) else values
