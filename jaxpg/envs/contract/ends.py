"""Faults of what follows an end: a reset within `step`, and the successor in its info."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxpg.core.protocol import Fault
from jaxpg.core.types import Tree
from jaxpg.envs.contract.play import Play, Steps

SURE = 1e-5  # how likely chance alone may be, where a fault is what chance hardly gives


def numbers(tree: Tree, lead: int) -> np.ndarray:
    """The numbers [*lead, D] of a tree with leaves [*lead, ...]."""
    leaves = [x.reshape(*x.shape[:lead], -1).astype(float) for x in jax.tree.leaves(tree)]
    return np.concatenate(leaves, -1)


def not_equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a != b) & ~(np.isnan(a) & np.isnan(b))


class Fresh(NamedTuple):
    """Numbers [R, D] of R resets."""

    drawn: np.ndarray

    def is_like(self, x: np.ndarray) -> np.ndarray:
        """True [E] where x [E, D] may be of a reset: not far beyond those that were drawn, and what
        is the same in all of them is the same in it."""
        low, high = self.drawn.min(0), self.drawn.max(0)
        width = high - low
        inside = (x >= low - width) & (x <= high + width)
        return (inside | ~(x == x) & ~(low == low)).all(-1)

    def chance_of_one(self, count: int) -> float:
        """Probability that `count` resets are all the same, by the frequencies of resets."""
        _, counts = np.unique(self.drawn, axis=0, return_counts=True)
        return float(((counts / len(self.drawn)) ** count).sum())

    def has_returned(self, before: np.ndarray, after: np.ndarray) -> bool:
        """True if some number that is the same in all resets, and was not at the ends before
        [E, D], is so again after them, at all of these ends."""
        same = self.drawn[0] == self.drawn
        fixed = same.all(0)
        moved = (before != self.drawn[0]) & fixed
        back = (after == self.drawn[0]) | ~moved
        return bool((moved.any(0) & back.all(0)).any())


class Ends(NamedTuple):
    """Ends E of one kind, in all plays."""

    final: np.ndarray  # [E, D] the last observation, as info has it
    obs: np.ndarray  # [E, D] the first one of what follows
    before: np.ndarray  # [E, S] the state a step earlier
    state: np.ndarray  # [E, S] that of what follows

    @property
    def count(self) -> int:
        return len(self.obs)


def _ends_of(plays: list[Play], how: str) -> Ends:
    """Finds the ends of a kind; what is both has terminated."""
    parts = []
    for steps in (played.steps for played in plays):
        at = np.array(getattr(steps, how))
        at = at & ~steps.terminated if how == "truncated" else at
        at[0] = False  # the state before is not known
        earlier = np.roll(numbers(steps.state, 2), 1, 0)
        whole = (numbers(steps.final, 2), numbers(steps.obs, 2), earlier, numbers(steps.state, 2))
        parts.append([x[at] for x in whole])
    return Ends(*(np.concatenate(x) for x in zip(*parts, strict=True)))


def find_faults(name: str, plays: list[Play]) -> Iterator[Fault]:
    """Looks at what follows an end, at each kind of ends apart: a reset may be missing in one."""
    if any(_changes_on_the_way(played.steps) for played in plays):
        text = (
            f"{name}: final_observation is another one than the observation while an episode goes "
        )
        text += "on: allowed is what the step led to, before any reset"
        yield Fault("final observation", text)
    obs, state = Fresh(numbers(plays[0].first_obs, 1)), Fresh(numbers(plays[0].first_state, 1))
    for how in ("terminated", "truncated"):
        if (ends := _ends_of(plays, how)).count:
            yield from _find_in_observations(name, how, obs, ends)
            yield from _find_in_states(name, how, state, ends)


def _changes_on_the_way(steps: Steps) -> bool:
    differs = not_equal(numbers(steps.obs, 2), numbers(steps.final, 2)).any(-1)
    return bool((differs & ~steps.ended).any())


def _find_in_observations(name: str, how: str, fresh: Fresh, ends: Ends) -> Iterator[Fault]:
    like = fresh.is_like(ends.obs)
    stays = not not_equal(ends.obs, ends.final).any()
    by_chance = not stays or fresh.chance_of_one(ends.count) >= SURE
    if not like.any() or not (by_chance or like.all()):
        said = "is still that of the episode" if stays else "is none that reset gives"
        text = f"{name}: the observation after an episode has {how} {said}: allowed is the first "
        text += "one of a new episode, which step gives at an end"
        yield Fault("auto-reset", text)
    elif not by_chance:
        text = (
            f"{name}: final_observation where an episode has {how} is the first one of the next: "
        )
        yield Fault("final observation", f"{text}allowed is the last one of the old")


def _find_in_states(name: str, how: str, fresh: Fresh, ends: Ends) -> Iterator[Fault]:
    """Finds states after an end of which nothing is as reset makes it; counts may stay."""
    if not fresh.is_like(ends.state).any() and not fresh.has_returned(ends.before, ends.state):
        text = f"{name}: the state after an episode has {how} is none that reset gives: allowed is "
        yield Fault("auto-reset", f"{text}the state of a new episode, which step gives at an end")
    alike = not not_equal(ends.state, ends.state[:1]).any()
    if alike and fresh.chance_of_one(ends.count) < SURE:
        text = f"{name}: every episode after one has {how} begins in one state, and those of reset "
        text += "differ: allowed is to give reset, within step, a part of the key of step"
        yield Fault("keys", text)
