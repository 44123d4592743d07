"""Figures of costs.py: frontiers, points, and the multiplier of a bandit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import costs_settings as settings
import numpy as np

from jaxpg.experiment.figures import style


def draw_all(results: dict, solve: Callable, folder: Path) -> None:
    """Draws what there are rows of."""
    if any("best" in row for row in results.values()):
        draw_frontiers(results, solve, folder / "costs.png")
    if any("return" in row for row in results.values()):
        draw_points(results, folder / "costs_points.png")
    if any("p" in row for row in results.values()):
        draw_bandit(results, folder / "multiplier.png")


def draw_frontiers(results: dict, solve: Callable, path: Path) -> None:
    """Exact return against exact cost of each seed, on the best that each limit allows."""
    figure, axes = style.new_panels(2, height=3.2)
    for axis, task in zip(axes, settings.TABLES, strict=True):
        env_name, _, _, given = settings.TABLES[task]
        free = solve(task, np.inf)
        limits = np.linspace(0, 1.1 * free.cost, 45)
        best = np.array([solve(task, limit).value for limit in limits])
        axis.plot(limits, best, color=style.GREY, lw=1.2, label="the best, by a linear program")
        for i, name in enumerate(settings.AGENTS):
            for j, limit in enumerate(given):
                row = results.get(f"{name} {task} {limit}")
                if row:
                    axis.plot(
                        row["mean cost"], row["mean value"], "os"[j], ms=4, alpha=0.7,
                        color=style.colour(i), label=f"{name}, limit {limit}",
                    )  # fmt: skip
        for limit in given:
            axis.axvline(limit, color=style.GREY, lw=0.8, ls=":")
        if task == "cliff":  # below it nothing is seen of the frontier
            axis.set_ylim(-12.2, -11.75)
            axis.set_xlim(left=0.02)
        axis.set(xlabel="discounted cost", ylabel="discounted return")
        style.set_title(axis, env_name, "a point a seed; dotted: the limits")
        axis.legend(
            fontsize=6, facecolor="white", edgecolor="none", framealpha=1, loc="lower right"
        )
    style.save(figure, path)


def draw_points(results: dict, path: Path) -> None:
    """Return against cost of each seed, in the tasks that have no table, under what is possible."""
    rows_of = {
        task: {
            k.removesuffix(f", {task}"): v for k, v in results.items() if k.endswith(f", {task}")
        }
        for task in settings.POINTS
    }
    shown = [task for task, rows in rows_of.items() if rows]
    figure, axes = style.new_panels(len(shown), height=2.9)
    handles: dict[str, object] = {}
    for axis, task in zip(np.atleast_1d(axes), shown, strict=True):
        draw_task(axis, task, rows_of[task], handles)
    style.legend_below(figure, list(handles.values()), 3)  # type: ignore[arg-type]
    style.save(figure, path)


def draw_task(axis: Any, task: str, rows: dict, handles: dict) -> None:
    """A panel of `draw_points`; `handles` get the marks that are new in it."""
    env_name, _, limits, _ = settings.POINTS[task]
    for name, row in rows.items():
        if name == "bound":
            label = "what a limit allows"
            (mark,) = axis.plot(
                row["limits"], row["returns"], color=style.GREY, lw=1.2, label=label,
                marker="" if row["limits"][1:] else "*",
            )  # fmt: skip
            handles.setdefault(label, mark)
            continue
        agent, _, weight = name.removesuffix(" cost").partition(" - ")
        agent, _, limit = agent.partition(" at ")
        kind = "ppo, reward less a weighted cost" if weight else agent
        i = (*settings.AGENTS, "ppo", "ppo, reward less a weighted cost").index(kind)
        tight = limit and float(limit) != limits[0]
        label = kind + (", at the smaller limit" if tight else "")
        (mark,) = axis.plot(
            row["cost"], row["return"], "s" if tight else "oo^v"[i], ms=4.5, alpha=0.75,
            color=style.colour(i), label=label, ls="",
        )  # fmt: skip
        handles.setdefault(label, mark)
        if weight:
            where = np.mean(row["cost"]), np.mean(row["return"])
            axis.annotate(
                weight, where, fontsize=6.5, color=style.GREY, xytext=(5, -7),
                textcoords="offset points",
            )  # fmt: skip
    for limit in limits:
        axis.axvline(limit, color=style.GREY, lw=0.8, ls=":")
    axis.set(xlabel="cost of an episode", ylabel="return")
    axis.set_xlim(left=0)
    note = "a point a seed; dotted: the limits"
    style.set_title(axis, f"{env_name.removesuffix('-jaxpg')}, {task}", note)


def draw_bandit(results: dict, path: Path) -> None:
    """Probability of the dear arm, and the multiplier, over the steps."""
    figure, axes = style.new_panels(2, height=2.6)
    says = {"p": "Probability of the dear arm", "multiplier": "Multiplier"}
    best = {"p": settings.BANDIT_LIMIT, "multiplier": 1.0}
    handles = []
    for axis, (what, title) in zip(axes, says.items(), strict=True):
        handles = []
        for i, (kp, ki) in enumerate(settings.BANDIT_GAINS):
            y = results[f"bandit {(kp, ki)}"][what]
            label = f"p {kp:g}, i {ki:g}" if kp else f"i {ki:g} alone"
            handles += axis.plot(
                np.arange(len(y)) * 5, y, color=style.colour(i), lw=1.0, label=label
            )
        axis.axhline(best[what], color=style.GREY, lw=0.8, ls=":")
        axis.set_xlabel("steps")
        style.set_title(axis, title, f"dotted: what is best, {best[what]:g}")
    style.legend_below(figure, handles, 3)
    style.save(figure, path)
