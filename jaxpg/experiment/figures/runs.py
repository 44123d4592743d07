"""Pictures of one run: the training report of four panels or six, and what the policy does."""

import contextlib
from pathlib import Path

import numpy as np

from jaxpg.core.run import Result
from jaxpg.experiment.analysis import phases
from jaxpg.experiment.analysis.costs import COST, has_costs
from jaxpg.experiment.analysis.series import moving_mean, pointwise_interval
from jaxpg.experiment.analysis.thresholds import solved, threshold_source
from jaxpg.experiment.figures import costs, learning_curve, measured, style
from jaxpg.experiment.figures.actions import Played, play
from jaxpg.experiment.figures.measured import MeasuredRun
from jaxpg.experiment.text import format_count

WINDOW = 20  # episodes of a moving average
SHOWN = ("episode/return", "episode/length", "episode/count", COST)  # that have panels of their own
PLAYER = "episode/return_0"  # which games have


def training_report(
    run: str | Path | Result | MeasuredRun, width: float = style.WIDE, played: Played | None = None
):
    """Draws the picture of one run, as a matplotlib Figure.

    Return with its moving average, a band over the seeds, and the threshold from which on the
    environment counts as solved; losses and other metrics of learning, each on its own scale; the
    lengths of whole episodes under the last policy or, where it cannot be had, those of
    training; phases of learning, and the share of the seeds that have solved it. Where episodes
    have costs, two panels more: these with their limit, and what training has cost beyond it.

    run: a folder, also of a run under way, or a Result. width: in inches; below 5.5 the panels
    stand under each other. played: from `play`; None plays here. Raises ValueError for a folder
    without metrics, CheckpointError for a damaged one.
    """
    history = measured.read_run(run)
    if played is None:
        with contextlib.suppress(ValueError, ImportError):  # then the lengths are of training
            played = play(history)
    dear = has_costs(history.metrics)
    figure, (a, b, c, d, *rest) = style.new_panels(6 if dear else 4, width, 3.2)
    returns = moving_mean(history.metric("episode/return"), _episode_counts(history), WINDOW)
    threshold = solved(history.about.get("environment", {}))
    _draw_returns(a, history, returns, threshold)
    _draw_metrics(b, history)
    _draw_lengths(c, history, played)
    _draw_phases(d, history, returns, threshold)
    if dear:
        costs.draw_cost(rest[0], history, WINDOW)
        costs.draw_total(rest[1], history)
    return figure


def _episode_counts(history: MeasuredRun) -> np.ndarray:
    return np.nan_to_num(history.metric("episode/count"))


def _thin_out(count: int) -> np.ndarray:
    """Indices of the points that are drawn, of so many."""
    return np.unique(
        np.linspace(0, max(count - 1, 0), min(learning_curve.POINTS, count)).astype(int)
    )


