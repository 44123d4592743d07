"""Faults that random episodes show: in their numbers, in what follows an end, at time limits."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import single, spaces
from jaxpg.core.env import Env
from jaxpg.core.protocol import Fault
from jaxpg.core.types import Tree
from jaxpg.envs.contract import ends, goals, limits
from jaxpg.envs.contract.play import Play, play

ROUNDING = 1e-4  # beyond a bound, of its size


def find_faults(env: Env) -> list[Fault]:
    """Finds them in an environment whose shapes are right; it is compiled and run."""
    name, played = single.name_of(env.core), play(env)
    found = [*_find_infinite(name, played), *_find_no_legal_action(name, played)]
    found += [*_find_outside(name, env, played), *goals.find_in_steps(name, env, played)]
    if not _all_equal(played, play(env)):
        text = (
            f"{name}: the same keys give other episodes the second time: allowed is to draw from "
        )
        found.append(Fault("pure", f"{text}the key alone, and no callback that changes anything"))
        return found
    plays = [played]
    if (shorter := limits.with_limit(env)) is not None:
        limit, short = shorter
        plays.append(play(short))
        found += limits.find_faults(name, limit, *(x.steps for x in plays))
    found += limits.find_both_flags(name, env, played.steps)
    return found + list(ends.find_faults(name, plays))


def _all_equal(one: Tree, other: Tree) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def _find_infinite(name: str, played: Play) -> Iterator[Fault]:
    """Looks for NaN and infinity in observations, rewards and signals; observations where nothing
    follows may have some."""
    steps = played.steps
    going = {"reset": played.first_obs, "step": steps.obs}
    for method, obs in going.items():
        for path, x in _paths(obs):
            if not _finite(x).all():
                text = f"{name}: observation{path} of {method} has a NaN or infinity"
                yield Fault("finite", f"{text}, allowed are finite numbers")
    for path, x in _paths(steps.final):
        if not _finite(x)[~steps.terminated].all():
            text = f"{name}: final_observation{path} has a NaN or infinity where no episode has "
            yield Fault("finite", f"{text}terminated, allowed are finite numbers")
    if not _finite(steps.reward).all():
        text = f"{name}: reward is {steps.reward[~_finite(steps.reward)][0]} after some step"
        yield Fault("finite", f"{text}, allowed are finite numbers")
    for signal, x in steps.signals.items():
        if not _finite(x).all():
            text = f"{name}: the signal {signal!r} is {x[~_finite(x)][0]} after some step"
            yield Fault("finite", f"{text}, allowed are finite numbers")


def _finite(x: np.ndarray) -> np.ndarray:
    return np.isfinite(x) if jnp.issubdtype(x.dtype, jnp.inexact) else np.ones(x.shape, bool)


def _paths(tree: Tree) -> list[tuple[str, np.ndarray]]:
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return [(f" {jax.tree_util.keystr(p)}" if p else "", x) for p, x in pairs]


def _find_no_legal_action(name: str, played: Play) -> Iterator[Fault]:
    steps = played.steps
    masks = [] if played.first_mask is None else [played.first_mask]
    if steps.mask is not None:
        masks.append(steps.mask[~steps.ended])
    if any(not mask.astype(bool).any(-1).all() for mask in masks):
        text = f"{name}: action_mask leaves no action in a state that is no end"
        yield Fault("mask", f"{text}, allowed is at least one legal action")


def _find_outside(name: str, env: Env, played: Play) -> Iterator[Fault]:
    """Looks for observations that are not in their space, but for those that nothing follows."""
    space, steps = env.core.observation_space(env.params), played.steps
    going = ~steps.terminated
    final = jax.tree.map(lambda x: x[going], steps.final)
    yield from _outside(f"{name}: observation", "of reset", space, played.first_obs)
    found = list(_outside(f"{name}: observation", "of step", space, steps.obs))
    yield from found or _outside(f"{name}: final_observation", "", space, final)


def _outside(what: str, where: str, space: Any, obs: Tree) -> Iterator[Fault]:
    inner = getattr(space, "spaces", None)
    if inner is not None:
        for name in inner if isinstance(inner, Mapping) else range(len(inner)):
            if name != "action_mask":
                yield from _outside(f"{what} {name!r}", where, inner[name], obs[name])
        return
    x = np.asarray(obs, float)
    shape = tuple(space.shape)
    if hasattr(space, "low"):
        low, high = (np.asarray(b, float) for b in (space.low, space.high))
    elif hasattr(space, "n"):
        low, high = np.zeros(()), np.asarray(space.n - 1.0)
    else:
        most = np.asarray(space.nvec) - 1.0 if hasattr(space, "nvec") else np.ones(())
        low, high = np.zeros(()), most
    low, high = (np.broadcast_to(b, shape) for b in (low, high))
    slack = ROUNDING * np.maximum(1, np.where(spaces.is_bound(low), abs(low), 0))
    below = x < low - slack
    slack = ROUNDING * np.maximum(1, np.where(spaces.is_bound(high), abs(high), 0))
    if (out := below | (x > high + slack)).any():
        at = tuple(np.argwhere(out)[0][x.ndim - len(shape) :])
        values = x[(..., *at)]
        index = f" [{', '.join(map(str, at))}]" if at else ""
        text = f"{what}{index} {where}".rstrip()
        text += f" goes from {values.min():.4g} to {values.max():.4g}, its space from "
        text += f"{low[at]:.4g} to {high[at]:.4g}: allowed is what lies in the space"
        yield Fault("bounds", text)
