"""Figure of a league: who beats whom, and how strong each member is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxpg.experiment.figures import style


def league_heat_map(
    scores: Any, ratings: Any, labels: Sequence[str] | None = None, width: float = style.WIDE
):
    """Draws the scores of members against each other, and their ratings, as a matplotlib Figure.

    scores: [K, K] the mean score of the member of the row, of a win 1 and of a draw 1/2, as
    `loops.league.score_members` gives them; NaN is left white. ratings: [K], as of
    `ops.games.elo_ratings`. labels: of the members, their numbers by default. Raises ValueError for
    other shapes.

    >>> import numpy as np
    >>> figure = league_heat_map(np.array([[0.5, 0.9], [0.1, 0.5]]), np.array([150.0, -150.0]))
    >>> [axes.get_xlabel() for axes in figure.axes[:2]]
    ['against', 'rating (Elo)']
    """
    scores, ratings = np.asarray(scores, float), np.asarray(ratings, float)
    labels = [str(i) for i in range(len(ratings))] if labels is None else list(labels)
    count = len(labels)
    if scores.shape != (count, count) or ratings.shape != (count,):
        raise ValueError(
            f"scores of shape {scores.shape} and ratings of shape {ratings.shape}: allowed are "
            f"({count}, {count}) and ({count},)"
        )
    figure, (left, right) = style.new_panels(2, width, 3.6)
    image = left.imshow(scores, cmap="RdBu", vmin=0, vmax=1)
    step = max(1, -(-count // 12))  # labels that there is room for
    ticks = range(0, count, step)
    left.set_xticks(ticks, labels[::step], rotation=90 if step > 1 or count > 6 else 0)
    left.set_yticks(ticks, labels[::step])
    left.set(xlabel="against", ylabel="member")
    style.set_title(left, "mean score")
    figure.colorbar(image, ax=left, shrink=0.8)
    right.barh(range(count), ratings, color=style.colour(0), height=0.8)
    right.set_yticks(ticks, labels[::step])
    right.invert_yaxis()
    right.axvline(0, color=style.GREY, linewidth=0.8)
    right.set(xlabel="rating (Elo)", ylabel="member")
    style.set_title(right, "strength")
    style.tidy(right)
    return figure