def _draw_returns(axes, history: MeasuredRun, returns: np.ndarray, threshold: float | None) -> None:
    begun = np.flatnonzero(~np.isnan(returns).all(0))
    notes = [f"line: mean of the last {WINDOW} episodes; dots: {_say_rows(history)}"]
    if not len(begun):
        style.write_empty(axes, "No episode has ended yet.")
        return
    drawn = begun[_thin_out(len(begun))]
    x, y = history.steps[drawn], returns[:, drawn]
    raw = history.metric("episode/return")[:, drawn]
    every = np.arange(0, len(drawn), max(1, len(drawn) // 100))
    for seed in raw[:10]:
        axes.plot(x[every], seed[every], ".", color=style.GREY, alpha=0.25, markersize=2)
    axes.plot(x, np.nanmean(y, 0), color=style.COLOURS[0], linewidth=1.8, label="moving average")
    if history.seeds > 1:
        whole = ~np.isnan(y).any(0)
        low, high = pointwise_interval(y[:, whole])
        axes.fill_between(x[whole], low, high, color=style.COLOURS[0], alpha=0.25, linewidth=0)
        notes += [f"mean of {history.seeds} seeds, with its 95 % bootstrap interval"]
    if "greedy" in history.evaluations:
        axes.plot(
            history.eval_steps, np.nanmean(history.evaluations["greedy"], 0), "o", markersize=4,
            color=style.COLOURS[1], markerfacecolor="white", label="greedy evaluation",
        )  # fmt: skip
    if threshold is not None:
        axes.axhline(
            threshold, color=style.COLOURS[2], linestyle="--", linewidth=1.2,
            label=f"solved: {threshold:g}",
        )  # fmt: skip
    style.set_title(axes, "Return", *notes)
    axes.set_ylabel("return")
    axes.legend(fontsize=7, frameon=False, loc="best")
    style.set_steps_axis(axes, history.steps[-1])


def _draw_metrics(axes, history: MeasuredRun) -> None:
    """Draws a strip of its own for every metric that has no panel, means over the seeds; of a game
    one for all players, or all groups of them."""
    shown = [name for name in history.metrics if name not in SHOWN and name[:5] != "eval/"]
    bases = [name.rpartition("_")[0] for name in shown] if PLAYER in shown else []
    strips: dict[str, dict[str, tuple]] = {}
    for name in shown:
        values = history.metrics[name]
        there = np.isfinite(values)
        with np.errstate(invalid="ignore"):  # 0 / 0
            mean = np.where(there, values, 0).sum(0) / there.sum(0)
        if there.any():
            base, _, label = name.rpartition("_")
            strip = strips.setdefault(base if base and bases.count(base) > 1 else name, {})
            strip[label] = _bin_means(history.steps, mean)
    if not strips:
        style.write_empty(axes, "The agent has no metrics of learning.")
        return
    style.set_title(axes, "Losses and other metrics of learning", "means over the seeds")
    axes.set_axis_off()
    part = 1 / len(strips)
    for i, (name, curves) in enumerate(strips.items()):
        strip = axes.inset_axes((0, 1 - (i + 1) * part, 1, 0.56 * part))
        _draw_strip(strip, name, curves, i)
        style.set_steps_axis(strip, history.steps[-1])
        if i < len(strips) - 1:
            strip.set_xlabel("")
            strip.tick_params(axis="x", labelbottom=False)


def _draw_strip(strip, name: str, curves: dict[str, tuple], number: int) -> None:
    """Draws curves, x and y by their names, into one strip."""
    for j, (label, (x, y)) in enumerate(curves.items()):
        strip.plot(x, y, color=style.colour(number + j), linewidth=1.1, label=label)
    if 1 < len(curves) <= 10:
        strip.legend(
            fontsize=6, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.95),
            ncols=len(curves), handlelength=1, columnspacing=0.8, borderaxespad=0, borderpad=0,
        )  # fmt: skip
    strip.text(0, 1.04, name, fontsize=7, va="bottom", transform=strip.transAxes)
    style.tidy(strip)
    low, high = (f([f(y) for _, y in curves.values()]) for f in (min, max))
    strip.set_yticks([low, high] if high > low else [low])
    strip.yaxis.set_major_formatter("{x:.3g}")
    strip.margins(y=0.2)
    strip.tick_params(axis="y", labelsize=6)


def _bin_means(steps: np.ndarray, values: np.ndarray, bins: int = 60):
    """Means of neighbouring points, so that no more than `bins` are left; without those of NaN."""
    there = ~np.isnan(values)
    parts = [p for p in np.array_split(np.flatnonzero(there), bins) if len(p)]
    return np.array([steps[p].mean() for p in parts]), np.array([values[p].mean() for p in parts])


def _draw_lengths(axes, history: MeasuredRun, played: Played | None) -> None:
    """Draws the lengths of whole episodes under the last policy; else, of those in training."""
    if played is not None:
        groups = {name: (x, np.ones(len(x))) for name, x in played.lengths.items()}
        count = len(played.lengths["greedy"])
        notes = [f"{count} whole episodes each, of all seeds, under the last policy"]
    else:
        counts = _episode_counts(history)
        lengths, groups = history.metric("episode/length"), {}
        late = history.steps > history.steps[-1] * 0.9
        there = (counts > 0) & ~np.isnan(lengths)
        for name, part in {"all iterations": there, "last 10 % of steps": there & late}.items():
            if part.any():
                groups[name] = lengths[part], counts[part]
        notes = [f"in training: means of {_say_rows(history)}, weighted by their episodes"]
    if not groups:
        style.write_empty(axes, "No episode has ended yet.")
        return
    most = max(x.max() for x, _ in groups.values())
    bins = np.linspace(0, most * 1.0001, int(min(25, most)) + 1)
    for i, (name, (values, counts)) in enumerate(groups.items()):
        look = {"histtype": "step", "linewidth": 1.6} if i else {"alpha": 0.5}
        label = f"{name}, median {_median(values, counts):g}"
        axes.hist(
            values, bins, weights=counts / counts.sum(), color=style.colour(i), label=label, **look
        )
    style.set_title(axes, "Episode lengths", *notes)
    axes.set(xlabel="episode length in steps", ylabel="share of episodes")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.3)
    axes.legend(fontsize=7, frameon=False, loc="upper left")


