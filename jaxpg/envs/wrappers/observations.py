"""Rules of observations: frames, vectors, the time, and images."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from jaxpg.core.checks import require_bool, show
from jaxpg.core.checks import require_integer as require
from jaxpg.core.games import STATE, is_game
from jaxpg.core.single import name_of
from jaxpg.core.types import Array, Key, Tree
from jaxpg.envs.wrappers.layer import Move, Rule, State, same_reward
from jaxpg.envs.wrappers.params import LIMIT, Params

GRAY = (0.2125, 0.7154, 0.0721)  # of red, green and blue: gymnasium's
MASK = "action_mask"


def frame_stack(core: Any, num: int) -> Rule:
    """Rule that stacks observations. Its memory: the stack."""
    require("frame_stack num", num, 1)
    space = core.observation_space(core.default_params)
    if is_game(core):
        _require_rows(core, space)

    def start(params: Params, obs: Tree):
        frames = map_arrays(lambda one, x: jnp.concatenate([_row(one, x)] * num, -1), space, obs)
        return frames, _without_mask(frames)

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        new = move(key, state.inner, action, params.inner)
        rows = map_arrays(_row, space, new.obs)

        def push(frames: Array, x: Array) -> Array:
            return jnp.concatenate([frames[..., x.shape[-1] :], x], -1)

        frames = jax.tree.map(push, state.memory, _without_mask(rows))
        return new._replace(obs=_with_mask(frames, new.obs)), frames

    def stacked(space: Any, params: Params) -> Any:
        return map_spaces(lambda one: _repeat(_as_box(one), num), space)

    return Rule(start, step, observation_space=stacked)


def _require_rows(core: Any, space: Any) -> None:
    """Raises ValueError for a game whose frames would lie along the axis of its players."""
    inner = getattr(space, "spaces", {"observation": space})
    for name, one in inner.items():
        if name not in (MASK, STATE) and len(one.shape) < 2:
            raise ValueError(
                f"frame_stack of {name_of(core)}, a game whose {name} is of shape "
                f"{tuple(one.shape)}: allowed is [players, ...] with an axis more to stack along"
            )


def flatten_observation(core: Any) -> Rule:
    """Rule that lays observations out as vectors."""
    space = core.observation_space(core.default_params)

    def change(obs: Tree) -> Tree:
        rows = _leaves(_without_mask(map_arrays(_row, space, obs)))
        flat = jnp.concatenate([x.ravel() for x in rows])
        return {"obs": flat, MASK: obs[MASK]} if _is_masked(obs) else flat

    def flat(space: Any, params: Params) -> Any:
        boxes = [_as_box(one) for one in _leaves(_space_without_mask(space))]
        low, high = (jnp.concatenate([_bound(box, end).ravel() for box in boxes]) for end in _ENDS)
        box = spaces.Box(low, high, (sum(math.prod(box.shape) for box in boxes),), _common(boxes))
        return _beside_mask(box, space)

    return _of_observations(change)._replace(observation_space=flat)


def time_aware_observation(core: Any, normalize: bool) -> Rule:
    """Rule that tells the time. Its memory: the steps so far."""
    require_bool("time_aware_observation normalize", normalize)
    if normalize and not hasattr(core.default_params, LIMIT):
        raise ValueError(
            f"time_aware_observation of {name_of(core)}, which has no {LIMIT}: allowed is "
            "normalize=False, or an environment with a time_limit"
        )
    space = core.observation_space(core.default_params)
    vector = hasattr(space, "low") and len(space.shape) == 1

    def longest(params: Params) -> Any:
        return jnp.asarray(getattr(params.inner, LIMIT), float) if normalize else 1.0

    def tell(params: Params, obs: Tree, steps: Array) -> Tree:
        time = (steps / longest(params)).astype(float)[None]
        if vector:
            return jnp.concatenate([obs, time])
        return {**obs, "time": time} if isinstance(obs, dict) else {"obs": obs, "time": time}

    def start(params: Params, obs: Tree):
        steps = jnp.zeros((), jnp.int32)
        return tell(params, obs, steps), steps

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        new, steps = move(key, state.inner, action, params.inner), state.memory + 1
        return new._replace(obs=tell(params, new.obs, steps)), steps

    def timed(space: Any, params: Params) -> Any:
        most = 1.0 if normalize else getattr(params.inner, LIMIT, jnp.inf)
        time = spaces.Box(0.0, most, (1,))
        if not vector:
            known = getattr(space, "spaces", None)
            rest = known if isinstance(known, dict) else {"obs": space}
            return spaces.Dict({**rest, "time": time})
        low, high = (jnp.append(_bound(space, end), getattr(time, end)) for end in _ENDS)
        return spaces.Box(low, high, (space.shape[0] + 1,))

    if isinstance(getattr(space, "spaces", None), dict) and "time" in space.spaces:
        text = f"time_aware_observation of {name_of(core)}, whose observations have a time"
        raise ValueError(f"{text} already: allowed is one")
    return Rule(start, step, observation_space=timed, goal_reward=same_reward)


def grayscale_observation(core: Any) -> Rule:
    """Rule that makes images gray."""
    shape = _image_shape("grayscale_observation", core)
    if len(shape) != 3 or shape[-1] != 3:
        raise ValueError(
            f"grayscale_observation of {name_of(core)}, whose observations are of shape {shape}: "
            "allowed are images [H, W, 3]"
        )

    def change(obs: Array) -> Array:
        gray = (obs * jnp.array(GRAY)).sum(-1, keepdims=True)
        return gray.astype(obs.dtype)  # of integers what `floor` leaves

    def gray(space: Any, params: Params) -> Any:
        low, high = (change(jnp.asarray(_bound(space, end), float)) for end in _ENDS)
        return spaces.Box(low, high, (*shape[:2], 1), space.dtype)

    return _of_observations(change)._replace(observation_space=gray)


def resize_observation(core: Any, shape: tuple[int, int]) -> Rule:
    """Rule that resizes images."""
    before = _image_shape("resize_observation", core)
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError(f"resize_observation shape={show(shape)}: allowed are two integers >= 1")
    for side in shape:
        require("resize_observation shape", side, 1)
    rows, columns = (_shares(a, b) for a, b in zip(before[:2], shape, strict=True))

    def resize(x: Array) -> Array:
        return jnp.einsum("ih,hw...,jw->ij...", rows, x.astype(float), columns)

    def change(obs: Array) -> Array:
        whole = not jnp.issubdtype(obs.dtype, jnp.floating) and obs.dtype != jnp.bool_
        return jnp.round(resize(obs)).astype(obs.dtype) if whole else resize(obs)

    def resized(space: Any, params: Params) -> Any:
        ends = [_bound(space, end) for end in _ENDS]  # means keep the bounds that are the same
        low, high = ends[0].min((0, 1)), ends[1].max((0, 1))
        new = (*shape, *before[2:])
        dtype = jnp.result_type(float) if space.dtype == jnp.bool_ else space.dtype
        return spaces.Box(jnp.broadcast_to(low, new), jnp.broadcast_to(high, new), new, dtype)

    return _of_observations(change)._replace(observation_space=resized)


def _shares(before: int, after: int) -> np.ndarray:
    """The share [after, before] that each pixel has in each new one: of the line that a new one
    covers, the part that lies in the old one."""
    edges, old = np.arange(after + 1) * before / after, np.arange(before)
    low = np.maximum(edges[:-1, None], old)
    high = np.minimum(edges[1:, None], old + 1)
    return np.maximum(high - low, 0) * after / before


def _image_shape(kind: str, core: Any) -> tuple[int, ...]:
    """The shape of a core's images. Raises ValueError for other observations."""
    space = core.observation_space(core.default_params)
    shape = tuple(getattr(space, "shape", ()))
    if not hasattr(space, "low") or len(shape) not in (2, 3):
        raise ValueError(
            f"{kind} of {name_of(core)}, whose observations are {space}: allowed are images, a Box "
            "of [H, W] or [H, W, C]"
        )
    return shape


