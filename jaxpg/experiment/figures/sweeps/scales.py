"""Scales for a field's values: linear, logarithmic, or logarithmic in the distance to one."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpg.experiment.analysis.scores import is_number, text

FAR = 10.0  # from the least to the greatest: then steps are by powers
MOST = 8  # ticks


class Scale(NamedTuple):
    """Scale of an axis: where values stand on it, and its ticks."""

    kind: str  # "linear", "log", "near 1" or "category"
    place: Callable[[Any], float]  # of a value, in units of the axis
    ticks: list[tuple[float, str]]  # place and label


def scale_for(values: Sequence) -> Scale:
    """Chooses the scale for a field's values.

    "log" if they are positive and a factor of ten apart, "near 1" (steps of log(1 - x), for
    discounts) if their distances to one are, "category" for anything but numbers. A zero stands
    one step to the left of a logarithmic scale.
    """
    values = list(dict.fromkeys(values))
    if not all(map(is_number, values)):
        at = {v: float(i) for i, v in enumerate(values)}
        return Scale("category", at.__getitem__, [(i, text(v)) for v, i in at.items()])
    values = sorted(values)
    low, high = values[0], values[-1]
    if low == 0 and len(values) > 2 and high / values[1] >= FAR:
        inner = scale_for(values[1:])
        zero = inner.place(values[1]) - (math.log10(high / values[1])) / (len(values) - 2)
        place = lambda x: inner.place(x) if x else zero  # noqa: E731
        return Scale("log", place, [(zero, "0"), *inner.ticks])
    if low > 0 and high / low >= FAR:
        kind, place, back = "log", math.log10, lambda p: 10**p
    elif low >= 0 and high < 1 and (1 - low) / (1 - high) >= FAR:
        kind, place, back = "near 1", lambda x: -math.log10(1 - x), lambda p: 1 - 10**-p
    else:
        kind, place, back = "linear", float, float
    if len(values) <= MOST:
        return Scale(kind, place, [(place(v), text(v)) for v in values])
    if kind == "linear":
        from matplotlib.ticker import MaxNLocator

        at = [t for t in MaxNLocator(5).tick_values(low, high) if low <= t <= high]
    else:
        first, last = math.ceil(place(low) - 1e-9), math.floor(place(high) + 1e-9)
        at = [float(f"{back(p):.6g}") for p in range(first, last + 1)]
        if len(at) < 2:
            digits = ".2g" if kind == "log" else ".4g"
            at = [float(f"{back(p):{digits}}") for p in np.linspace(place(low), place(high), 3)]
    return Scale(kind, place, [(place(t), text(t)) for t in at])
