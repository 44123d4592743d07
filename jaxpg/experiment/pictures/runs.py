"""Pictures of one run: the four-panel training report, and what the policy does."""

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.core import evaluate as E
from jaxpg.core import spaces
from jaxpg.core.run import Result
from jaxpg.envs.solved import solved, source
from jaxpg.experiment import phases, plots, records
from jaxpg.experiment.logging import short
from jaxpg.experiment.pictures import style
from jaxpg.experiment.records import Record

WINDOW = 20  # episodes of a moving average
EPISODES, STEPS = 64, 1000  # of each seed, for distributions; no episode is longer than these steps
_REPORT = 0x4E90  # folded into the key: what is played here shares no key with training


class Played(NamedTuple):
    """What the last policy did in whole episodes, "greedy" and "sampled"."""

    lengths: dict[str, np.ndarray]  # [episodes of all seeds] steps
    actions: dict[str, list[np.ndarray]]  # of each seed [steps, dimensions]
    space: Any  # the environment's action space


def play(run: str | Path | Result | Record) -> Played:
    """Plays 64 episodes of each seed, always the same ones, none longer than 1000 steps.

    Raises CheckpointError for a run without a checkpoint and ValueError for one without a state, or
    of an agent or environment that no name gives again.
    """
    agent, cfg, env, state, metrics, *_ = _record(run).result()
    if state is None:
        raise ValueError(f"{run}: has no state, allowed is a run whose policy can act")
    steps = min(STEPS, int(np.max(getattr(env.params, "max_steps_in_episode", STEPS))))
    seeds = next(iter(metrics.values())).shape[:-1]
    lengths, actions = {}, {}
    for kind, greedy in (("greedy", True), ("sampled", False)):
        key = jax.random.fold_in(jax.random.key(0), _REPORT + greedy)
        key = jax.random.split(key, seeds) if seeds else key
        found = E.actions(agent, cfg, env, state, key, EPISODES, greedy, steps)
        action, mask = (x if seeds else x[None] for x in map(np.asarray, found))
        action = action.reshape(*mask.shape, -1)  # [seeds, T, episodes, dimensions]
        lengths[kind] = mask.sum(1).ravel()
        actions[kind] = [a[m] for a, m in zip(action, mask, strict=True)]
    return Played(lengths, actions, env.action_space)


def _record(run) -> Record:
    return run if isinstance(run, Record) else records.read(run)


def training_report(
    run: str | Path | Result | Record, width: float = style.WIDE, played: Played | None = None
):
    """The four-panel picture of one run, as a matplotlib Figure.

    Return with its moving average, a band over the seeds, and the threshold from which on the
    environment counts as solved; losses and other metrics of learning, each on its own scale; the
    lengths of whole episodes under the last policy or, where it cannot be had, those of
    training; phases of learning, and the share of the seeds that have solved it.

    run: a folder, also of a run under way, or a Result. width: in inches; below 5.5 the panels
    stand under each other. played: from `play`; None plays here. Raises ValueError for a folder
    without metrics, CheckpointError for a damaged one.
    """
    record = _record(run)
    if played is None:
        with contextlib.suppress(ValueError, ImportError):  # then the lengths are of training
            played = play(record)
    figure, (a, b, c, d) = style.panels(4, width, 3.2)
    returns = plots.smooth(record.metric("episode/return"), _counts(record), WINDOW)
    threshold = solved(record.about.get("environment", {}))
    _returns(a, record, returns, threshold)
    _metrics(b, record)
    _lengths(c, record, played)
    _phases(d, record, returns, threshold)
    return figure


def _counts(record: Record) -> np.ndarray:
    return np.nan_to_num(record.metric("episode/count"))