def _of_observations(change: Callable[[Tree], Tree]) -> Rule:
    """Rule that makes another observation of each."""

    def start(params: Params, obs: Tree):
        return change(obs), ()

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        new = move(key, state.inner, action, params.inner)
        return new._replace(obs=change(new.obs)), ()

    return Rule(start, step)


# Spaces and observations, leaf by leaf; a mask of actions is left as it is.

_ENDS = ("low", "high")


def _is_masked(obs: Tree) -> bool:
    return isinstance(obs, dict) and MASK in obs


def _without_mask(obs: Tree) -> Tree:
    return {k: x for k, x in obs.items() if k != MASK} if _is_masked(obs) else obs


def _with_mask(changed: Tree, obs: Tree) -> Tree:
    return {**changed, MASK: obs[MASK]} if _is_masked(obs) else changed


def map_arrays(change: Callable[[Any, Array], Array], space: Any, obs: Tree) -> Tree:
    """Changes each array of an observation, by its space: change(space, array)."""
    inner = getattr(space, "spaces", None)
    if isinstance(obs, dict):
        return {
            k: x if k == MASK else map_arrays(change, None if inner is None else inner[k], x)
            for k, x in obs.items()
        }
    if isinstance(obs, tuple):
        of = [None] * len(obs) if inner is None else inner
        return tuple(map_arrays(change, one, x) for one, x in zip(of, obs, strict=True))
    return change(space, obs)


