"""Figures of what learners are paid while they learn, beside what the exact gradients lead to."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpg.experiment.figures import style


class PayoffPaths(NamedTuple):
    """Payoffs of learning paths, at the same times."""

    time: Any  # [T] > 0, in units in which logits move by their gradient
    learnt: Any  # [S, T]
    exact: Any = ()  # [S, T] along the exact gradients, from the same starts; () is none


def payoffs_over_time(
    panels: Mapping[str, Mapping[str, PayoffPaths]],
    levels: Sequence[float] = (),
    notes: Mapping[str, str] | None = None,
    width: float = style.WIDE,
):
    """Draws payoffs over the time of learning, as a matplotlib Figure with a panel for each entry.

    Solid lines are learners, dashed black ones the exact gradients. Time is on a logarithmic scale.
    levels: payoffs that are marked by a line. notes: by panel. Raises ValueError for no panels, and
    for paths of another shape than their time.

    >>> paths = PayoffPaths([1.0, 10.0], [[0.0, 2.0]])
    >>> payoffs_over_time({"a game": {"learners": paths}}).axes[0].get_ylabel()
    'expected payoff'
    """
    from matplotlib.lines import Line2D

    if not panels:
        raise ValueError("panels={}: allowed is at least one")
    for name, curves in panels.items():
        for label, paths in curves.items():
            _judge(f"{name}, {label}", paths)
    figure, axes = style.new_panels(len(panels), width, 3.2)
    names = list(dict.fromkeys(label for curves in panels.values() for label in curves))
    for each, (name, curves) in zip(axes, panels.items(), strict=True):
        for level in levels:
            each.axhline(level, color=style.GREY, linewidth=0.8, linestyle=":")
        for label, (time, learnt, exact) in curves.items():
            look: Any = {"color": style.colour(names.index(label))}
            many = len(learnt) > 3
            for path in learnt:
                each.plot(time, path, **look, linewidth=0.9 if many else 1.6, alpha=0.8)
            for path in exact:
                each.plot(time, path, "--", color="black", linewidth=0.8)
        each.set(xscale="log", xlabel="time", ylabel="expected payoff")
        each.xaxis.set_major_formatter("{x:g}")  # no powers: they are drawn as formulas
        note = (notes or {}).get(name, "")
        style.set_title(each, name, *[note] * bool(note))
        style.tidy(each)
    handles = [Line2D([], [], color=style.colour(i), label=x) for i, x in enumerate(names)]
    dashed = Line2D(
        [], [], color="black", linestyle="--", linewidth=0.8, label="along the exact gradient"
    )
    drawn = any(len(x.exact) for curves in panels.values() for x in curves.values())
    style.legend_below(figure, [*handles, *[dashed] * drawn])
    return figure


def _judge(what: str, paths: PayoffPaths) -> None:
    length = np.shape(paths.time)
    for name in ("learnt", "exact"):
        given = np.shape(getattr(paths, name))
        if given != (0,) and given[1:] != length:
            raise ValueError(f"{what}: {name} of shape {given}, allowed is [S, {length[0]}]")
