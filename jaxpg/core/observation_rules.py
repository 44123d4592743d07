"""Rules of observations, by shapes: they are as their space says, with a mask of every action."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxpg.core import spaces
from jaxpg.core.types import Tree


def find_mask_faults(what: str, core: Any, told: Any) -> Iterator[str]:
    """Looks whether a mask, if there is one, has an entry for every action."""
    mask = told.get("action_mask") if isinstance(told, dict) else None
    if mask is None:
        return
    count = spaces.num_choices(core.action_space(core.default_params))
    if (shape := getattr(mask, "shape", None)) != (count,):
        found = "no array" if shape is None else f"of shape {shape}"
        yield f"{what} is {found}, allowed is ({count},), an entry for every action"


def _is_alike(inner: Any, obs: Tree) -> bool:
    """True for the dict of a Dict, and the tuple of a Tuple, of as many. inner: their spaces."""
    if isinstance(inner, Mapping):
        return isinstance(obs, dict)
    return isinstance(obs, tuple) and len(obs) == len(inner)


def find_observation_faults(what: str, space: Any, obs: Tree) -> Iterator[str]:
    """Looks whether an observation has elements, and the shapes that its space says. A mask of
    actions need not be in the space."""
    inner = getattr(space, "spaces", None)
    if inner is not None and not _is_alike(inner, obs):
        kind = "Dict" if isinstance(inner, Mapping) else f"Tuple of {len(inner)}"
        found = f"a tuple of {len(obs)}" if isinstance(obs, tuple) else f"a {type(obs).__name__}"
        found = "an array" if hasattr(obs, "shape") else found
        yield f"{what} is {found}, its space a {kind}: both the same"
    elif isinstance(obs, dict) and isinstance(inner, Mapping):
        mine, said = (set(x) - {"action_mask"} for x in (obs, inner))
        if mine != said:
            yield f"{what} has {sorted(mine)}, its space {sorted(said)}: both the same"
        for name in said & mine:
            yield from find_observation_faults(f"{what} {name!r}", inner[name], obs[name])
    elif isinstance(obs, tuple) and inner is not None and len(inner) == len(obs):
        for i, one in enumerate(obs):
            yield from find_observation_faults(f"{what} {i}", inner[i], one)
    elif (shape := getattr(obs, "shape", None)) is not None:
        said = tuple(getattr(space, "shape", shape))
        if shape != said or 0 in shape:
            yield f"{what} of shape {shape}, its space of {said}: allowed is one shape, without a 0"
