"""Figure of options on a map: which one begins where, and where each of them ends."""

from typing import Any

import numpy as np

from jaxpg.experiment.figures import style

ARROWS = ((0, 0.32), (0.32, 0), (0, -0.32), (-0.32, 0))  # up, right, down, left: x, and y upwards


def option_maps(
    free: Any, choice: Any, termination: Any, actions: Any = None, goal: int | None = None,
    width: float = style.WIDE,
):  # fmt: skip
    """Draws options on a map, as a matplotlib Figure.

    The first panel has the likeliest option of each cell as a colour, paler where the policy over
    options is less sure of it. Then each option has a panel: how likely it is to end in each cell,
    and the likeliest action there as an arrow.

    free: [rows, columns] bool, of which the S free cells are counted row by row. choice: [S, O] the
    policy over options. termination: [S, O]. actions: [S, O, 4] probabilities of up, right, down,
    left, or None. goal: the cell that is marked. Raises ValueError for other shapes.

    >>> import numpy as np
    >>> free = np.array([[True, True], [True, False]])
    >>> figure = option_maps(free, np.full((3, 2), 0.5), np.zeros((3, 2)))
    >>> len(figure.axes)  # two options, the first panel, and the scale
    4
    """
    free = np.asarray(free, bool)
    choice, termination = np.asarray(choice, float), np.asarray(termination, float)
    size, count = int(free.sum()), choice.shape[-1]
    wrong = choice.shape != (size, count) or termination.shape != (size, count)
    actions = None if actions is None else np.asarray(actions, float)
    if wrong or (actions is not None and actions.shape != (size, count, 4)):
        shown = choice.shape, termination.shape, None if actions is None else actions.shape
        raise ValueError(
            f"choice, termination and actions of shapes {', '.join(map(str, shown))} on a map of "
            f"{size} free cells: allowed are (S, O), (S, O) and (S, O, 4)"
        )
    columns = 3 if width >= style.BETWEEN else 2
    rows = -(-(count + 1) // columns)
    figure = style.new_figure(width, rows * width / columns * 1.12)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count + 1)]
    cells = np.argwhere(free)
    _draw_choice(axes[0], free, cells, choice)
    for i, panel in enumerate(axes[1:]):
        image = _draw_end(panel, free, cells, termination[:, i])
        if actions is not None:
            moves = np.arange(size) != goal  # nothing is done at the goal
            _draw_arrows(panel, cells[moves], actions[moves, i])
        panel.set_title(
            f"option {i}", loc="left", fontsize=9, fontweight="bold", color=style.colour(i)
        )
    for panel in axes:
        panel.set_xticks([])
        panel.set_yticks([])
        if goal is not None:
            y, x = cells[goal]
            panel.plot(x, y, marker="*", color="white", mec="black", ms=11, mew=0.8, zorder=4)
    bar = figure.colorbar(image, ax=axes[1:], shrink=0.5, location="bottom", pad=0.02)
    bar.set_label("probability that the option ends", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _draw_choice(axes, free: np.ndarray, cells: np.ndarray, choice: np.ndarray) -> None:
    image = np.full((*free.shape, 3), 0.25)
    for (y, x), p in zip(cells, choice, strict=True):
        best = int(p.argmax())
        colour = np.array([int(style.colour(best)[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        count = max(len(p) - 1, 1)
        sure = np.clip((p[best] - 1 / len(p)) * len(p) / count, 0, 1) if len(p) > 1 else 1.0
        image[y, x] = 1 - (0.25 + 0.75 * sure) * (1 - colour)
    axes.imshow(image)
    style.set_title(axes, "which begins where")


def _draw_end(axes, free: np.ndarray, cells: np.ndarray, end: np.ndarray):
    image = np.full(free.shape, np.nan)
    image[tuple(cells.T)] = end
    axes.set_facecolor("#404040")
    return axes.imshow(image, cmap="YlOrBr", vmin=0, vmax=1)


def _draw_arrows(axes, cells: np.ndarray, actions: np.ndarray) -> None:
    best = actions.argmax(-1)
    way = np.array(ARROWS)[best]
    axes.quiver(
        cells[:, 1], cells[:, 0], way[:, 0], way[:, 1], pivot="mid", color="black", alpha=0.75,
        angles="uv", scale_units="xy", scale=0.55, width=0.008,
    )  # fmt: skip
