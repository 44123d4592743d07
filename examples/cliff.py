"""The cliff: Q-learning walks along the edge and pays for it, Sarsa keeps away.

python examples/cliff.py [--seeds 20] [--total-steps 100000] [--out cliff.png]

Sutton & Barto (2018), example 6.6, with every agent at its preset and a tenth of all actions
random. Draws the greedy paths that were learnt, and the return while learning. Dotted is what is
exact: dynamic programming says what a policy is worth as long as it explores.
"""

import argparse
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console
from rich.table import Table

import jaxpg
from jaxpg.envs import tabular
from jaxpg.experiment.analysis.series import moving_mean, pointwise_interval
from jaxpg.experiment.figures.style import COLOURS
from jaxpg.experiment.text import format_count
from jaxpg.ops import dynamic_programming as dp

AGENTS = dict(zip(("q_learning", "sarsa", "expected_sarsa"), COLOURS, strict=False))
WINDOW = 100  # episodes that a drawn return is the mean of
ROWS, COLUMNS = 4, 12


class Learnt(NamedTuple):
    paths: list[list[int]]  # of every seed: the states of its greedy policy
    steps: np.ndarray  # [points]
    curves: np.ndarray  # [seeds, points] return while learning
    online: np.ndarray  # [seeds] mean return of the episodes in the second half
    exact: float  # what it is worth to follow the policy that is aimed for, exploring


def learn(name: str, seeds: int, total_steps: int) -> Learnt:
    agent, env = jaxpg.agents.get(name), jaxpg.make("Cliff-jaxpg")
    cfg, keys = jaxpg.preset(name, env.name), jax.random.split(jax.random.key(0), seeds)
    result = jaxpg.run(agent, cfg, env, keys, total_steps=total_steps)
    returns, counts = (result.metrics[f"episode/{x}"] for x in ("return", "count"))
    drawn = (counts.cumsum(1) >= WINDOW).all(0)
    steps = result.iterations * agent.steps_per_iter(cfg)
    late = len(drawn) // 2
    total = np.where(counts > 0, returns * counts, 0)[:, late:].sum(1)

    # Q-learning aims for the best policy, and pays for exploring; the others for the best of those
    # that explore.
    model, epsilon = tabular.model(env), float(cfg.epsilon)
    best = dp.value_iteration(model.P, model.R, 1.0, 0.0 if name == "q_learning" else epsilon)
    policy = dp.greedy_policy(best, epsilon)
    return Learnt(
        paths=[path(Q, model) for Q in np.reshape(result.state.params, (seeds, *best.shape))],
        steps=steps[drawn],
        curves=moving_mean(returns, counts, WINDOW)[:, drawn],
        online=total / counts[:, late:].sum(1),
        exact=float(model.start @ dp.policy_evaluation(model.P, model.R, policy, 1.0)),
    )


def path(Q, model) -> list[int]:
    """The states of the greedy policy from the start on, at most 100."""
    states = [int(model.start.argmax())]
    while not model.terminal[states[-1]] and len(states) < 100:
        s = states[-1]
        states.append(int(model.P[s, Q[s].argmax()].argmax()))
    return states


def table(learnt: dict[str, Learnt]) -> Table:
    out = Table("agent", "greedy paths", "return while learning", "exact")
    for name, x in learnt.items():
        lengths = np.bincount([len(p) - 1 for p in x.paths])
        paths = ", ".join(f"{lengths[n]} of {n} steps" for n in np.flatnonzero(lengths))
        error = x.online.std() / len(x.online) ** 0.5
        out.add_row(name, paths, f"{x.online.mean():.1f} ± {error:.1f}", f"{x.exact:.1f}")
    return out


def draw(learnt: dict[str, Learnt], path: str) -> None:
    figure = Figure(figsize=(7.2, 6.6), dpi=150, layout="constrained")
    world, curves = figure.subplots(2, 1, height_ratios=(2, 3))
    world.add_patch(Rectangle((1, 3), COLUMNS - 2, 1, color="#cccccc", linewidth=0))
    for x, y, text in ((0.5, 3.85, "S"), (6, 3.5, "the cliff: -100, back to S"), (11.5, 3.85, "G")):
        world.text(x, y, text, ha="center", va="center")
    for i, (name, x) in enumerate(learnt.items()):
        for states in x.paths:
            row, column = np.divmod(states, COLUMNS)
            aside = 0.32 + 0.15 * i
            world.plot(
                column + aside, row + aside, color=AGENTS[name], linewidth=3,
                alpha=max(0.1, 1 / len(x.paths)), solid_capstyle="round",
            )  # fmt: skip
        curves.plot(x.steps, x.curves.mean(0), color=AGENTS[name], linewidth=2, label=name)
        band = pointwise_interval(x.curves)
        curves.fill_between(x.steps, *band, color=AGENTS[name], alpha=0.2, linewidth=0)
        curves.axhline(x.exact, color=AGENTS[name], linestyle=":", linewidth=1)
    world.set(xlim=(0, COLUMNS), ylim=(ROWS, 0), aspect="equal")
    world.set_xticks(range(COLUMNS + 1), [])
    world.set_yticks(range(ROWS + 1), [])
    world.tick_params(length=0)
    world.grid(alpha=0.4, linewidth=0.6)
    world.set_title(f"Greedy paths of {len(x.paths)} seeds", fontsize=10.5, loc="left")
    curves.set_title("Return while learning (dotted: exact)", fontsize=10.5, loc="left")
    curves.set(
        xlabel="environment steps", ylabel=f"return (last {WINDOW} episodes)", ylim=(-100, 0)
    )
    curves.xaxis.set_major_formatter(lambda x, _: format_count(x))
    curves.grid(alpha=0.25, linewidth=0.6)
    curves.spines[["top", "right"]].set_visible(False)
    curves.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--total-steps", type=int, default=100_000)
    parser.add_argument("--out", default="cliff.png")
    args = parser.parse_args()
    learnt = {name: learn(name, args.seeds, args.total_steps) for name in AGENTS}
    draw(learnt, args.out)
    console = Console()
    console.print(table(learnt))
    console.print(f"Drawn into {args.out}.", highlight=False)


if __name__ == "__main__":
    main()
