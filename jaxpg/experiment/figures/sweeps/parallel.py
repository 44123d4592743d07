"""Parallel coordinates: all configs of a sweep in one picture."""

import numpy as np

from jaxpg.experiment.analysis import scores
from jaxpg.experiment.analysis.scores import order_values
from jaxpg.experiment.figures import style
from jaxpg.experiment.figures.sweeps import scales
from jaxpg.experiment.figures.sweeps.maps import colour_map, note_diverged, scale_note

LETTERS = 14  # of the names of axes, to the inch; more would lie upon each other
WHITE = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.8}


def parallel_coordinates(sweep, width: float = style.WIDE):
    """Draws a line for every config through its values, one axis a field, to the IQM of its
    scores."""
    done, groups = scores.final(sweep), scores.group_configs(sweep, sweep.fields)
    lines = [(g.values, done.iqm([c])) for g in groups for c in g.configs if c in done.scores]
    lines = sorted((x for x in lines if np.isfinite(x[1])), key=lambda line: line[1])
    upright = width >= style.BETWEEN
    height = 3.4 if upright else 1 + 0.75 * (len(sweep.fields) + 1)
    figure, (axes,) = style.new_panels(1, width, height)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if not lines:
        style.write_empty(axes, "No run has a score yet.")
        return figure
    own = [
        scales.scale_for(order_values(g.values[i] for g in groups))
        for i in range(len(sweep.fields))
    ]
    values = [score for _, score in lines]
    own.append(_linear_scale(values))
    spans = []
    for scale, column in zip(own, zip(*[(*v, s) for v, s in lines], strict=True), strict=True):
        at = [scale.place(v) for v in column] + [p for p, _ in scale.ticks]
        spans.append((min(at), max(at)))
    colours = colour_map(values)
    for point, score in lines:
        heights = [
            _fraction(s.place(v), span)
            for s, span, v in zip(own, spans, (*point, score), strict=True)
        ]
        at = range(len(own))
        x, y = (at, heights) if upright else (heights, at)
        axes.plot(x, y, color=colours.to_rgba(score), linewidth=1.5, alpha=0.85)
    for i, (scale, span) in enumerate(zip(own, spans, strict=True)):
        _draw_axis(
            axes, i, [(_fraction(place, span), label) for place, label in scale.ticks], upright
        )
    labels = [f + scale_note(s) for f, s in zip(sweep.fields, own, strict=False)] + ["IQM"]
    if upright:
        labels = [label.replace(" (", "\n(") for label in labels]
        letters = sum(max(map(len, label.split("\n"))) + 2 for label in labels)
        slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
        crowded = letters > LETTERS * width
        axes.set_xticks(range(len(own)), labels, fontsize=8, **(slanted if crowded else {}))
        axes.set_yticks([])
        axes.set_xlim(-0.35, len(own) - 0.85)
        axes.set_ylim(-0.04, 1.04)
    else:  # axes lie under each other, each with its name above it
        for i, label in enumerate(labels):
            axes.text(0, i - 0.12, label, fontsize=7.5, va="bottom", fontweight="bold", bbox=WHITE)
        axes.set_axis_off()
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(len(own) - 0.6, -0.6)
    axes.tick_params(length=0)
    style.set_title(
        axes, "All configs", f"IQM of the {done.what}", "lines from low (dark) to high (bright)",
        *note_diverged(done),
    )  # fmt: skip
    return figure


def _draw_axis(axes, i: int, ticks: list[tuple[float, str]], upright: bool) -> None:
    (axes.axvline if upright else axes.axhline)(i, color=style.GREY, linewidth=0.8)

    for place, label in ticks:
        x, y = (i, place) if upright else (place, i)
        axes.plot(x, y, "_" if upright else "|", color="black", markersize=6)
        axes.annotate(
            label, (x, y), (-5, 0) if upright else (0, -5), textcoords="offset points",
            ha="right" if upright else "center", va="center" if upright else "top",
            fontsize=8 if upright else 6.5, bbox=WHITE,
        )  # fmt: skip


def _linear_scale(values) -> scales.Scale:
    from matplotlib.ticker import MaxNLocator

    low, high = min(values), max(values)
    ticks = MaxNLocator(5).tick_values(low, high) if high > low else [low]
    return scales.Scale("linear", float, [(float(t), f"{t:g}") for t in ticks])


def _fraction(place: float, span: tuple[float, float]) -> float:
    low, high = span
    return 0.5 if high == low else (place - low) / (high - low)
