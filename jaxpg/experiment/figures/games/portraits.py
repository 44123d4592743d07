"""Phase portraits of games of two players: learning paths over the exact vector field."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpg.experiment.figures import style
from jaxpg.experiment.figures.games import fields

ARROWS, CELLS = 11, 61  # of the field and of the basins, to a side
POINTS = 400  # of a drawn path
TIME, STEPS = 400.0, 500  # of a path to its basin's end; in units of 1 / the largest payoff
HEIGHT = np.sqrt(3) / 2  # of the triangle
CORNERS = np.array([[0, 0], [1, 0], [0.5, HEIGHT]])


class Portrait(NamedTuple):
    """A game of two players of two actions each, or of three and symmetric, and what learnt it."""

    payoffs: Any  # [2, n, n], as of `MatrixGame.payoffs`
    paths: Any = ()  # [S, T, 2, n] policies of both players, of S learning paths
    entropy_coef: float = 0.0  # of the field
    actions: Sequence[str] = ()  # their names; numbers if there are none
    note: str = ""


def phase_portraits(portraits: Mapping[str, Portrait], width: float = style.WIDE):
    """Draws learning paths over the exact field of each game, as a matplotlib Figure with a panel
    for each.

    Two actions: in the square of the probabilities of the first action of both players. Three: in
    the triangle of a policy that both players have, whose corners are the actions; a path's solid
    line is the first player, its dashed one the second. Arrows say where policies are moved by
    `ops.games.policy_gradient`, longer where they move faster. Shaded are the basins of the pure
    equilibria, found by following the field; dots are equilibria, pure ones filled.

    Raises ValueError for no portraits, for payoffs of another shape, for a triangle of a game that
    is not symmetric or of a field with entropy, and for paths of another shape.

    >>> hunt = [[[4, 0], [3, 1]], [[4, 3], [0, 1]]]
    >>> figure = phase_portraits({"stag hunt": Portrait(hunt, actions=("stag", "hare"))})
    >>> figure.axes[0].get_xlabel()
    'first player: chance of stag'
    """
    if not portraits:
        raise ValueError("portraits={}: allowed is at least one")
    for name, portrait in portraits.items():
        _judge(name, portrait)
    columns = 1 if width < style.BETWEEN or len(portraits) == 1 else 2
    figure, axes = style.new_panels(len(portraits), width, 0.2 + width / columns)
    for each, (name, portrait) in zip(axes, portraits.items(), strict=True):
        square = np.shape(portrait.payoffs)[1] == 2
        _draw_square(each, portrait) if square else _draw_triangle(each, portrait)
        each.set_aspect("equal")
        style.set_title(each, name, *[portrait.note] * bool(portrait.note))
    return figure


def _judge(name: str, portrait: Portrait) -> None:
    payoffs, paths = np.asarray(portrait.payoffs, float), np.asarray(portrait.paths)
    if payoffs.shape not in ((2, 2, 2), (2, 3, 3)):
        raise ValueError(
            f"{name}: payoffs of shape {payoffs.shape}, allowed is [2, n, n] of 2 or 3"
        )
    n = payoffs.shape[1]
    if n == 3 and not np.allclose(payoffs[0], payoffs[1].T):
        raise ValueError(
            f"{name}: payoffs of three actions are allowed where the game is symmetric"
        )
    if n == 3 and portrait.entropy_coef:
        raise ValueError(
            f"{name}: entropy_coef={portrait.entropy_coef}, allowed is 0 for three actions"
        )
    if paths.size and (paths.ndim != 4 or paths.shape[2:] != (2, n)):
        raise ValueError(f"{name}: paths of shape {paths.shape}, allowed is [S, T, 2, {n}]")
    if portrait.actions and len(portrait.actions) != n:
        raise ValueError(f"{name}: actions={portrait.actions}, allowed are {n} names")


def _find_basins(portrait: Portrait, policies: np.ndarray) -> np.ndarray:
    """Basins [S] of policies; -1 for those of a field with entropy."""
    if portrait.entropy_coef:
        return np.full(len(policies), -1)
    time = TIME / np.abs(portrait.payoffs).max()
    return fields.basins(portrait.payoffs, policies, time, STEPS)


def _colour_paths(portrait: Portrait) -> list[str]:
    """A colour for each path: that of the basin in which it begins, where there are basins."""
    starts = np.asarray(portrait.paths, float)[:, 0]
    there = _find_basins(portrait, starts)
    numbers = there if (there >= 0).any() else np.arange(len(starts))
    return [style.colour(int(i)) if i >= 0 else style.GREY for i in numbers]


def _thin_out(path: np.ndarray) -> np.ndarray:
    """At most POINTS of a path [T, ...], equally far apart along it, so that corners stay."""
    if len(path) <= POINTS:
        return path
    flat = path.reshape(len(path), -1)
    way = np.concatenate([[0], np.cumsum(np.abs(np.diff(flat, axis=0)).sum(1))])
    at = np.searchsorted(way, np.linspace(0, way[-1], POINTS))
    return path[np.unique(np.append(at, len(path) - 1).clip(max=len(path) - 1))]


def _draw_square(axes, portrait: Portrait) -> None:
    cells = (np.arange(CELLS) + 0.5) / CELLS
    x, y = (z.ravel() for z in np.meshgrid(cells, cells))
    there = _find_basins(portrait, _pairs(x, y)).reshape(CELLS, CELLS)
    axes.imshow(
        _shades(there), origin="lower", extent=(0, 1, 0, 1), interpolation="nearest", zorder=0
    )

    x, y = (z.ravel() for z in np.meshgrid(*[np.linspace(0.04, 0.96, ARROWS)] * 2))
    moves = fields.velocities(portrait.payoffs, _pairs(x, y), portrait.entropy_coef)[:, :, 0]
    _draw_arrows(axes, np.stack([x, y], -1), moves, 0.92 / (ARROWS - 1))

    paths = np.asarray(portrait.paths, float)
    for path, colour in zip(paths, _colour_paths(portrait) if len(paths) else (), strict=True):
        way = _thin_out(path[:, :, 0])
        axes.plot(*way.T, color=colour, linewidth=1.4)
        axes.plot(*way[0], "o", color=colour, markersize=3.5, markerfacecolor="white")
    points = fields.rest_points(portrait.payoffs, portrait.entropy_coef)
    _draw_points(axes, points[:, :, 0], points)
    name = portrait.actions[0] if portrait.actions else "action 1"
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_xlabel(f"first player: chance of {name}", fontsize=8)
    axes.set_ylabel(f"second player: chance of {name}", fontsize=8)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.grid(False)


def _pairs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Policies [S, 2, 2] of two players, from the chances [S] of their first actions."""
    return np.stack([np.stack([z, 1 - z], -1) for z in (x, y)], 1)