def map_spaces(change: Callable[[Any], Any], space: Any) -> Any:
    """Changes each space of an array."""
    inner = getattr(space, "spaces", None)
    if isinstance(inner, dict):
        return spaces.Dict({k: x if k == MASK else map_spaces(change, x) for k, x in inner.items()})
    if inner is not None:
        return spaces.Tuple(tuple(map_spaces(change, x) for x in inner))
    return change(space)


def _space_without_mask(space: Any) -> Any:
    inner = getattr(space, "spaces", None)
    if isinstance(inner, dict) and MASK in inner:
        return spaces.Dict({k: x for k, x in inner.items() if k != MASK})
    return space


def _beside_mask(box: Any, space: Any) -> Any:
    inner = getattr(space, "spaces", None)
    if isinstance(inner, dict) and MASK in inner:
        return spaces.Dict({"obs": box, MASK: inner[MASK]})
    return box


def _leaves(tree: Any) -> list[Any]:
    """Spaces of arrays, or arrays, those of a dict by their names."""
    inner = getattr(tree, "spaces", tree)
    if isinstance(inner, dict):
        return [one for name in sorted(inner) for one in _leaves(inner[name])]
    if isinstance(inner, tuple):
        return [x for one in inner for x in _leaves(one)]
    return [inner]


def _row(space: Any, x: Array) -> Array:
    """An array with a last axis, along which it can be stacked; a discrete one is one-hot."""
    x = jnp.asarray(x)
    if hasattr(space, "n"):
        return jax.nn.one_hot(x, space.n, dtype=float)
    return x if x.ndim else x[None]


def _as_box(space: Any) -> Any:
    """The Box of what `_row` makes."""
    if hasattr(space, "low"):
        shape = tuple(space.shape) or (1,)
        low, high = (jnp.broadcast_to(jnp.asarray(getattr(space, end)), shape) for end in _ENDS)
        return spaces.Box(low, high, shape, space.dtype)
    if hasattr(space, "n"):
        return spaces.Box(0.0, 1.0, (space.n,))
    most = jnp.array(space.nvec) - 1 if hasattr(space, "nvec") else jnp.ones(space.shape, jnp.int32)
    return spaces.Box(jnp.zeros_like(most), most, tuple(space.shape), space.dtype)


def _bound(box: Any, end: str) -> Array:
    return jnp.broadcast_to(jnp.asarray(getattr(box, end)), box.shape)


def _repeat(box: Any, num: int) -> Any:
    low, high = (jnp.concatenate([_bound(box, end)] * num, -1) for end in _ENDS)
    return spaces.Box(low, high, (*box.shape[:-1], box.shape[-1] * num), box.dtype)


def _common(boxes: list[Any]) -> Any:
    return jnp.result_type(*(box.dtype for box in boxes))