def _drawn(count: int) -> np.ndarray:
    """Which of so many points are drawn."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(plots.POINTS, count)).astype(int))


def _returns(axes, record: Record, returns: np.ndarray, threshold: float | None) -> None:
    begun = np.flatnonzero(~np.isnan(returns).all(0))
    notes = [f"line: mean of the last {WINDOW} episodes; dots: single iterations"]
    if not len(begun):
        style.empty(axes, "No episode has ended yet.")
        return
    drawn = begun[_drawn(len(begun))]
    x, y = record.steps[drawn], returns[:, drawn]
    raw = record.metric("episode/return")[:, drawn]
    every = np.arange(0, len(drawn), max(1, len(drawn) // 100))
    for seed in raw[:10]:
        axes.plot(x[every], seed[every], ".", color=style.GREY, alpha=0.25, markersize=2)
    axes.plot(x, np.nanmean(y, 0), color=style.COLOURS[0], linewidth=1.8, label="moving average")
    if record.seeds > 1:
        whole = ~np.isnan(y).any(0)
        low, high = plots.interval(y[:, whole])
        axes.fill_between(x[whole], low, high, color=style.COLOURS[0], alpha=0.25, linewidth=0)
        notes += [f"mean of {record.seeds} seeds, with its 95 % bootstrap interval"]
    if "greedy" in record.evaluations:
        axes.plot(
            record.eval_steps, np.nanmean(record.evaluations["greedy"], 0), "o", markersize=4,
            color=style.COLOURS[1], markerfacecolor="white", label="greedy evaluation",
        )  # fmt: skip
    if threshold is not None:
        axes.axhline(
            threshold, color=style.COLOURS[2], linestyle="--", linewidth=1.2,
            label=f"solved: {threshold:g}",
        )  # fmt: skip
    style.title(axes, "Return", *notes)
    axes.set_ylabel("return")
    axes.legend(fontsize=7, frameon=False, loc="best")
    style.over_steps(axes, record.steps[-1])


def _metrics(axes, record: Record) -> None:
    """A strip of its own for every metric but those of episodes, means over the seeds."""
    curves = {}
    for name in record.metrics:
        values = record.metrics[name]
        there = np.isfinite(values)
        with np.errstate(invalid="ignore"):  # 0 / 0
            mean = np.where(there, values, 0).sum(0) / there.sum(0)
        if not name.startswith(("episode/", "eval/")) and there.any():
            curves[name] = _binned(record.steps, mean)
    if not curves:
        style.empty(axes, "The agent has no metrics of learning.")
        return
    style.title(axes, "Losses and other metrics of learning", "means over the seeds")
    axes.set_axis_off()
    part = 1 / len(curves)
    for i, (name, (x, y)) in enumerate(curves.items()):
        strip = axes.inset_axes((0, 1 - (i + 1) * part, 1, 0.56 * part))
        strip.plot(x, y, color=style.colour(i), linewidth=1.1)
        strip.text(0, 1.04, name, fontsize=7, va="bottom", transform=strip.transAxes)
        style.tidy(strip)
        style.over_steps(strip, record.steps[-1])
        low, high = y.min(), y.max()
        strip.set_yticks([low, high] if high > low else [low])
        strip.yaxis.set_major_formatter("{x:.3g}")
        strip.margins(y=0.2)
        strip.tick_params(axis="y", labelsize=6)
        if i < len(curves) - 1:
            strip.set_xlabel("")
            strip.tick_params(axis="x", labelbottom=False)


def _binned(steps: np.ndarray, values: np.ndarray, bins: int = 60):
    """Means of neighbouring points, so that no more than `bins` are left; without those of NaN."""
    there = ~np.isnan(values)
    parts = [p for p in np.array_split(np.flatnonzero(there), bins) if len(p)]
    return np.array([steps[p].mean() for p in parts]), np.array([values[p].mean() for p in parts])


def _lengths(axes, record: Record, played: Played | None) -> None:
    """Lengths of whole episodes under the last policy; else, what training had."""
    if played is not None:
        groups = played.lengths
        notes = [
            f"{len(groups['greedy'])} whole episodes each, of all seeds, under the last policy"
        ]
    else:
        counts = _counts(record)
        lengths, groups = record.metric("episode/length"), {}
        late = record.steps > record.steps[-1] * 0.9
        there = (counts > 0) & ~np.isnan(lengths)
        for name, part in {"all iterations": there, "last 10 % of steps": there & late}.items():
            if part.any():
                groups[name] = np.repeat(lengths[part], counts[part].astype(int))
        notes = ["in training: means of single iterations, weighted by their episodes"]
    if not groups:
        style.empty(axes, "No episode has ended yet.")
        return
    most = max(x.max() for x in groups.values())
    bins = np.linspace(0, most * 1.0001, int(min(25, most)) + 1)
    for i, (name, values) in enumerate(groups.items()):
        look = {"histtype": "step", "linewidth": 1.6} if i else {"alpha": 0.5}
        label = f"{name}, median {np.median(values):g}"
        shares = np.full(len(values), 1 / len(values))
        axes.hist(values, bins, weights=shares, color=style.colour(i), label=label, **look)
    style.title(axes, "Episode lengths", *notes)
    axes.set(xlabel="episode length in steps", ylabel="share of episodes")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.3)
    axes.legend(fontsize=7, frameon=False, loc="upper left")


def _phases(axes, record: Record, returns: np.ndarray, threshold: float | None) -> None:
    begun = ~np.isnan(returns).any(0)
    if not begun.any():
        style.empty(axes, "No episode has ended yet.")
        return
    x, mean = record.steps[begun], returns[:, begun].mean(0)
    found = phases.phases(x, mean)
    drawn = _drawn(len(x))
    axes.plot(x[drawn], mean[drawn], color=style.GREY, linewidth=1)
    axes.set_ylabel("return, mean over seeds")
    marks = [(0, "start"), (found.rise, "rise"), (found.plateau, "plateau")]
    marks = [(step, name) for step, name in marks if step is not None]
    ends = [step for step, _ in marks[1:]] + [record.steps[-1]]
    for i, ((begin, name), end) in enumerate(zip(marks, ends, strict=True)):
        axes.axvspan(begin, end, color=style.colour((4, 5, 2)[i]), alpha=0.18, linewidth=0)
        if end - begin > 0.1 * record.steps[-1]:
            axes.text(
                (begin + end) / 2, 1.01, name, ha="center", fontsize=7.5,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
    said = "no rise" if found.rise is None else f"rise from {short(found.rise)}, no plateau yet"
    if found.plateau is not None:
        said = f"rise from {short(found.rise)}, plateau from {short(found.plateau)}, "
        said += f"{100 * found.kept:.0f} % kept at the end"
    notes = [said]
    if threshold is not None:
        right = axes.twinx()
        rate = np.where(np.isnan(returns), False, returns >= threshold).mean(0)
        steps = np.append(record.steps, record.steps[-1])[_drawn(len(rate))]
        right.step(
            steps, rate[_drawn(len(rate))], where="post", color=style.COLOURS[2], linewidth=1.6
        )
        right.set(ylim=(-0.03, 1.03))
        right.set_ylabel("share of seeds that solved it", color=style.COLOURS[2], fontsize=8)
        right.tick_params(labelsize=8, labelcolor=style.COLOURS[2])
        right.spines["top"].set_visible(False)
        name = record.about["environment"]["name"]
        notes += [f"solved: mean of {WINDOW} episodes ≥ {threshold:g}, {source(name)}"]
    style.title(axes, "Phases of learning", *notes, lift=9)
    style.over_steps(axes, record.steps[-1])


def action_distribution(
    run: str | Path | Result | Record, width: float = style.WIDE, played: Played | None = None
):
    """What the policy does over whole episodes, greedy beside sampled, as a matplotlib Figure.

    Discrete actions as bars (dots are single seeds), continuous ones as a histogram of every
    dimension, up to six of them. played: from `play`; None plays here, and raises what it does.
    """
    played = play(run) if played is None else played
    taken, space = played.actions, played.space
    dims = taken["greedy"][0].shape[-1]
    figure, all_axes = style.panels(min(dims, 6), width if dims > 1 else min(width, 5.0), 2.7)
    counts = getattr(space, "nvec", None) or [getattr(space, "n", 2)] * dims
    continuous = spaces.kind(space) == "continuous"
    for i, axes in enumerate(all_axes):
        own = {kind: [x[:, i] for x in seeds] for kind, seeds in taken.items()}
        if continuous:
            _histogram(axes, own)
        else:
            _bars(axes, own, int(counts[i]))
        axes.set_xlabel("action" if dims == 1 else f"action, dimension {i + 1} of {dims}")
    total = sum(map(len, taken["greedy"]))
    note = f"{len(played.lengths['greedy'])} episodes each, {short(total)} greedy steps"
    style.title(all_axes[0], "Actions over whole episodes", note)
    style.legend_below(figure, all_axes[0].get_legend_handles_labels()[0])
    return figure


def _bars(axes, own: dict[str, list[np.ndarray]], count: int) -> None:
    for i, (kind, seeds) in enumerate(own.items()):
        shares = np.stack([np.bincount(x.astype(int), minlength=count) / len(x) for x in seeds])
        x = np.arange(count) + (i - 0.5) * 0.4
        axes.bar(x, shares.mean(0), 0.38, color=style.colour(i), alpha=0.8, label=kind)
        if len(seeds) > 1:
            axes.plot(x, shares.T, ".", color="black", markersize=3, alpha=0.6)
    axes.set_xticks(np.arange(count))
    axes.set(ylabel="share of steps", ylim=(0, None))


def _histogram(axes, own: dict[str, list[np.ndarray]]) -> None:
    pooled = {kind: np.concatenate(seeds) for kind, seeds in own.items()}
    values = np.concatenate([*pooled.values()])
    least, most = np.nanmin(values), np.nanmax(values)
    bins = np.linspace(least, most if most > least else least + 1, 41)
    for i, (kind, x) in enumerate(pooled.items()):
        look = {"density": True, "color": style.colour(i)}
        axes.hist(x, bins, alpha=0.4, label=kind, **look)
        axes.hist(x, bins, histtype="step", **look)
    axes.set_ylabel("density")
