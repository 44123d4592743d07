"""Figures of exploration.py: episodes to solve DeepSea, curves of MountainCar and of a screen."""

import math
from pathlib import Path
from typing import Any

import exploration_settings as settings
import numpy as np

from jaxpg.experiment.figures import style

# One colour for a bonus in all figures, and one mark for an agent.
COLOURS = {name: style.colour(i) for i, name in enumerate((*settings.TV_BONUSES, "bootstrapped"))}
MARKS = {"dqn": "o", "ppo": "s"}


def fitted_exponent(rows: dict[str, Any], agent: str, bonus: str) -> tuple[float, float] | None:
    """(a, b) of the least squares fit log(episodes) = log(a) + b log(size) to all seeds that solved
    it; None where fewer than three sizes were solved by all."""
    x, y = [], []
    for size in settings.SIZES:
        row = rows.get(f"sea/{agent}/{bonus}/{size}")
        if row and None not in row["episodes"]:
            x += [math.log(size)] * len(row["episodes"])
            y += [math.log(n) for n in row["episodes"]]
    if len(set(x)) < 3:
        return None
    b, log_a = np.polyfit(x, y, 1)
    return float(np.exp(log_a)), float(b)


def draw_sea(axes, rows: dict[str, Any]) -> None:
    """Episodes to solve DeepSea against its size."""
    for i, (agent, bonus) in enumerate(settings.SEA_ROWS):
        colour, found = COLOURS[bonus], fitted_exponent(rows, agent, bonus)
        mark = {"color": colour, "marker": MARKS[agent], "ms": 4}
        measured = [n for n in settings.SIZES if f"sea/{agent}/{bonus}/{n}" in rows]
        if not measured:
            continue
        for size in measured:
            episodes = rows[f"sea/{agent}/{bonus}/{size}"]["episodes"]
            place, done = size * (1 + 0.02 * (i - 2)), [n for n in episodes if n]
            axes.plot([place] * len(done), done, ls="", alpha=0.7, **mark)
            if None in episodes:
                axes.plot([place], [settings.MOST * (1.2 + 0.1 * i)], ls="", mfc="none", **mark)
        what = {"none": "no bonus", "bootstrapped": "ensemble of 10"}.get(bonus, bonus)
        name = f"{agent}, {what}"
        sizes = np.array([measured[0], measured[-1]]) if found else np.array([])
        line = found[0] * sizes ** found[1] if found else sizes
        name += f": size^{found[1]:.1f}" if found else ""
        axes.plot(sizes, line, color=colour, lw=1)
        axes.plot([], [], ls="-" if found else "", lw=1, label=name, **mark)
    axes.set(xscale="log", yscale="log", xlabel="size N", ylim=(6, 12_000))
    axes.set_xticks(settings.SIZES, [str(n) for n in settings.SIZES])
    axes.set_yticks([10, 100, 1000], ["10", "100", "1,000"])
    axes.minorticks_off()
    style.set_title(
        axes,
        "Episodes to solve DeepSea",
        "a mark a seed",
        f"open: not all within {settings.MOST}",
    )


def draw_curves(axes, rows: dict[str, Any], part: str, key: str, total: int) -> None:
    """Mean over seeds, and each of them, of what a part's rows have under a key."""
    for bonus in settings.TV_BONUSES:
        if (row := rows.get(f"{part}{bonus}")) is None:
            continue
        y = np.array(row[key])
        label = "no bonus" if bonus == "none" else bonus
        axes.plot(row["env_steps"], y.mean(0), color=COLOURS[bonus], lw=1.6, label=label)
        axes.plot(row["env_steps"], y.T, color=COLOURS[bonus], lw=0.5, alpha=0.5)
    style.set_steps_axis(axes, total)


def draw_all(rows: dict[str, Any], folder: Path) -> None:
    """The figures of docs/exploration.md, of the rows that there are."""
    figure, (left, right) = style.new_panels(2, height=3.4)
    draw_sea(left, rows)
    draw_curves(right, rows, "car/ppo/", "return", settings.CAR_STEPS)
    style.set_title(right, f"Return in {settings.CAR}", "ppo; five seeds and their mean")
    left.legend(fontsize=6)
    right.legend(fontsize=6)
    style.save(figure, folder / "exploration.png")
    figure, (left, right) = style.new_panels(2, height=3.0)
    for axes, pixels in zip((left, right), settings.TV_PIXELS, strict=True):
        draw_curves(axes, rows, f"tv/{pixels}/", "watched", settings.TV_STEPS)
        axes.set_ylim(-0.02, 1.02)
        what = f"of {2**pixels:,} pictures; five seeds and their mean"
        style.set_title(axes, "Share of steps that watch the screen", what)
    style.legend_below(figure, right.get_legend_handles_labels()[0], 4)
    style.save(figure, folder / "exploration_tv.png")
    figure, panels = style.new_panels(len(settings.PLACES), height=3.0)
    for axes, (place, row) in zip(panels, settings.PLACES.items(), strict=True):
        name, _, seeds, total, *_ = row
        draw_curves(axes, rows, f"{place}/ppo/", "return", total)
        what = f"return of ppo; {seeds} seeds and their mean"
        style.set_title(axes, name.rpartition("/")[2], what)
    style.legend_below(figure, panels[0].get_legend_handles_labels()[0], 4)
    style.save(figure, folder / "exploration_places.png")
