"""Instances of host environments: the batches that there are in this process.

A state in JAX has the handle of its instance, and the number of steps that this has made. What
cannot be, a state whose instance has gone on without it, is an error and no wrong transition.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxpg.core.types import Tree

MOST = 64  # that are kept; beyond them the least recently used one has to go


class Batch(Protocol):
    """Environments of a suite, side by side; values are the suite's own, in NumPy."""

    def reset(self, seeds: list[int]) -> Tree:
        """First observations, of episodes that these seeds decide."""
        ...

    def step(self, action: np.ndarray) -> tuple[Tree, Tree, np.ndarray, np.ndarray, np.ndarray]:
        """One step, and a reset where an episode ends: the observations to act on, the true
        successors, rewards, terminated, truncated."""
        ...

    def close(self) -> None: ...


class Kind(NamedTuple):
    """Instances of one kind can stand for each other, when they are reset."""

    name: str  # of the environment
    make: Callable[[int, int], Batch]  # number of environments, limit of an episode
    num_envs: int
    limit: int


class Instance:
    """A batch, and how many steps it has made since its reset."""

    def __init__(self, batch: Batch):
        self.batch, self.steps = batch, 0


_lock = threading.Lock()  # callbacks of several devices may come at once
_used: OrderedDict[tuple[Kind, int], Instance] = OrderedDict()  # by handle; the newest is the last
_free: OrderedDict[Kind, Instance] = OrderedDict()  # that nobody steps any more: one of a kind


def begin(kind: Kind, seeds: list[int]) -> Tree:
    """Resets an instance, whose handle is the first seed, and returns the first observations. It is
    the one of this handle, a free one, or a new one."""
    key = kind, seeds[0]
    with _lock:
        instance = _used.pop(key, None) or _free.pop(kind, None)
        while len(_used) + len(_free) >= MOST:
            old = _used.popitem(last=False)[1] if _used else _free.popitem(last=False)[1]
            old.batch.close()
        instance = instance or Instance(kind.make(kind.num_envs, kind.limit))
        _used[key], instance.steps = instance, 0
    return instance.batch.reset(seeds)


def advance(kind: Kind, handle: int, steps: int, action: np.ndarray) -> tuple[Any, ...]:
    """Steps an instance that has made so many steps, see `Batch.step`.

    Raises ValueError for one that is not there, or that has made another number of them.
    """
    with _lock:
        instance = _used.get((kind, handle))
        if instance is None:
            raise ValueError(_say_missing(kind, handle))
        if instance.steps != steps:
            raise ValueError(
                f"{kind.name}: the state is of step {steps}, its environments on the host are at "
                f"{instance.steps}: they cannot go back, so that a state can be stepped once only"
            )
        _used.move_to_end((kind, handle))
        instance.steps += 1
    return instance.batch.step(action)


def end(kind: Kind, handle: int) -> None:
    """Gives an instance back: its next reset may be somebody else's."""
    with _lock:
        instance = _used.pop((kind, handle), None)
        if instance is not None and kind in _free:
            instance.batch.close()
        elif instance is not None:
            _free[kind] = instance


def close_all() -> None:
    """Closes all instances; states that are still there cannot be stepped any more."""
    with _lock:
        for instance in [*_used.values(), *_free.values()]:
            instance.batch.close()
        _used.clear()
        _free.clear()


def count() -> tuple[int, int]:
    """The number of instances in use, and of free ones."""
    return len(_used), len(_free)


def _say_missing(kind: Kind, handle: int) -> str:
    others = {k.num_envs for k, h in _used if h == handle and k.name == kind.name}
    if others:
        return (
            f"{kind.name}: {kind.num_envs} environments are stepped, of {min(others)} that were "
            "reset together: allowed are all (the workers of a3c step some each)"
        )
    return (
        f"{kind.name}: the environments of this state are not on this host any more: it is of "
        f"another process, or {MOST} others were used since; `reset` them, or let jaxpg.resume do "
        "it"
    )
