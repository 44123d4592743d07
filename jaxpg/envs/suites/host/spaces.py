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
        if _has_channels_first(space):
            low, high = (np.moveaxis(x, 0, -1) for x in (low, high))
        return spaces.Box(low, high, low.shape, dtype)
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
    shape = (*space.shape[1:], space.shape[0]) if _has_channels_first(space) else space.shape
    return jax.ShapeDtypeStruct((num_envs, *shape), jax.dtypes.canonicalize_dtype(space.dtype))


def _has_channels_first(space: Any) -> bool:
    """True for pictures of bytes [C, H, W]: channels, or frames one after the other."""
    picture = space.dtype == np.uint8 and len(space.shape) == 3
    return picture and space.shape[0] < min(space.shape[1:])


def as_seen(space: Any, values: Tree) -> Tree:
    """A batch of the space's values as jaxpg has them: integers begin at 0, and the channels of a
    picture come last, where convolutions want them."""
    kinds = gymnasium.spaces
    if isinstance(space, kinds.Dict):
        return {name: as_seen(part, values[name]) for name, part in space.items()}
    if isinstance(space, kinds.Tuple):
        return tuple(as_seen(part, x) for part, x in zip(space, values, strict=True))
    if _has_channels_first(space):
        return np.moveaxis(values, 1, -1)
    start = getattr(space, "start", 0)
    return values - start if np.any(start) else values


def as_acted(space: Any, action: np.ndarray) -> np.ndarray:
    """Actions of jaxpg as the space has them, whose integers begin at its `start`."""
    start = getattr(space, "start", 0)
    return action + start if np.any(start) else action