def _say_rows(history: MeasuredRun) -> str:
    """Says what a row of the metrics is."""
    one = history.log_every == 1
    return "single iterations" if one else f"blocks of {history.log_every} iterations"


def _median(values: np.ndarray, counts: np.ndarray) -> float:
    """Median of values that are there so many times each; a long run has too many to lay out."""
    order = np.argsort(values)
    last, total = np.cumsum(counts[order]), counts.sum()
    middle = [order[np.searchsorted(last, at, "right")] for at in ((total - 1) // 2, total // 2)]
    return values[middle].mean()


def _draw_phases(axes, history: MeasuredRun, returns: np.ndarray, threshold: float | None) -> None:
    begun = ~np.isnan(returns).any(0)
    if not begun.any():
        style.write_empty(axes, "No episode has ended yet.")
        return
    x, mean = history.steps[begun], returns[:, begun].mean(0)
    found = phases.find_phases(x, mean)
    drawn = _thin_out(len(x))
    axes.plot(x[drawn], mean[drawn], color=style.GREY, linewidth=1)
    axes.set_ylabel("return, mean over seeds")
    marks = [(0, "start"), (found.rise, "rise"), (found.plateau, "plateau")]
    marks = [(step, name) for step, name in marks if step is not None]
    ends = [step for step, _ in marks[1:]] + [history.steps[-1]]
    for i, ((begin, name), end) in enumerate(zip(marks, ends, strict=True)):
        axes.axvspan(begin, end, color=style.colour((4, 5, 2)[i]), alpha=0.18, linewidth=0)
        if end - begin > 0.1 * history.steps[-1]:
            axes.text(
                (begin + end) / 2, 1.01, name, ha="center", fontsize=7.5,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
    said = (
        "no rise" if found.rise is None else f"rise from {format_count(found.rise)}, no plateau yet"
    )
    if found.rise is not None and found.plateau is not None:
        said = f"rise from {format_count(found.rise)}, plateau from {format_count(found.plateau)}, "
        said += f"{100 * found.kept:.0f} % kept at the end"
    notes = [said]
    if threshold is not None:
        right = axes.twinx()
        rate = np.where(np.isnan(returns), False, returns >= threshold).mean(0)
        steps = np.append(history.steps, history.steps[-1])[_thin_out(len(rate))]
        right.step(
            steps, rate[_thin_out(len(rate))], where="post", color=style.COLOURS[2], linewidth=1.6
        )
        right.set(ylim=(-0.03, 1.03))
        right.set_ylabel("share of seeds that solved it", color=style.COLOURS[2], fontsize=8)
        right.tick_params(labelsize=8, labelcolor=style.COLOURS[2])
        right.spines["top"].set_visible(False)
        name = history.about["environment"]["name"]
        notes += [f"solved: mean of {WINDOW} episodes ≥ {threshold:g}, {threshold_source(name)}"]
    style.set_title(axes, "Phases of learning", *notes, lift=9)
    style.set_steps_axis(axes, history.steps[-1])
