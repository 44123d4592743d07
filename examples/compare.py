"""Policy-based and value-based agents on CartPole, each at its preset, in one figure.

python examples/compare.py [--seeds 6] [--agents reinforce a2c ppo dqn q_learning]
                           [--total-steps STEPS] [--out FILE]

Trains every agent for the steps given, or those that its preset asks for, and draws the return
while learning against environment steps. Prints when all seeds together first did well, and what
the greedy policies reach in the end. Q-learning sees the state in bins, and no position of the
cart.
"""

import argparse

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxpg
from jaxpg import presets
from jaxpg.core.run import Result
from jaxpg.experiment.analysis.series import moving_mean
from jaxpg.experiment.figures.learning_curve import learning_curve
from jaxpg.experiment.text import format_count

AGENTS = ("reinforce", "a2c", "ppo", "dqn", "q_learning")
ENV, WELL, WINDOW = "CartPole-v1", 400, 50  # a return of so much, over so many episodes


def row(result: Result, greedy: np.ndarray) -> list[str]:
    """Table row of one agent; greedy: [seeds, episodes] final returns."""
    returns, counts = (result.metrics[f"episode/{x}"] for x in ("return", "count"))
    well = np.flatnonzero(moving_mean(returns, counts, WINDOW).mean(0) >= WELL)
    steps = result.agent.steps_per_iter(result.cfg)
    first = format_count(result.iterations[well[0]] * steps) if len(well) else "-"
    seeds = greedy.mean(1)
    rate = len(seeds) * result.env_steps / result.seconds
    return [
        result.agent.name, format_count(result.env_steps), first, f"{seeds.mean():.0f}",
        f"{seeds.min():.0f}", f"{result.seconds:.0f} s", f"{format_count(rate)}/s",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--agents", nargs="+", default=AGENTS)
    parser.add_argument("--total-steps", type=int, help="of each agent; its preset's if not given")
    parser.add_argument("--out", default="compare.png")
    args = parser.parse_args()
    jaxpg.use_all_cores()
    console, env = Console(), jaxpg.make(ENV)
    keys, k_eval = jax.random.split(jax.random.key(0), (2, args.seeds))
    columns = (
        "steps",
        f"mean of {WELL} at",
        "greedy",
        "worst seed",
        "time",
        "rate, with compilation",
    )
    table, results = Table("agent", *columns, box=None), []
    for name in args.agents:
        agent = jaxpg.agents.get(name)
        total = args.total_steps or presets.table(name)[ENV]["total_steps"]
        console.print(f"{name}, {args.seeds} x {format_count(total)} steps ...", highlight=False)
        result = jaxpg.run(agent, jaxpg.preset(name, ENV), env, keys, total_steps=total)
        greedy = jaxpg.evaluate(agent, result.cfg, env, result.state, k_eval)
        table.add_row(*row(result, np.asarray(greedy)))
        results.append(result)
    learning_curve(results, args.out, WINDOW)
    console.print(table)
    console.print(f"Drawn into {args.out}.", highlight=False)


if __name__ == "__main__":
    main()
