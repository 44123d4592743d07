"""Measures prioritised level replay: PPO trained on generated mazes, by the share of other mazes
that it solves; writes benchmarks/levels.json and the figure of docs/level_replay.md.

python benchmarks/levels.py [ROW ...]

A row is `how/batch`, a way to draw levels and one of two batches of ten seeds, such as replay/2:
after each part of the run the mean return over mazes that no seed was trained on, with actions
drawn from the policy. Settings were chosen on seeds and mazes that are part of the first batch; the
second one has others. Without any, figure and statistics are made anew of the rows that are there.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxpg
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.core.train import initial_state, with_horizon
from jaxpg.experiment.analysis.bootstrap import interval

PATH = Path(__file__).with_name("levels.json")
FIGURES = PATH.parent.parent / "docs" / "figures"
SEEDS, POINTS, EPISODES = 10, 8, 512
SIZE, LEVELS, TOTAL = 11, 200, 400_000  # cells of a side; mazes to train on; environment steps
HELD_OUT = {1: range(10_000, 10_500), 2: range(20_000, 20_500)}  # of each batch
# Steps of an episode. In training they are many, so that chance finds the goal now and then; what
# was learnt is to find it soon: shortest ways are of 16 to 36 steps.
LIMIT, SOON = 300, 60
PPO: dict[str, Any] = {
    "num_envs": 32, "num_steps": 64, "learning_rate": 1e-3, "hidden": (64,), "memory": "gru",
    "memory_size": 32, "entropy_coef": 0.01,
}  # fmt: skip
HOW: dict[str, dict[str, Any]] = {
    "uniform": {},
    "replay": {"level_replay": True, "level_temperature": 1.0, "level_staleness": 0.3},
    "paper": {"level_replay": True},
}
LABELS = {
    "uniform": "uniform", "replay": "level replay, 1 and 0.3", "paper": "level replay, 0.1 and 0.1"
}  # fmt: skip


def measure(row: str) -> dict[str, Any]:
    """Mean returns over held-out mazes and over the episodes of training, [seeds][points]."""
    how, batch = row.split("/")[0], int(row.split("/")[1])
    maze = functools.partial(jaxpg.make, "Maze-jaxpg", size=SIZE, view=5)
    env = jaxpg.levels(maze(max_steps_in_episode=LIMIT), level=range(LEVELS))
    held_out = jaxpg.levels(maze(max_steps_in_episode=SOON), level=HELD_OUT[batch])
    agent, cfg = jaxpg.ppo, with_horizon(jaxpg.ppo.Config(**PPO | HOW[how]), TOTAL)
    every = TOTAL // POINTS // agent.steps_per_iter(cfg)

    def learn(state):
        step = lambda state, _: agent.step(cfg, env, state)  # noqa: E731
        state, m = jax.lax.scan(step, state, length=every)
        return state, m["episode/return"]

    def judge(state):
        key = jax.random.key(batch)  # the same mazes and chances for all
        return jaxpg.evaluate(agent, cfg, held_out, state, key, EPISODES, greedy=False).mean()

    begun = time.process_time()
    keys = jax.random.split(jax.random.key(batch - 1), SEEDS)
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


def gather(rows: dict[str, Any], part: str, batches: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Returns of each way that has all of these batches: [batches, seeds, points]."""
    having = [how for how in HOW if all(f"{how}/{b}" in rows for b in batches)]
    return {how: np.array([rows[f"{how}/{b}"][part] for b in batches]) for how in having}


def tell(rows: dict[str, Any]) -> None:
    """Prints the IQM at the end and over the run, each with its interval, and who beats whom."""
    for batches in ((1,), (2,), (1, 2)):
        found = gather(rows, "held_out", batches)
        for what, of in (("the end", lambda x: x[..., -1]), ("the run", lambda x: x.mean(-1))):
            scores = {how: of(x) for how, x in found.items()}
            print(f"batches {batches}, {what}\n{jaxpg.statistics.compare(scores).round(3)}")
            print(jaxpg.statistics.improvements(scores).round(3))
            for how in (x for x in scores if x != "uniform"):
                pair = scores[how], scores["uniform"]
                low, high = interval(more, *pair)
                print(f"IQM of {how} less uniform's: {more(*pair):.3f} ({low:.3f} to {high:.3f})")


def more(x, y):
    """Difference of two IQMs."""
    return jaxpg.statistics.iqm(x) - jaxpg.statistics.iqm(y)


def draw(rows: dict[str, Any]) -> None:
    """Returns over held-out mazes and over those of training: the IQM and its interval."""
    from jaxpg.experiment.figures import style

    figure, panels = style.new_panels(2, height=3.2)
    for axes, part in zip(panels, ("held_out", "training"), strict=True):
        steps = rows["uniform/1"]["env_steps"]
        for i, (how, x) in enumerate(gather(rows, part, (1, 2)).items()):
            scores = np.moveaxis(x, -1, 0)
            ends = [interval(jaxpg.statistics.iqm, x) for x in scores]
            middle = [float(jaxpg.statistics.iqm(x)) for x in scores]
            axes.plot(steps, middle, color=style.colour(i), lw=1.4, label=LABELS[how])
            low, high = zip(*ends, strict=True)
            axes.fill_between(steps, low, high, color=style.colour(i), alpha=0.15, lw=0)
        axes.set_ylim(0, 1)
        style.set_steps_axis(axes, TOTAL)
    many = f"IQM of {2 * SEEDS} seeds, 95 % interval"
    style.set_title(panels[0], "Share of new mazes that is solved", f"in {SOON} steps; {many}")
    style.set_title(panels[1], "Share of the episodes of training", f"in {LIMIT} steps")
    style.legend_below(figure, panels[0].get_legend_handles_labels()[0], len(HOW))
    style.save(figure, FIGURES / "level_replay.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW")
    args = parser.parse_args()
    known = [f"{how}/{batch}" for how in HOW for batch in HELD_OUT]
    if wrong := set(args.rows) - set(known):
        parser.error(f"{min(wrong)}: allowed are {', '.join(known)}")
    use_fast_random()
    for row in args.rows:
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
