"""Measures options in the four rooms; writes benchmarks/options.json and docs/figures/options.png.

python benchmarks/options.py [--seeds 10] [--episodes 1000] [--only NAME ...]

The experiment of Bacon, Harb & Precup (2017), section 5.1: tables, one environment, an update a
step. After `episodes` episodes the goal moves from the east hall to a cell of the lower right room,
drawn for each seed, the same for all cases. How many steps does an episode take by then, of which
the least is known, how long do options last, is each in use, and who is the first to be back?

Back is the first of 20 episodes whose mean length is at most 20 steps, told in environment steps
since the change. All seeds of a case are one program; every step of each is an update of its own.
A seed gives up `most` steps after the change.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxpg
from jaxpg.core.train import initial_state
from jaxpg.envs import tabular
from jaxpg.ops import dynamic_programming as dp

AGENT = jaxpg.option_critic
WINDOW, LEVEL, MOST = 20, 20.0, 300_000
BLOCK = 10  # episodes whose mean is a point of the curve
TABLES: dict[str, Any] = {
    "num_envs": 1, "num_steps": 1, "hidden": (), "optimizer": "sgd", "max_grad_norm": 1e9,
    "gae_lambda": 0.0, "critic_learning_rate": 0.5, "learning_rate": 3.0,
    "termination_learning_rate": 2.0, "option_epsilon": 0.1, "entropy_coef": 0.0,
}  # fmt: skip
SOFTMAX = {"option_policy": "softmax", "option_temperature": 0.3}
CASES: dict[str, dict[str, Any]] = {
    "4 options, cost 0.05": {"deliberation_cost": 0.05},
    "4 options": {},
    "4 options, cost 0.15": {"deliberation_cost": 0.15, "option_epsilon": 0.2},
    "softmax": SOFTMAX,
    "softmax, cost 0.15": SOFTMAX | {"deliberation_cost": 0.15},
    "flat, rate 1": {"options": 1, "learning_rate": 1.0},
    "flat, rate 3": {"options": 1},
    "flat, rate 10": {"options": 1, "learning_rate": 10.0},
}


class Played(NamedTuple):
    """One seed: all of its episodes, and its options before the goal moved."""

    length: Any  # [2 episodes] int32 steps of each; 0 where it gave up
    use: Any  # [O] share of steps of each option, over the last fifth before the change
    lasts: Any  # [] steps of an option, of that time


def play(cfg, env, episodes: int, key, goal) -> Played:
    """Learns until both goals have had their episodes."""
    O, late = cfg.options, episodes * 4 // 5  # noqa: E741

    def body(loop):
        state, length, done, since, counts = loop
        moved = done >= episodes
        now = env.params.replace(goal=jnp.where(moved, goal, env.params.goal))
        state, m = AGENT.step(cfg, jaxpg.Env(now, env.core), state)
        ended = m["episode/count"] > 0
        steps = jnp.nan_to_num(m["episode/length"]).astype(jnp.int32)
        length = jnp.where(ended, length.at[done].set(steps), length)
        new = jnp.stack([m["options/chosen"], *(m[f"options/use_{i}"] for i in range(O))])
        counts = counts + new * ((done >= late) & ~moved)
        return state, length, done + ended, since + moved, counts

    def going(loop):
        return (loop[2] < 2 * episodes) & (loop[3] < MOST)

    zero = jnp.zeros((), jnp.int32)
    begin = initial_state(AGENT, cfg, env, key), jnp.zeros(2 * episodes, jnp.int32), zero, zero
    _, length, _, _, counts = jax.lax.while_loop(going, body, (*begin, jnp.zeros(1 + O)))
    total = counts[1:].sum()
    return Played(length, counts[1:] / total, total / counts[0])


def steps_until_back(length: np.ndarray) -> float | None:
    """Environment steps until the first of WINDOW episodes that are short; None if they never
    are."""
    length = length[: len(length) if length.all() else int(length.argmin())]
    if len(length) < WINDOW:
        return None
    mean = np.convolve(length, np.ones(WINDOW) / WINDOW, "valid")
    if not (mean <= LEVEL).any():
        return None
    return float(length[: int((mean <= LEVEL).argmax())].sum())


def least_steps(goal: int | None = None) -> float:
    """Exact mean length of an episode under the best policy."""
    params = {} if goal is None else {"goal": goal}
    env = jaxpg.make("FourRooms-jaxpg", step_reward=-1.0, goal_reward=-1.0, **params)
    m = tabular.model(env)
    return -float(m.start @ dp.value_iteration(m.P, m.R, 1.0).max(-1))


def measure(fields: dict, seeds: int, episodes: int, goals: np.ndarray) -> dict:
    """The row of a case."""
    cfg, env = AGENT.Config(**TABLES | fields), jaxpg.make("FourRooms-jaxpg")
    keys, began = jax.random.split(jax.random.key(0), seeds), time.time()
    go = jax.jit(jax.vmap(functools.partial(play, cfg, env, episodes)))
    found = jax.tree.map(np.asarray, go(keys, jnp.asarray(goals, jnp.int32)))
    length = found.length.astype(float)
    curve = np.where(found.length == 0, np.nan, length).reshape(seeds, -1, BLOCK).mean(-1)
    return {
        "fields": fields,
        "steps": length[:, episodes * 4 // 5 : episodes].mean(1).round(3).tolist(),
        "back": [steps_until_back(x[episodes:]) for x in length],
        "lasts": found.lasts.round(3).tolist(),
        "use": found.use.round(4).tolist(),
        "curve": [[None if np.isnan(x) else round(float(x), 1) for x in row] for row in curve],
        "seconds": round(time.time() - began, 1),
    }


def tell(name: str, row: dict) -> None:
    back = [np.inf if x is None else x for x in row["back"]]
    print(
        f"{name:22} {np.mean(row['steps']):6.2f} steps ({min(row['steps']):.2f} to "
        f"{max(row['steps']):.2f})  back after {np.median(back):6.0f}  options last "
        f"{np.mean(row['lasts']):.2f} ({min(row['lasts']):.2f} at least), least use "
        f"{np.min(row['use']):.1%}  {row['seconds']:.0f} s",
        flush=True,
    )


def draw(results: dict, episodes: int, path: Path) -> None:
    from jaxpg.experiment.figures import style

    figure, (left, right) = style.new_panels(2, height=3.2)
    shown = ("4 options, cost 0.05", "4 options", "flat, rate 1", "flat, rate 3")
    for i, name in enumerate(x for x in shown if x in results):
        curve = np.array(results[name]["curve"], float)
        x = (np.arange(curve.shape[1]) + 0.5) * BLOCK
        for axes in (left, right):
            middle = np.nanmedian(np.where(np.isnan(curve), np.inf, curve), 0)
            axes.plot(x, middle, color=style.colour(i), label=name, lw=1.2)
    best = results["best"]
    for axes in (left, right):
        axes.set_yscale("log")
        axes.set_yticks([10, 20, 50, 100, 200], ["10", "20", "50", "100", "200"])
        axes.minorticks_off()
        axes.set(xlabel="episode", ylabel="steps of an episode")
        axes.plot([0, episodes], [best["first goal"]] * 2, color=style.GREY, lw=0.9, ls="--")
        mean = np.mean(best["second goal"])
        axes.plot([episodes, 2 * episodes], [mean] * 2, color=style.GREY, lw=0.9, ls="--")
    left.set_xlim(0, 2 * episodes)
    right.set_xlim(episodes * 0.95, episodes * 1.3)
    left.text(20, best["first goal"] * 0.95, "least", fontsize=7, color=style.GREY, va="top")
    many = len(results[shown[0]]["steps"])
    style.set_title(left, "Steps of an episode", f"medians of {many} seeds, of {BLOCK} episodes")
    style.set_title(right, "The goal moves", f"after {episodes} episodes")
    style.legend_below(figure, left.get_legend_handles_labels()[0], 4)
    style.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    args = parser.parse_args()
    path = Path(__file__).with_name("options.json")
    results = json.loads(path.read_text()) if path.exists() else {}
    if results.get("settings") != [args.seeds, args.episodes]:
        results = {}
    cells = jaxpg.make("FourRooms-jaxpg").core.grid.cells
    room = np.flatnonzero((cells > [7, 6]).all(1))  # lower right
    goals = np.random.default_rng(0).choice(room, args.seeds)
    best = {"first goal": least_steps(), "second goal": [least_steps(int(g)) for g in goals]}
    about = {"settings": [args.seeds, args.episodes], "best": best}
    results = about | {name: row for name, row in results.items() if name in CASES}
    for name in args.only:
        results[name] = measure(CASES[name], args.seeds, args.episodes, goals)
        tell(name, results[name])
        rows = [f" {json.dumps(name)}: {json.dumps(row)}" for name, row in results.items()]
        path.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    ours = [x or np.inf for x in results[next(iter(CASES))]["back"]]
    for name in results:
        if name.startswith("flat"):
            theirs = [np.inf if x is None else x for x in results[name]["back"]]
            earlier = sum(a < b for a, b in zip(ours, theirs, strict=True))
            print(f"{next(iter(CASES))} is back before {name} in {earlier} of {len(ours)} seeds")
    draw(results, args.episodes, path.parent.parent / "docs" / "figures" / "options.png")


if __name__ == "__main__":
    main()
