"""Walls in the square [-1, 1] x [-1, 1]: boxes along its axes, in which no point may be.

Boxes are [W, 4] numbers, (left, bottom, right, top), and are known before anything compiles.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import show
from jaxpg.core.types import Array, Key

SIZE = 0.02  # of a point: it comes no nearer to a wall, so that it slips through no seam of two
LAYOUTS = {
    "wall": ((-0.05, -1.0, 0.05, 0.5),),  # from the south, with a passage in the north
    "rooms": (  # four, with a door in each wall between two
        (-0.05, -1.0, 0.05, -0.75), (-0.05, -0.25, 0.05, 0.25), (-0.05, 0.75, 0.05, 1.0),
        (-1.0, -0.05, -0.75, 0.05), (-0.25, -0.05, 0.25, 0.05), (0.75, -0.05, 1.0, 0.05),
    ),
}  # fmt: skip


def read_boxes(name: str, walls: Any) -> np.ndarray:
    """The boxes [W, 4] that an argument `walls` says: None, the name of a layout, or boxes.

    Raises ValueError for what is none of these, and for walls that leave no room or that part it.
    """
    given = LAYOUTS.get(walls, walls) if isinstance(walls, str) else () if walls is None else walls
    said = f"{name} walls={show(walls)}"
    layouts = ", ".join(map(repr, LAYOUTS))
    try:
        boxes = np.asarray(given, float).reshape(-1, 4) if np.size(given) % 4 == 0 else None
    except (TypeError, ValueError):
        boxes = None
    if boxes is None or not (np.isfinite(boxes).all() and (boxes[:, :2] <= boxes[:, 2:]).all()):
        raise ValueError(
            f"{said}: allowed are None, {layouts}, and boxes (left, bottom, right, top), "
            "left <= right and bottom <= top"
        )
    if _count_parts(free_cells(boxes)) != 1:
        raise ValueError(f"{said}: allowed are walls that leave one room in -1 .. 1, all connected")
    return boxes


def grow(boxes: np.ndarray) -> np.ndarray:
    """The boxes [W, 4] in which the middle of a point may not be."""
    return boxes + np.array([-SIZE, -SIZE, SIZE, SIZE])


def free_cells(boxes: np.ndarray) -> np.ndarray:
    """Cells [C, 4] that make up all that is free, without overlap: of the grid of all edges."""
    grown = grow(boxes)
    xs, ys = (np.unique(np.clip([-1, 1, *grown[:, i], *grown[:, i + 2]], -1, 1)) for i in (0, 1))
    corners = itertools.product(itertools.pairwise(xs), itertools.pairwise(ys))
    cells = np.array([(x[0], y[0], x[1], y[1]) for x, y in corners])
    middle = (cells[:, None, :2] + cells[:, None, 2:]) / 2
    inside = ((grown[:, :2] < middle) & (middle < grown[:, 2:])).all(-1).any(-1)
    return cells[~inside]


def _count_parts(cells: np.ndarray) -> int:
    """Number of parts in which cells are connected, by more than a corner."""
    low = np.maximum(cells[:, None, :2], cells[None, :, :2])
    high = np.minimum(cells[:, None, 2:], cells[None, :, 2:])
    width = high - low
    touch = (width >= 0).all(-1) & (width > 0).any(-1)
    before, part = np.array([]), np.arange(len(cells))
    while not np.array_equal(before, part):
        before, part = part, np.where(touch, part, len(cells)).min(-1, initial=len(cells))
    return len(set(part))


def draw_point(key: Key, cells: np.ndarray) -> Array:
    """A point [2], uniform over cells [C, 4]."""
    k_cell, k_place = jax.random.split(key)
    area = (cells[:, 2:] - cells[:, :2]).prod(-1)
    which = jax.random.choice(k_cell, len(cells), p=jnp.asarray(area / area.sum(), float))
    low, high = jnp.split(jnp.asarray(cells, float)[which], 2)
    place = low + jax.random.uniform(k_place, (2,)) * (high - low)
    return jnp.clip(place, low, high)  # what rounding put beyond would be in a wall


def slide(position: Array, move: Array, grown: np.ndarray) -> Array:
    """The place [2] to which a point gets that moves [2] along the first axis and then along the
    second, and stops at the square's edges and at walls. grown: [W, 4], as of `grow`."""
    for axis in (0, 1):
        x, other = position[axis], position[1 - axis]
        low, high = jnp.asarray(grown[:, axis], float), jnp.asarray(grown[:, axis + 2], float)
        beside = (grown[:, 1 - axis] < other) & (other < grown[:, 3 - axis])
        new = jnp.clip(x + move[axis], -1, 1)
        stop_above = jnp.where(beside & (x <= low), low, 1).min(initial=1)
        stop_below = jnp.where(beside & (x >= high), high, -1).max(initial=-1)
        position = position.at[axis].set(jnp.clip(new, stop_below, stop_above))
    return position
