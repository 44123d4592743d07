"""Pictures of a sweep: what its fields do to the final score, and how the runs came to it.

A sweep is anything with `about`, `fields`, `table` and `evaluations`: see `experiment/sweep.py`.
Every function returns a matplotlib Figure, `width` inches wide. They raise ValueError for an
unknown field and for a sweep without a row.
"""

import numpy as np

from jaxpg.core.config import unknown
from jaxpg.experiment import scores
from jaxpg.experiment.pictures import scales, style
from jaxpg.experiment.scores import Final, ordered, text

OTHERS = ("best", "mean")
MAP, TOP = "viridis", 0.93  # its last yellow is too pale on white
CELLS = 12  # of a map, in a row or column; beyond them configs are points
MOST = 7  # curves: as many as there are colours
WHITE = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.8}


def heat_map(sweep, x: str, y: str | None = None, others: str = "best", width: float = style.WIDE):
    """The IQM of the final scores over the values of two fields; of one, with its 95 % interval.

    others: of the fields that are not shown, "best" takes for each cell the config with the highest
    IQM, "mean" all of its configs together. Where most cells would be empty, as in a random
    search, configs are points.
    """
    if others not in OTHERS:
        raise unknown("others", others, OTHERS)
    shown = [x] if y is None else [x, y]
    done, chosen = scores.final(sweep), {}
    for group in scores.groups(sweep, shown):
        there = [c for c in group.configs if c in done.scores]
        if len(there) > 1 and others == "best":
            there = [max(there, key=lambda c: done.iqm([c]))]
        if there:
            chosen[group.values] = there
    notes, rest = [f"IQM of the {done.what}"], [f for f in sweep.fields if f not in shown]
    if rest:
        notes.append(("best of " if others == "best" else "all together: ") + ", ".join(rest))
    notes += _diverged(done)
    names = [ordered(v[i] for v in chosen) for i in range(len(shown))]
    if y is None:
        return _dose(chosen, x, names[0], done, notes, scores.threshold(sweep), width)
    crowded = max(map(len, names)) > CELLS
    if crowded or len(chosen) < 0.5 * len(names[0]) * len(names[1]):
        return _points(chosen, (x, y), names, done, notes, width)
    return _cells(chosen, (x, y), names, done, notes, width)


def _diverged(done: Final) -> list[str]:
    if not done.diverged:
        return []
    return [f"runs that diverged ({done.diverged}) count as the worst score, {done.worst:.4g}"]


