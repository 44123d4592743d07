"""Instances of host environments: the batches that there are in this process.

A state in JAX has the handle of its instance, which no other reset of this process had, its first
seed, and the number of steps that it has made. What cannot be, a state of another process or one
whose instance has gone on without it, is an error and no wrong transition.
"""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxpg.core.single import HostError
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


class At(NamedTuple):
    """The instance that a state means, and the step at which it has to be."""

    handle: int
    seed: int  # of its first environment
    steps: int  # since its reset


class Instance:
    """A batch, its first seed, and how many steps it has made since its reset."""

    def __init__(self, kind: Kind):
        self.kind, self.batch = kind, kind.make(kind.num_envs, kind.limit)
        self.seed, self.steps = 0, 0


_lock = threading.Lock()  # callbacks of several devices may come at once
_handles = itertools.count()
_used: OrderedDict[int, Instance] = OrderedDict()  # by handle; the newest is the last
_free: OrderedDict[Kind, Instance] = OrderedDict()  # that nobody steps any more: one of a kind


def begin(kind: Kind, seeds: list[int]) -> tuple[int, Tree]:
    """Resets an instance, a free one or a new one; returns its handle, and first observations."""
    with _lock:
        instance = _free.pop(kind, None)
        while len(_used) + len(_free) >= MOST:
            old = _used.popitem(last=False)[1] if _used else _free.popitem(last=False)[1]
            old.batch.close()
        instance = instance or Instance(kind)
        handle = next(_handles) % 2**31  # an int32
        _used[handle], instance.seed, instance.steps = instance, seeds[0], 0
    return handle, instance.batch.reset(seeds)


def advance(kind: Kind, at: At, action: np.ndarray) -> tuple[Any, ...]:
    """Steps an instance, see `Batch.step`.

    Raises HostError for one that is not there, or that has made another number of steps.
    """
    with _lock:
        instance = _find(kind, at)
        if instance is None:
            raise HostError(
                f"{kind.name}: the environments of this state are not on this host any more: it "
                f"is of another process, or {MOST} others were used since; `reset` them, or let "
                "jaxpg.resume do it"
            )
        if instance.steps != at.steps:
            raise HostError(
                f"{kind.name}: the state is of step {at.steps}, its environments on the host are "
                f"at {instance.steps}: they cannot go back, so that a state can be stepped once "
                "only"
            )
        _used.move_to_end(at.handle)
        instance.steps += 1
    return instance.batch.step(action)


def end(kind: Kind, at: At) -> None:
    """Gives an instance back: its next reset may be somebody else's."""
    with _lock:
        if _find(kind, at) is None:
            return
        instance = _used.pop(at.handle)
        if kind in _free:
            instance.batch.close()
        else:
            _free[kind] = instance


def _find(kind: Kind, at: At) -> Instance | None:
    instance = _used.get(at.handle)
    known = instance is not None and (instance.kind, instance.seed) == (kind, at.seed)
    return instance if known else None


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
