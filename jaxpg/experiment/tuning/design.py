"""Design of a search: which programs there are, and which points are tried in each.

A combination of static fields is a program that takes seconds to compile, so there are few of them,
as different from each other as can be. Numbers cost no compilation: within a program they are
spread over their ranges.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxpg.core.config import plain, static_fields
from jaxpg.experiment.sweeps.points import Point, Range, grid, random
from jaxpg.experiment.tuning.space import Space

CANDIDATES = 4096  # combinations that are looked at


def choose_programs(
    cfg: Any, space: Space, count: int, check: Callable[[Point], Any], seed: int = 0
) -> list[Point]:
    """Chooses `count` combinations of the static fields, or as many as there are that check(point)
    raises no ValueError for. Raises that of the one nearest to the config if it refuses all.

    The first is nearest to the config. Each other one is the farthest from those before it, by the
    fields in which it differs from the nearest of them (the farthest-point design of Gonzalez 1985,
    doi:10.1016/0304-3975(85)90224-5); of equals one by lot.
    """
    lists = {name: [*map(plain, space[name])] for name in static_fields(type(cfg)) & space.keys()}
    lists = {name: lists[name] for name in space if name in lists}  # in the order of the space
    many = math.prod(map(len, lists.values())) > CANDIDATES
    every = random(CANDIDATES, lists, seed=seed) if many else grid(lists)
    own = {name: plain(getattr(cfg, name)) for name in lists}
    order = np.random.default_rng(seed).permutation(len(every))
    differ = lambda a, b: sum(a[name] != b[name] for name in lists)  # noqa: E731
    nearest = np.array([differ(every[i], own) for i in order])
    chosen, refused = [], []
    rank = nearest * -1.0  # the first: as the config is
    while len(chosen) < count and np.isfinite(rank).any():
        best = int(np.argmax(rank))
        point = every[order[best]]
        try:
            check(point)
        except ValueError as error:
            refused.append(error)
            rank[best] = -np.inf
            continue
        apart = np.array([differ(every[i], point) for i in order])
        nearest = np.minimum(nearest, apart) if chosen else apart
        chosen.append(point)
        rank = np.where(np.isfinite(rank) & (nearest > 0), nearest, -np.inf)
    if not chosen:
        raise refused[0]
    return chosen


def spread_points(space: Space, count: int, seed: list[int]) -> list[Point]:
    """Draws points so that each field has one in each `count`-th of its range or list: a Latin
    hypercube (McKay, Beckman & Conover 1979, doi:10.2307/1268522)."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, x in space.items():
        shares = (rng.permutation(count) + rng.random(count)) / count
        drawn[name] = [
            x.quantile(u) if isinstance(x, Range) else x[int(u * len(x))] for u in shares
        ]
    if not drawn:
        return [{}]
    return [dict(zip(drawn, values, strict=True)) for values in zip(*drawn.values(), strict=True)]


def propose_points(
    cfg: Any, space: Space, programs: list[Point], each: int, seed: list[int]
) -> list[Point]:
    """Proposes `each` points of every program."""
    statics = static_fields(type(cfg))
    numbers = {name: x for name, x in space.items() if name not in statics}
    return [
        {name: (program | point)[name] for name in space}
        for i, program in enumerate(programs)
        for point in spread_points(numbers, each, [*seed, i])
    ]
