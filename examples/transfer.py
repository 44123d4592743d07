"""Does it pay to begin with what another run has learnt? PPO on three changed CartPoles.

python examples/transfer.py [--seeds 8] [--total-steps 40960] [--out transfer.png]

Trains PPO on CartPole-v1, and then on a CartPole with a pole of a tenth of the length, one with a
pole of four times the length, and one whose pushes go the other way: from scratch, from all that
was learnt, and from the torsos alone, on which new heads are put. Seed i begins with what seed i of
the first run has learnt. Draws the greedy return against environment steps.
"""

import argparse

import jax
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import jaxpg
from jaxpg import statistics
from jaxpg.core.run import Result
from jaxpg.experiment.analysis.bootstrap import interval

AGENT, ENV, EPISODES = "ppo", "CartPole-v1", 64
TASKS = {  # what is changed: parameters, of which the usual ones are length 0.5 and force_mag 10
    "pole of a tenth of the length": {"length": 0.05},
    "pole of four times the length": {"length": 2.0},
    "pushes go the other way": {"force_mag": -10.0},
}
ORIGINS = {  # what the new run begins with: parts, None without another run
    "nothing": None,
    "all that was learnt": (),
    "the torsos": ("actor_torso", "critic_torso"),
}
# Okabe and Ito's palette, which the colour-blind can tell apart too.
COLOURS = dict(zip(ORIGINS, ("#666666", "#0072B2", "#D55E00"), strict=True))


def measure(seeds: int, total_steps: int) -> dict[str, dict[str, Result]]:
    """Runs on every task from every origin."""
    k_first, k_new = jax.random.split(jax.random.key(0), (2, seeds))
    cfg = jaxpg.preset(AGENT, ENV)
    first = jaxpg.run(AGENT, cfg, ENV, k_first, total_steps=total_steps)
    found = {}
    for task, params in TASKS.items():
        env, found[task] = jaxpg.make(ENV, **params), {}
        for origin, parts in ORIGINS.items():
            other = {} if parts is None else {"init_from": first, "init_parts": parts}
            found[task][origin] = jaxpg.run(
                AGENT, cfg, env, k_new, total_steps=total_steps, evaluations=20,
                episodes=EPISODES, chunk=1, **other,
            )  # fmt: skip
    return found


def table(found: dict[str, dict[str, Result]]) -> Table:
    """Greedy returns at the first and the last evaluation, means over seeds, and over the run."""
    out = Table(box=None)
    out.add_column("task", no_wrap=True)
    for column in ("begins with", "first", "mean of all", "95 %", "last"):
        out.add_column(column, justify="left" if column == "begins with" else "right")
    for task, runs in found.items():
        for origin, result in runs.items():
            greedy = result.evaluations["greedy"]  # [seeds, evaluations]
            means = greedy[:, 0].mean(), greedy.mean(), greedy[:, -1].mean()
            low, high = interval(statistics.mean, greedy.mean(1))
            numbers = [f"{x:.0f}" for x in means]
            out.add_row(task, origin, *numbers[:2], f"{low:.0f} .. {high:.0f}", numbers[2])
    return out


def draw(found: dict[str, dict[str, Result]], path: str) -> None:
    """Draws means over seeds with their 95 % intervals, a panel for each task."""
    figure = Figure(figsize=(10, 3.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True)
    for axes, (task, runs) in zip(panels, found.items(), strict=True):
        for origin, result in runs.items():
            steps = result.evaluations["env_steps"] / 1000
            greedy = result.evaluations["greedy"]  # [seeds, evaluations]
            low, high = np.array([interval(statistics.mean, x, resamples=1000) for x in greedy.T]).T
            axes.plot(steps, greedy.mean(0), color=COLOURS[origin], label=origin)
            axes.fill_between(steps, low, high, color=COLOURS[origin], alpha=0.15, linewidth=0)
        axes.set_title(task, fontsize=10.5, loc="left")
        axes.set_xlabel("thousand environment steps")
        axes.set_ylim(0, 515)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("greedy return")
    panels[-1].legend(title="begins with", frameon=False, fontsize=9, loc="lower right")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--total-steps", type=int, default=40_960)
    parser.add_argument("--out", default="transfer.png")
    args = parser.parse_args()
    found = measure(args.seeds, args.total_steps)
    draw(found, args.out)
    console = Console()
    console.print(table(found))
    console.print(f"Drawn into {args.out}.", highlight=False)


if __name__ == "__main__":
    main()