def _cells(chosen, fields, names, done, notes, width):
    grid = np.full((len(names[1]), len(names[0])), np.nan)
    place = {v: (names[1].index(v[1]), names[0].index(v[0])) for v in chosen}
    for values, configs in chosen.items():
        grid[place[values]] = done.iqm(configs)
    figure, (axes,) = style.panels(1, width, 1.5 + 0.42 * max(len(names[1]), 2))
    colours = _colours(grid)
    image = axes.pcolormesh(grid, cmap=colours.cmap, norm=colours.norm, edgecolors="white")
    size = min(8, max(6, 9 * width / style.WIDE - 0.35 * max(0, len(names[0]) - 5)))
    for values, (row, column) in place.items():
        runs, value = done.runs(chosen[values]), grid[place[values]]
        light = sum(c * w for c, w in zip(colours.to_rgba(value), (0.3, 0.6, 0.1), strict=False))
        axes.text(
            column + 0.5, row + 0.5, f"{_short(value)}\n(n={runs.size})", ha="center", va="center",
            fontsize=size, color="black" if light > 0.5 else "white", linespacing=1.1,
        )  # fmt: skip
    for axis, field, own in zip((axes.xaxis, axes.yaxis), fields, names, strict=True):
        axis.set_ticks(np.arange(len(own)) + 0.5, [text(v) for v in own])
        axis.set_label_text(field)
    crowded = sum(len(text(v)) + 2 for v in names[0]) > 11 * width
    axes.tick_params(axis="x", rotation=45 if crowded else 0)
    axes.grid(False)
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=14)
    bar.set_label("IQM", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    style.title(axes, f"{fields[0]} and {fields[1]}", *notes, "n: runs")
    return figure


def _colours(values):
    """Maps values to colours; with one value, to the middle."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    good = np.asarray(values)[np.isfinite(values)]
    low, high = (good.min(), good.max()) if len(good) else (0.0, 1.0)
    if high == low:
        low, high = low - 0.5, high + 0.5
    part = ListedColormap(colormaps[MAP](np.linspace(0, TOP, 256)))
    return ScalarMappable(Normalize(low, high), part)


def _short(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}" if abs(value) < 1e4 else f"{value:.1e}"


def _dose(chosen, field, names, done, notes, threshold, width):
    scale = scales.of(names)
    estimates = [scores.estimate(done.runs(chosen[(v,)])) for v in names]
    at = np.array([scale.place(v) for v in names])
    value, low, high = (np.array(x) for x in zip(*estimates, strict=True))
    figure, (axes,) = style.panels(1, min(width, 5.6), 3.2)
    if (
        scale.kind == "category" or len(names) > CELLS
    ):  # no line between what has no order, or noise
        spread = np.nan_to_num(np.stack([value - low, high - value])).clip(0)
        axes.errorbar(at, value, spread, fmt="o", color=style.COLOURS[0], markersize=5, capsize=3)
        if scale.kind == "category":
            axes.set_xlim(-0.6, len(names) - 0.4)
    else:
        axes.plot(at, value, "o-", color=style.COLOURS[0], markersize=5)
        axes.fill_between(at, low, high, color=style.COLOURS[0], alpha=0.2, linewidth=0)
    for v, x in zip(names, at, strict=True):
        runs = done.runs(chosen[(v,)]).ravel()
        axes.plot(np.full(len(runs), x), runs, "_", color=style.GREY, alpha=0.7, markersize=8)
    if threshold is not None:
        axes.axhline(threshold, color=style.COLOURS[2], linestyle="--", linewidth=1)
        notes = [*notes, f"dashed: solved, {threshold:g}"]
    _ticks(axes, scale)
    axes.set(xlabel=field + _kind(scale), ylabel="final score")
    style.title(
        axes, f"Final score over {field}", *notes, "with 95 % interval; dashes: single runs"
    )
    return figure


def _ticks(axes, scale) -> None:
    places, labels = zip(*scale.ticks, strict=True)
    crowded = sum(map(len, labels)) + 2 * len(labels) > 10 * axes.figure.get_figwidth()
    axes.set_xticks(places, labels, rotation=45 if crowded else 0)


def _kind(scale) -> str:
    return {"log": " (log scale)", "near 1": " (log scale of 1 - x)"}.get(scale.kind, "")


def _points(chosen, fields, names, done, notes, width):
    own = [scales.of(n) for n in names]
    value = np.array([done.iqm(configs) for configs in chosen.values()])
    figure, (axes,) = style.panels(1, width, 3.6)
    colours = _colours(value)
    x, y = ([s.place(v[i]) for v in chosen] for i, s in enumerate(own))
    rising = np.argsort(value)  # the best on top
    axes.scatter(
        np.array(x)[rising], np.array(y)[rising], c=value[rising], cmap=colours.cmap,
        norm=colours.norm, s=60, edgecolors="white", linewidths=0.6,
    )  # fmt: skip
    _ticks(axes, own[0])
    axes.set_yticks(*zip(*own[1].ticks, strict=True))
    axes.set(xlabel=fields[0] + _kind(own[0]), ylabel=fields[1] + _kind(own[1]))
    bar = figure.colorbar(colours, ax=axes, pad=0.02, aspect=20)
    bar.set_label("IQM", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    style.title(axes, f"{fields[0]} and {fields[1]}", *notes)
    return figure


def parallel_coordinates(sweep, width: float = style.WIDE):
    """A line for every config through its values, one axis a field, to the IQM of its scores."""
    done, groups = scores.final(sweep), scores.groups(sweep, sweep.fields)
    lines = [(g.values, done.iqm([c])) for g in groups for c in g.configs if c in done.scores]
    lines = sorted((x for x in lines if np.isfinite(x[1])), key=lambda line: line[1])
    upright = width >= style.BETWEEN
    height = 3.4 if upright else 1 + 0.75 * (len(sweep.fields) + 1)
    figure, (axes,) = style.panels(1, width, height)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if not lines:
        style.empty(axes, "No run has a score yet.")
        return figure
    own = [scales.of(ordered(g.values[i] for g in groups)) for i in range(len(sweep.fields))]
    values = [score for _, score in lines]
    own.append(_linear(values))
    spans = []
    for scale, column in zip(own, zip(*[(*v, s) for v, s in lines], strict=True), strict=True):
        at = [scale.place(v) for v in column] + [p for p, _ in scale.ticks]
        spans.append((min(at), max(at)))
    colours = _colours(values)
    for point, score in lines:
        heights = [
            _part(s.place(v), span) for s, span, v in zip(own, spans, (*point, score), strict=True)
        ]
        at = range(len(own))
        x, y = (at, heights) if upright else (heights, at)
        axes.plot(x, y, color=colours.to_rgba(score), linewidth=1.5, alpha=0.85)
    for i, (scale, span) in enumerate(zip(own, spans, strict=True)):
        _axis(axes, i, [(_part(place, span), label) for place, label in scale.ticks], upright)
    labels = [f + _kind(s) for f, s in zip(sweep.fields, own, strict=False)] + ["IQM"]
    if upright:
        labels = [label.replace(" (", "\n(") for label in labels]
        axes.set_xticks(range(len(own)), labels, fontsize=8)
        axes.set_yticks([])
        axes.set_xlim(-0.35, len(own) - 0.85)
    else:  # axes lie under each other, each with its name above it
        for i, label in enumerate(labels):
            axes.text(0, i - 0.12, label, fontsize=7.5, va="bottom", fontweight="bold", bbox=WHITE)
        axes.set_axis_off()
        axes.set_ylim(len(own) - 0.6, -0.6)
    axes.tick_params(length=0)
    style.title(
        axes, "All configs", f"IQM of the {done.what}", "lines from low (dark) to high (bright)",
        *_diverged(done),
    )  # fmt: skip
    return figure


def _axis(axes, i: int, ticks: list[tuple[float, str]], upright: bool) -> None:
    (axes.axvline if upright else axes.axhline)(i, color=style.GREY, linewidth=0.8)

    for place, label in ticks:
        x, y = (i, place) if upright else (place, i)
        axes.plot(x, y, "_" if upright else "|", color="black", markersize=6)
        axes.annotate(
            label, (x, y), (-5, 0) if upright else (0, -5), textcoords="offset points",
            ha="right" if upright else "center", va="center" if upright else "top",
            fontsize=8 if upright else 6.5, bbox=WHITE,
        )  # fmt: skip


def _linear(values) -> scales.Scale:
    from matplotlib.ticker import MaxNLocator

    low, high = min(values), max(values)
    ticks = MaxNLocator(5).tick_values(low, high) if high > low else [low]
    return scales.Scale("linear", float, [(float(t), f"{t:g}") for t in ticks])


def _part(place: float, span: tuple[float, float]) -> float:
    low, high = span
    return 0.5 if high == low else (place - low) / (high - low)


def curves(sweep, by: str | None = None, width: float = style.WIDE):
    """Learning curves: at each point the IQM over runs, and its 95 % interval.

    by: a field, whose values share a curve; the other fields are then strata of the bootstrap.
    None: a curve for each config, of at most seven, the best by their final IQM.
    """
    done, data = scores.final(sweep), scores.curves(sweep)
    groups = scores.groups(sweep, sweep.fields if by is None else [by])
    notes = ["mean of the last 20 episodes; IQM of the runs and its 95 % interval"]
    if len(groups) > MOST:
        rank = {g.values: done.iqm([c for c in g.configs if c in done.scores])
                for g in groups if any(c in done.scores for c in g.configs)}  # fmt: skip
        best = sorted(rank, key=rank.get)[-MOST:]
        notes.append(f"the best {MOST} of {len(groups)}")
        groups = [g for g in groups if g.values in best]
    figure, (axes,) = style.panels(1, width, 3.6)
    fields = sweep.fields if by is None else [by]
    drawn = 0
    for group in groups:
        fewest = min(len(data.returns[c]) for c in group.configs)
        runs = np.stack([data.returns[c][:fewest] for c in group.configs])  # [tasks, runs, points]
        begun = np.flatnonzero(~np.isnan(runs).any((0, 1)))
        if not len(begun):
            continue
        estimates = [scores.estimate(runs[..., i]) for i in begun]
        value, low, high = (np.array(x) for x in zip(*estimates, strict=True))
        label = _name(fields, group.values, runs.shape[:2])
        colour, dash = style.colour(drawn), style.dash(drawn)
        axes.plot(
            data.steps[begun], value, color=colour, linestyle=dash, linewidth=1.8, label=label
        )
        axes.fill_between(data.steps[begun], low, high, color=colour, alpha=0.18, linewidth=0)
        drawn += 1
    if not drawn:
        style.empty(axes, "No episode has ended yet.")
        return figure
    if (threshold := scores.threshold(sweep)) is not None:
        axes.axhline(
            threshold, color=style.GREY, linestyle="--", linewidth=1, label=f"solved: {threshold:g}"
        )
    title = "Learning curves" if by is None else f"Learning curves by {by}"
    style.title(axes, title, *notes, *_diverged(done))
    axes.set_ylabel("return")
    style.over_steps(axes, data.steps[-1])
    style.legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def _name(fields, values, runs: tuple[int, int]) -> str:
    own = [text(v) if f in ("agent", "env") else f"{f} = {text(v)}"
           for f, v in zip(fields, values, strict=True)]  # fmt: skip
    return f"{', '.join(own)}  ({runs[0] * runs[1]} runs)"
