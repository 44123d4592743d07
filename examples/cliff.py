"""The cliff: Q-learning walks along the edge and pays for it, Sarsa keeps away.

python examples/cliff.py [--seeds 20] [--total-steps 100000] [--out cliff.png]

Sutton & Barto (2018), example 6.6, with every agent at its preset and a tenth of all actions
random. Draws the greedy paths that were learnt, and the return while learning beside what is exact:
dynamic programming says what either policy is worth as long as it explores. Prints both.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import jaxpg
from jaxpg.envs import tabular
from jaxpg.experiment.plots import COLOURS, interval, smooth
from jaxpg.ops import dynamic_programming as dp

AGENTS = ("q_learning", "sarsa", "expected_sarsa")
WINDOW = 100  # episodes that a return is the mean of


def path(Q, model) -> list[int]:
    """The states of the greedy policy from the start; at most 100."""
    s = int(model.start.argmax())
    states = [s]
    while not model.terminal[s] and len(states) < 100:
        s = int(model.P[s, Q[s].argmax()].argmax())
        states.append(s)
    return states


def exact(model, epsilon) -> tuple[float, float]:
    """What two epsilon-greedy policies are worth: the best one's of all, which does not know that
    it explores, and the best one's of those that explore."""
    best, safest = (dp.value_iteration(model.P, model.R, 1.0, e) for e in (0.0, epsilon))
    edge = dp.policy_evaluation(model.P, model.R, dp.greedy_policy(best, epsilon), 1.0)
    return float(model.start @ edge), float(model.start @ dp.soft_value(safest, epsilon))


def draw_map(axes, paths, shape=(4, 12)) -> None:
    """The map, with the path of every seed: the more of them go one way, the darker it is."""
    axes.add_patch(_box((1, 3), 10, 1, "#bbbbbb"))
    axes.text(6, 3.5, "the cliff", ha="center", va="center")
    for x, name in ((0, "S"), (11, "G")):
        axes.text(x + 0.5, 3.5, name, ha="center", va="center", weight="bold")
    for i, (name, seeds) in enumerate(paths.items()):
        for states in seeds:
            row, column = np.divmod(states, shape[1])
            shift = 0.5 + 0.14 * (i - 1)
            style = {"color": COLOURS[i], "alpha": max(0.08, 1 / len(seeds)), "linewidth": 3}
            axes.plot(column + shift, row + shift, solid_capstyle="round", **style)
    axes.set(xlim=(0, shape[1]), ylim=(shape[0], 0), aspect="equal")
    axes.set_xticks(range(shape[1] + 1), [])
    axes.set_yticks(range(shape[0] + 1), [])
    axes.tick_params(length=0)
    axes.grid(alpha=0.4, linewidth=0.6)


def _box(corner, width, height, colour):
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, color=colour, linewidth=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--total-steps", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("cliff.png"))
    args = parser.parse_args()

    env, keys = jaxpg.make("Cliff-jaxpg"), jax.random.split(jax.random.key(0), args.seeds)
    model = tabular.model(env)
    figure = Figure(figsize=(7.2, 6.4), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(2, 3))
    table = Table("agent", "greedy path", "online return", "exact")
    paths = {}
    for i, name in enumerate(AGENTS):
        agent, cfg = jaxpg.agents.get(name), jaxpg.preset(name, "Cliff-jaxpg")
        result = jaxpg.run(agent, cfg, env, keys, total_steps=args.total_steps)
        Q = np.asarray(result.state.params).reshape(args.seeds, *model.R.shape)
        paths[name] = [path(q, model) for q in Q]
        returns, counts = (result.metrics[f"episode/{x}"] for x in ("return", "count"))
        curve = smooth(returns, counts, WINDOW)
        steps = np.arange(1, curve.shape[1] + 1) * agent.steps_per_iter(cfg)
        shown = np.flatnonzero((counts.cumsum(1) >= WINDOW).all(0))
        below.plot(steps[shown], curve[:, shown].mean(0), color=COLOURS[i], label=name)
        below.fill_between(
            steps[shown], *interval(curve[:, shown]), color=COLOURS[i], alpha=0.2, linewidth=0
        )
        half = curve.shape[1] // 2
        online = np.where(counts > 0, returns * counts, 0)[:, half:].sum(1) / counts[:, half:].sum(1)
        lengths = np.bincount([len(p) - 1 for p in paths[name]])
        ways = ", ".join(f"{n} steps x {lengths[n]}" for n in np.flatnonzero(lengths))
        worth = exact(model, float(cfg.epsilon))[name != "q_learning"]
        error = online.std() / len(online) ** 0.5
        table.add_row(name, ways, f"{online.mean():.1f} ± {error:.1f}", f"{worth:.1f}")
    for i, value in ((0, 0), (1, 1)):
        worth = exact(model, float(cfg.epsilon))[value]
        below.axhline(worth, color=COLOURS[i], linestyle=":", linewidth=1)
        below.annotate(
            f"exact: {worth:.1f}", (args.total_steps, worth), xytext=(0, 3),
            textcoords="offset points", ha="right", fontsize=8, color=COLOURS[i],
        )  # fmt: skip
    draw_map(above, paths)
    above.set_title(f"greedy paths of {args.seeds} seeds", fontsize=10)
    below.set(xlabel="environment steps", ylabel=f"return (last {WINDOW} episodes)", ylim=(-100, 0))
    below.grid(alpha=0.25, linewidth=0.6)
    below.spines[["top", "right"]].set_visible(False)
    below.legend(frameon=False, loc="lower right")
    figure.savefig(args.out)
    Console().print(table)
    print(args.out)


if __name__ == "__main__":
    main()
