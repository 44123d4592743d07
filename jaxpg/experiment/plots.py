"""Learning curves, as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxpg.core.run import Result
from jaxpg.experiment.logging import short

# Okabe and Ito's palette, which the colour-blind can tell apart too; without its pale yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
POINTS = 400  # of a drawn curve; more would be narrower than a pixel


class _Curve(NamedTuple):
    name: str
    steps: np.ndarray  # [iterations] environment steps of each seed
    returns: np.ndarray  # [seeds, iterations] mean over the episodes that ended; NaN if none
    counts: np.ndarray  # [seeds, iterations] of those episodes
    eval_steps: np.ndarray  # [evaluations]
    greedy: np.ndarray  # [seeds, evaluations]


def learning_curve(runs: Sequence[str | Path | Result], path: str | Path, window: int = 20) -> None:
    """Draws the return against environment steps into a PNG, for run folders or Results.

    A line is the mean over seeds, each smoothed over its last `window` episodes, and begins when
    every seed has ended one; its band is the 95 % bootstrap interval of that mean. Up to 10 seeds
    are drawn singly too. Points are greedy evaluations, which only folders have. Raises ValueError
    for a folder without metrics or a window below 1.
    """
    if window < 1:
        raise ValueError(f"window={window!r}: allowed is an integer >= 1")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    curves = [_of_result(r) if isinstance(r, Result) else _of_folder(Path(r)) for r in runs]
    names = [c.name for c in curves]
    if len(set(names)) < len(names):
        names = list(map(str, runs))
    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    legend, grey = [], "#666666"

    for i, (name, curve) in enumerate(zip(names, curves, strict=True)):
        colour, seeds = COLOURS[i % len(COLOURS)], len(curve.returns)
        returns = smooth(curve.returns, curve.counts, window)
        begun = np.flatnonzero(~np.isnan(returns).any(0))
        drawn = begun[np.linspace(0, len(begun) - 1, min(POINTS, len(begun))).astype(int)]
        x, y = curve.steps[drawn], returns[:, drawn]
        axes.plot(x, y.mean(0), color=colour, linewidth=2)
        label = f"{name}, mean of {seeds} seeds" if seeds > 1 else name
        legend.append(Line2D([], [], color=colour, linewidth=2, label=label))
        if seeds > 1:
            axes.fill_between(x, *interval(y), color=colour, alpha=0.2, linewidth=0)
        if 1 < seeds <= 10:
            axes.plot(x, y.T, color=colour, alpha=0.3, linewidth=0.7)
        mean = curve.greedy.mean(0)
        axes.errorbar(
            curve.eval_steps, mean, np.abs(interval(curve.greedy) - mean), color=colour,
            fmt="o", markersize=5, markerfacecolor="white", elinewidth=1, capsize=2, zorder=3,
        )  # fmt: skip

    sizes = [len(c.returns) for c in curves]
    if any(1 < seeds <= 10 for seeds in sizes):
        legend.append(Line2D([], [], color=grey, alpha=0.5, linewidth=0.7, label="single seeds"))
    if max(sizes) > 1:
        legend.append(Patch(color=grey, alpha=0.2, linewidth=0, label="95 % interval of the mean"))
    if any(c.greedy.size for c in curves):
        point = {"marker": "o", "markerfacecolor": "white", "linestyle": "none"}
        legend.append(Line2D([], [], color=grey, **point, label="greedy evaluation"))
    figure.legend(handles=legend, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    axes.set(xlabel="environment steps (per seed)", ylabel=f"return (last {window} episodes)")
    axes.set_xlim(0, max(c.steps[-1] for c in curves) * 1.02)
    axes.xaxis.set_major_formatter(lambda x, _: short(x))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def smooth(returns: np.ndarray, counts: np.ndarray, window: int) -> np.ndarray:
    """The mean of each seed's last `window` episodes (of all so far, while they are fewer).

    returns: [seeds, iterations] means over `counts` episodes. Whole iterations are taken, as few
    as hold so many episodes. NaN before the first one.
    """
    sums = np.cumsum(np.where(counts > 0, returns, 0) * counts, axis=1)
    ended = np.cumsum(counts, axis=1)
    old = np.stack([np.searchsorted(n, n - window, side="right") for n in ended])
    sums, ended = (
        x - np.take_along_axis(np.pad(x, ((0, 0), (1, 0))), old, axis=1) for x in (sums, ended)
    )
    with np.errstate(invalid="ignore"):  # 0 / 0
        return sums / ended


def interval(values: np.ndarray) -> np.ndarray:
    """The 95 % bootstrap interval [2, points] of the mean over seeds, of values [seeds, points]."""
    seeds = len(values)
    times_drawn = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), 2000)
    return np.percentile(times_drawn @ values / seeds, (2.5, 97.5), axis=0)


def _of_result(result: Result) -> _Curve:
    returns = np.atleast_2d(result.metrics["episode/return"])
    counts = np.atleast_2d(result.metrics["episode/count"])
    iteration = np.arange(result.iteration - returns.shape[1], result.iteration) + 1
    steps = iteration * result.agent.steps_per_iter(result.cfg)
    name = f"{result.agent.name}-{result.env.name}"
    return _Curve(name, steps, returns, counts, np.zeros(0), np.zeros((len(returns), 0)))


def _of_folder(folder: Path) -> _Curve:
    steps, returns, counts = _table(
        folder / "metrics.csv", ("env_steps", "episode/return", "episode/count")
    )
    eval_steps, greedy = np.zeros((2, len(returns), 0))
    rows = folder / "evaluations.csv"
    if rows.exists() and rows.read_text().count("\n") > 1:  # more than its header
        eval_steps, greedy = _table(folder / "evaluations.csv", ("env_steps", "greedy"))
    return _Curve(folder.resolve().name, steps[0], returns, counts, eval_steps[0], greedy)


def _table(path: Path, names: Sequence[str]) -> np.ndarray:
    """Columns [names, seeds, iterations] of a file that may be of a run under way."""
    rows = path.read_text().split("\n")[:-1] if path.exists() else []  # not a half-written one
    if len(rows) < 2:
        raise ValueError(f"{path}: found no rows, expected the metrics of a run")
    header = rows[0].split(",")
    cells = np.loadtxt(
        rows[1:],
        delimiter=",",
        usecols=[header.index(name) for name in ("seed", *names)],
        converters=lambda cell: float(cell or "nan"),
        ndmin=2,
    )
    seeds = int(cells[:, 0].max()) + 1
    whole = len(cells) // seeds * seeds
    return cells[:whole, 1:].reshape(-1, seeds, len(names)).T
