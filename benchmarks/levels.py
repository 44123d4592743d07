"""Measures prioritised level replay: PPO trained on generated mazes, by the share of other mazes that
it solves; writes benchmarks/levels.json and the figure of docs/level_replay.md.

python benchmarks/levels.py [ROW ...]

A row is `place/how`, such as maze/replay: ten seeds at once, and after each part of the run the mean
return over mazes that no seed was trained on, with actions drawn from the policy. A word that only
begins a row's name chooses all such rows. Without any, figure and statistics are made anew of the
rows that are there.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxpg
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.core.train import initial_state, with_horizon

PATH = Path(__file__).with_name("levels.json")
FIGURES = PATH.parent.parent / "docs" / "figures"
SEEDS, POINTS, EPISODES = 10, 10, 512
FIRST_HELD_OUT, HELD_OUT = 10_000, 500
PPO: dict[str, Any] = {
    "num_envs": 32, "num_steps": 64, "learning_rate": 1e-3, "hidden": (64,), "memory": "gru",
    "memory_size": 32, "entropy_coef": 0.01,
}  # fmt: skip
# Cells of a side, mazes to train on, environment steps.
PLACES = {"maze11": (11, 200, 1_000_000)}
HOW: dict[str, dict[str, Any]] = {
    "uniform": {},
    "replay": {"level_replay": True, "level_temperature": 1.0, "level_staleness": 0.3},
    "paper": {"level_replay": True},
}
LABELS = {"uniform": "uniform", "replay": "level replay, 1.0 and 0.3", "paper": "level replay, 0.1"}
ROWS = [f"{place}/{how}" for place in PLACES for how in HOW]


def measure(row: str) -> dict[str, Any]:
    """Mean returns over held-out mazes and over the episodes of training, [seeds][points]."""
    place, how = row.split("/")
    size, count, total = PLACES[place]
    maze = jaxpg.make("Maze-jaxpg", size=size, view=5)
    env = jaxpg.levels(maze, level=range(count))
    held_out = jaxpg.levels(maze, level=range(FIRST_HELD_OUT, FIRST_HELD_OUT + HELD_OUT))
    agent, cfg = jaxpg.ppo, with_horizon(jaxpg.ppo.Config(**PPO | HOW[how]), total)
    every = total // POINTS // agent.steps_per_iter(cfg)

    def learn(state):
        step = lambda state, _: agent.step(cfg, env, state)  # noqa: E731
        state, m = jax.lax.scan(step, state, length=every)
        return state, m["episode/return"]

    def judge(state):
        key = jax.random.key(1)  # the same mazes and chances for all
        return jaxpg.evaluate(agent, cfg, held_out, state, key, EPISODES, greedy=False).mean()

    begun = time.process_time()
    keys = jax.random.split(jax.random.key(0), SEEDS)
    state = jax.jit(jax.vmap(lambda key: initial_state(agent, cfg, env, key)))(keys)
    learn, judge = jax.jit(jax.vmap(learn), donate_argnums=0), jax.jit(jax.vmap(judge))
    found, training = [], []
    for _ in range(POINTS):
        state, returns = learn(state)
        training.append(np.nanmean(np.asarray(returns, float), 1))
        found.append(np.asarray(judge(state), float))
        print(row, len(found), found[-1].round(2).tolist(), flush=True)
    each = every * agent.steps_per_iter(cfg)
    return {
        "env_steps": [(i + 1) * each for i in range(POINTS)],
        "held_out": np.stack(found, 1).round(4).tolist(),
        "training": np.stack(training, 1).round(4).tolist(),
        "cpu_seconds": round(time.process_time() - begun),
    }


def tell(rows: dict[str, Any]) -> None:
    """Prints the IQM at the end and over the run, each with its interval, and who beats whom."""
    for place in PLACES:
        found = {h: rows[f"{place}/{h}"]["held_out"] for h in HOW if f"{place}/{h}" in rows}
        for what, of in (("at the end", lambda x: x[:, -1]), ("over the run", lambda x: x.mean(1))):
            scores = {how: of(np.array(x)) for how, x in found.items()}
            print(f"{place}, {what}\n{jaxpg.statistics.compare(scores).round(3)}")
            if len(scores) > 1:
                print(jaxpg.statistics.improvements(scores).round(3))


def draw(rows: dict[str, Any]) -> None:
    """Held-out returns over the run: the IQM and its interval."""
    from jaxpg.experiment.figures import style

    figure, panels = style.new_panels(len(PLACES), height=3.2)
    for axes, (place, (size, count, total)) in zip(panels, PLACES.items(), strict=True):
        for i, how in enumerate(h for h in HOW if f"{place}/{h}" in rows):
            row = rows[f"{place}/{how}"]
            scores = [np.array(x)[None] for x in zip(*row["held_out"], strict=True)]
            low, high = zip(*(jaxpg.statistics.interval(jaxpg.statistics.iqm, x) for x in scores))
            middle = [float(jaxpg.statistics.iqm(x)) for x in scores]
            axes.plot(row["env_steps"], middle, color=style.colour(i), lw=1.4, label=LABELS[how])
            axes.fill_between(row["env_steps"], low, high, color=style.colour(i), alpha=0.15, lw=0)
        axes.set_ylim(0, 1)
        style.set_steps_axis(axes, total)
        what = f"{size} x {size}, trained on {count}; IQM of ten seeds, 95 % interval"
        style.set_title(axes, "Share of new mazes that is solved", what)
        axes.legend(fontsize=7, loc="lower right")
    style.save(figure, FIGURES / "level_replay.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW")
    args = parser.parse_args()
    use_fast_random()
    for row in (row for row in ROWS if any(row.startswith(word) for word in args.rows)):
        found = measure(row)
        rows = json.loads(PATH.read_text()) if PATH.exists() else {}
        rows = dict(sorted((rows | {row: found}).items()))
        lines = [f" {json.dumps(name)}: {json.dumps(x)}" for name, x in rows.items()]
        PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    rows = json.loads(PATH.read_text())
    tell(rows)
    draw(rows)


if __name__ == "__main__":
    main()