def _draw_triangle(axes, portrait: Portrait) -> None:
    weights = _grid(CELLS)
    there = _find_basins(portrait, np.stack([weights] * 2, 1))
    spots = weights @ CORNERS
    size = (axes.get_window_extent().width / axes.figure.dpi * 72 / CELLS * 1.2) ** 2
    axes.scatter(*spots.T, c=_shades(there), s=size, marker="h", linewidths=0, zorder=0)
    axes.plot(*CORNERS[[0, 1, 2, 0]].T, color=style.GREY, linewidth=0.8)

    weights = _grid(ARROWS)
    moves = fields.velocities(portrait.payoffs, np.stack([weights] * 2, 1))[:, 0]
    _draw_arrows(axes, weights @ CORNERS, moves @ CORNERS, 1 / (ARROWS + 2))

    paths = np.asarray(portrait.paths, float)
    for path, colour in zip(paths, _colour_paths(portrait) if len(paths) else (), strict=True):
        for player, dash in enumerate(("-", "--")):
            way = _thin_out(path[:, player]) @ CORNERS
            axes.plot(*way.T, dash, color=colour, linewidth=1.4)
        axes.plot(*way[0], "o", color=colour, markersize=3.5, markerfacecolor="white")
    points = fields.nash_equilibria(portrait.payoffs)
    points = points[np.abs(points[:, 0] - points[:, 1]).max(1) < 1e-9]  # what both may have
    _draw_points(axes, points[:, 0] @ CORNERS, points)
    names = portrait.actions or ("action 1", "action 2", "action 3")
    for corner, name, up in zip(CORNERS, names, (-1, -1, 1), strict=True):
        axes.annotate(
            name, corner, (0, 9 * up), textcoords="offset points", ha="center", va="center",
            fontsize=8,
        )  # fmt: skip
    axes.set(xlim=(-0.08, 1.08), ylim=(-0.1, HEIGHT + 0.1))
    axes.set_axis_off()


def _grid(side: int) -> np.ndarray:
    """Weights [S, 3] of the corners, inside the triangle, so many along a side."""
    counts = [(i, j, side - 1 - i - j) for i in range(side) for j in range(side - i)]
    return (np.array(counts) + 1 / 3) / side


def _shades(there: np.ndarray) -> np.ndarray:
    """Colours [..., 4] of basins; white where there is none."""
    from matplotlib.colors import to_rgba

    table = [to_rgba("white"), *(to_rgba(style.colour(i)) for i in range(there.max() + 1))]
    return 1 - 0.16 * (1 - np.array(table)[there + 1])


def _draw_arrows(axes, spots: np.ndarray, moves: np.ndarray, longest: float) -> None:
    """Draws arrows whose lengths are the square roots of velocities: slow ones stay visible."""
    speed = np.linalg.norm(moves, axis=1, keepdims=True)
    arrows = moves / np.sqrt(speed.max() * np.maximum(speed, 1e-12)) * longest
    axes.quiver(
        *spots.T, *arrows.T, angles="xy", scale_units="xy", scale=1, pivot="mid", width=0.0045,
        color=style.GREY, alpha=0.65, zorder=1,
    )  # fmt: skip


def _draw_points(axes, spots: np.ndarray, points: np.ndarray) -> None:
    for spot, point in zip(spots, points, strict=True):
        pure = point.max(1).min() > 1 - 1e-6
        axes.plot(
            *spot, "o", color="black", markersize=5.5, zorder=4, clip_on=False,
            markerfacecolor="black" if pure else "white",
        )  # fmt: skip
