"""Measures how a value over states and goals holds for goals that were never trained on; writes
benchmarks/held_out.json and the figure of docs/goals.md.

python benchmarks/goals.py --heldout [--seeds 3]

DQN without hindsight (which would make a goal of every cell that is reached) learns one network
over (state, goal) in GoalRooms-jaxpg, whose goals are three quarters of the cells. Then every pair
of a start and a goal is played once, greedily: nothing in it is random. What a goal looks like
decides what can be carried over, so places are coordinates in one row, and one-hot in the other.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxpg
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.envs.goals.rooms import State

PATH = Path(__file__).with_name("held_out.json")
FIGURE = PATH.parent.parent / "docs" / "figures" / "goals_held_out.png"
STEPS, LIMIT = 200_000, 100
ROWS = {"coordinates": False, "one-hot": True}
SETS = ("training", "held_out")


def make_env(one_hot: bool, goals: str):
    costs = {"step_reward": -1.0, "goal_reward": 0.0, "max_steps_in_episode": LIMIT}
    return jaxpg.make("GoalRooms-jaxpg", one_hot=one_hot, goals=goals, **costs)


def config():
    return jaxpg.dqn.Config(
        num_envs=32, num_steps=4, buffer_size=100_000, learning_starts=5000,
        updates_per_step=0.25, batch_size=128, gamma=0.97, epsilon_end=0.1, target_period=1,
        tau=0.02, hidden=(128, 128), total_steps=float(STEPS),
    )  # fmt: skip


def play_pairs(cfg, env, state) -> np.ndarray:
    """Steps [S, S] that the greedy policy of a state takes from each cell to each goal, LIMIT + 1
    where it does not reach it; 0 on the diagonal."""
    size = len(env.core.grid.cells)
    goal, start = (x.ravel() for x in jnp.meshgrid(*[jnp.arange(size)] * 2))
    begin = State(start, goal, jnp.zeros(size**2, jnp.int32))
    key = jax.random.key(0)  # of draws that nothing here makes

    def step(loop, _):
        inner, steps = loop
        obs = jax.vmap(env.core.observe)(inner)
        action, _ = jaxpg.dqn.act(cfg, env, state, obs, (), key, True)
        move = lambda s, a: env.core.step_env(key, s, a, env.params)[1]  # noqa: E731
        going = inner.s != inner.goal
        after = jax.vmap(move)(inner, action)
        inner = inner.replace(s=jnp.where(going, after.s, inner.s))
        return (inner, steps + going), None

    (inner, steps), _ = jax.lax.scan(step, (begin, 0 * start), length=LIMIT)
    return jnp.where(inner.s == inner.goal, steps, LIMIT + 1).reshape(size, size)


def distances(beside: np.ndarray) -> np.ndarray:
    """Least steps [S, S] between cells, from those that each move leads to [S, 4]."""
    size = len(beside)
    found = np.where(np.eye(size) > 0, 0, size)
    for _ in range(size):
        found = np.minimum(found, found[beside].min(1) + 1)
    return found


def measure(one_hot: bool, seeds: int) -> dict[str, Any]:
    """Of both sets of goals, for each seed: the share of pairs in which the goal is reached, and
    the steps of these over the least that are needed. And the success of each cell as a goal."""
    use_fast_random()
    begun, cfg, env = time.process_time(), config(), make_env(one_hot, "training")

    def one(key):
        state, _ = jaxpg.train(jaxpg.dqn, cfg, env, key, STEPS)
        return play_pairs(cfg, env, state)

    steps = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), seeds)))
    least, reached = distances(env.core.grid.beside), steps <= LIMIT
    others = ~np.eye(len(least), dtype=bool)
    row: dict[str, Any] = {"cpu_seconds": round(time.process_time() - begun)}
    for name in SETS:
        pairs = np.zeros_like(others)
        pairs[:, make_env(one_hot, name).core.goals] = True
        pairs &= others
        share = reached[:, pairs].mean(-1)
        there = reached & pairs
        extra = [(s * there[i]).sum() / (least * there[i]).sum() for i, s in enumerate(steps)]
        row[name] = {"success": share.round(4).tolist(), "steps": np.round(extra, 4).tolist()}
    row["of_cell"] = (reached & others).sum((0, 1)) / seeds / (len(least) - 1)
    row["of_cell"] = row["of_cell"].round(4).tolist()
    return row


def ratio(row: dict[str, Any]) -> list[float]:
    """Success on held-out goals over that on goals of the training, of each seed."""
    pair = zip(row["held_out"]["success"], row["training"]["success"], strict=True)
    return [held / seen for held, seen in pair]


def table(rows: dict[str, Any]) -> Iterator[str]:
    """Lines of the page's table."""
    yield "| places | goals | success of each seed | steps over the fewest | held out / trained |"
    yield "|---|---|---|---|---|"
    for name, row in rows.items():
        for goals in SETS:
            success = ", ".join(f"{x:.3f}" for x in row[goals]["success"])
            steps = f"{np.mean(row[goals]['steps']):.2f}"
            held = ", ".join(f"{x:.2f}" for x in ratio(row)) if goals == "held_out" else ""
            yield f"| {name} | {goals.replace('_', ' ')} | {success} | {steps} | {held} |"


def draw(rows: dict[str, Any], path: Path) -> None:
    """Draws the map of each row, where a cell is as dark as it is seldom reached as a goal."""
    from jaxpg.experiment.figures import style

    core = make_env(False, "held_out").core
    figure, panels = style.new_panels(len(rows), height=4.0)
    for axes, (name, row) in zip(panels, rows.items(), strict=True):
        picture = np.full(core.grid.free.shape, np.nan)
        picture[tuple(core.grid.cells.T)] = row["of_cell"]
        axes.set_facecolor("#4A4A4A")
        shown = axes.imshow(picture, vmin=0, vmax=1, cmap="viridis")
        for y, x in core.grid.cells[core.goals]:
            axes.plot([x], [y], "s", ms=8, mfc="none", mec=style.COLOURS[1], mew=1.6)
        axes.grid(False)
        axes.set_xticks([])
        axes.set_yticks([])
        seeds = len(row["training"]["success"])
        notes = f"share of all starts, mean of {seeds} seeds", "framed: never a goal in training"
        style.set_title(axes, f"Success by goal, places as {name}", *notes)
    figure.colorbar(shown, ax=panels, shrink=0.7)
    style.save(figure, path)


def run(seeds: int) -> None:
    """Measures both rows, writes them, and draws the figure."""
    rows = {}
    for name, one_hot in ROWS.items():
        rows[name] = measure(one_hot, seeds)
        print("\n".join(table(rows)), flush=True)
        lines = [f" {json.dumps(key)}: {json.dumps(row)}" for key, row in rows.items()]
        PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    draw(rows, FIGURE)
