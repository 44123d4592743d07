"""Measures what hindsight is worth where rewards are sparse; writes benchmarks/goals.json and the
figures of docs/hindsight.md.

python benchmarks/goals.py --hindsight [WORD ...] [--seeds 3]
python benchmarks/goals.py --heldout [--seeds 3]

Words choose rows by their agent, environment or number of bits, and of several a row has all:
`--hindsight dqn 15`, `--hindsight ArmReach-jaxpg`. Without `--hindsight` nothing is measured, and
the figures and tables are made anew of the rows that are there.

`--heldout` measures goals that were never trained on, see held_out.py.

A row is an agent with its preset for the environment, of DQN in BitFlip-jaxpg for any number of
bits, with hindsight as the preset has it or without, and otherwise alike. Now and then 256 greedy
episodes tell the share that ends at its goal.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import held_out
import jax
import numpy as np

import jaxpg
from jaxpg.agents import get
from jaxpg.core import episodes
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.core.train import initial_state, with_horizon

PATH = Path(__file__).with_name("goals.json")
FIGURES = PATH.parent.parent / "docs" / "figures"
EPISODES, ENOUGH = 256, 0.95
BITS = "BitFlip-jaxpg"
REACH = {"PointReach-jaxpg": 0.01, "ArmReach-jaxpg": 0.05}  # tolerances, a tenth and half of usual
BUDGETS = {  # bits: environment steps with hindsight, and without it
    5: (4_000, 12_000),
    8: (4_000, 16_000),
    10: (6_000, 24_000),
    15: (10_000, 72_000),
    20: (30_000, 0),
    25: (60_000, 0),
}


class Row(NamedTuple):
    agent: str
    env: str
    params: dict[str, Any]
    hindsight: bool
    total_steps: int
    points: int  # evaluations

    @property
    def name(self) -> str:
        params = "".join(f",{name}={value}" for name, value in self.params.items())
        return f"{self.agent}/{self.env}{params}/{'hindsight' if self.hindsight else 'without'}"

    def words(self) -> set[str]:
        return {self.agent, self.env, *map(str, self.params.values()), self.name.split("/")[-1]}


def all_rows() -> list[Row]:
    rows = []
    for n, budgets in BUDGETS.items():
        for on, steps in zip((True, False), budgets, strict=True):
            if steps:
                rows.append(Row("dqn", BITS, {"n": n}, on, steps, 20 if on else 12))
    for env, tolerance in REACH.items():
        for agent in ("ddpg", "td3", "sac"):
            rows += [Row(agent, env, {}, True, 20_000, 10)]
            near = {"tolerance": tolerance}
            rows += [Row(agent, env, near, on, 50_000, 10) for on in (True, False)]
    return rows


def config(row: Row):
    cfg = jaxpg.preset(row.agent, row.env)
    if not row.hindsight:
        cfg = jaxpg.core.config.replace(cfg, hindsight="none")
    return with_horizon(cfg, row.total_steps)


def measure(row: Row, seeds: int) -> dict[str, Any]:
    """Greedy success and return [seeds][points] of a row, and the steps after which they are."""
    use_fast_random()
    agent, cfg, env = get(row.agent), config(row), jaxpg.make(row.env, **row.params)
    each = agent.steps_per_iter(cfg)
    every = row.total_steps // row.points // each

    def learn(state):
        step = lambda state, _: (agent.step(cfg, env, state)[0], ())  # noqa: E731
        return jax.lax.scan(step, state, length=every)[0]

    def judge(state, key):
        policy = episodes.policy_of(agent, cfg, env, state, True)
        limit = int(env.params.max_steps_in_episode)
        t, _, mask = episodes.play(env, policy, key, EPISODES, limit)
        return [(x * mask).sum(0).mean() for x in (t.signals["success"], t.reward)]

    keys = jax.random.split(jax.random.key(0), seeds)
    state = jax.jit(jax.vmap(lambda key: initial_state(agent, cfg, env, key)))(keys)
    learn = jax.jit(jax.vmap(learn), donate_argnums=0)
    judge, found = jax.jit(jax.vmap(judge)), []
    begun = time.process_time()
    for i in range(row.points):
        state = learn(state)
        found.append(judge(state, jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(keys)))
    success, returns = np.asarray(found, float).round(4).transpose(1, 2, 0).tolist()
    return {
        "env_steps": [(i + 1) * every * each for i in range(row.points)],
        "success": success,
        "return": returns,
        "cpu_seconds": round(time.process_time() - begun),
    }


def steps_to_enough(result: dict[str, Any]) -> list[float]:
    """Environment steps of each seed at the first evaluation with ENOUGH success; infinite if it
    never was."""
    steps = np.array([*result["env_steps"], math.inf])
    reached = np.array(result["success"]) >= ENOUGH
    return [float(steps[np.append(one, True).argmax()]) for one in reached]


def best_return(n: int) -> float:
    from jaxpg.envs.goals.bit_flip import optimal_return

    return optimal_return(n)


def show(rows: dict[str, Any]) -> None:
    print(f"{'row':44} {'success at the end':20} {'return':8} steps to {ENOUGH}")
    for name, result in rows.items():
        last = [one[-1] for one in result["success"]]
        mean = np.mean([one[-1] for one in result["return"]])
        steps = " ".join(f"{x:,.0f}" for x in steps_to_enough(result))
        print(f"{name:44} {' '.join(f'{x:.3f}' for x in last):20} {mean:8.2f} {steps}")


def count_in_thousands(axes, name: str) -> None:
    """Makes an axis of `axes`, "x" or "y", one of environment steps, in powers."""
    from jaxpg.experiment.text import format_count

    axes.set(**{f"{name}scale": "log", f"{name}label": "environment steps"})
    axis = getattr(axes, f"{name}axis")
    axis.set_ticks([1_000, 3_000, 10_000, 30_000, 100_000])
    axis.set_major_formatter(lambda x, _: format_count(x))
    axis.set_minor_formatter(lambda x, _: "")


def draw_bits(rows: dict[str, Any], path: Path) -> None:
    """Steps to ENOUGH success against the number of bits, and the curves at fifteen."""
    from jaxpg.experiment.figures import style

    figure, (left, right) = style.new_panels(2, height=3.0)
    for i, kind in enumerate(("hindsight", "without")):
        colour = style.colour(i)
        for n in BUDGETS:
            if (result := rows.get(f"dqn/{BITS},n={n}/{kind}")) is None:
                continue
            steps = np.array(steps_to_enough(result))
            done, rest = steps[np.isfinite(steps)], np.isinf(steps).sum()
            left.plot([n] * len(done), done, "o", color=colour, ms=4, alpha=0.7)
            if rest:
                left.plot([n], result["env_steps"][-1], "^", color=colour, ms=6, mfc="none")
            if n == 15:
                x, y = result["env_steps"], np.array(result["success"])
                right.plot(x, y.mean(0), color=colour, label=kind, lw=1.4)
                right.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.2, lw=0)
    left.set(xlabel="bits n", ylim=(500, 120_000))
    left.set_xticks(list(BUDGETS))
    count_in_thousands(left, "y")
    style.set_title(
        left, f"Steps to {ENOUGH} greedy success", "a dot a seed", "triangle: not reached by then"
    )
    style.set_title(right, "Greedy success at n = 15", "three seeds, mean and range")
    count_in_thousands(right, "x")
    style.legend_below(figure, right.get_legend_handles_labels()[0], 2)
    style.save(figure, path)


def draw_reach(rows: dict[str, Any], path: Path) -> None:
    """Success over environment steps where goals are small."""
    from jaxpg.experiment.figures import style

    figure, panels = style.new_panels(2, height=3.0)
    for axes, env in zip(panels, REACH, strict=True):
        for i, agent in enumerate(("ddpg", "td3", "sac")):
            for kind, dash in (("hindsight", "-"), ("without", ":")):
                if result := rows.get(f"{agent}/{env},tolerance={REACH[env]}/{kind}"):
                    y, label = np.array(result["success"]).mean(0), f"{agent}, {kind}"
                    colour = style.colour(i)
                    axes.plot(result["env_steps"], y, dash, color=colour, label=label, lw=1.4)
        what = f"Greedy success in {env}"
        style.set_title(axes, what, f"mean of three seeds, tolerance {REACH[env]}")
        style.set_steps_axis(axes, 50_000)
        axes.set_ylim(-0.03, 1.05)
    lines = {x.get_label(): x for axes in panels for x in axes.get_legend_handles_labels()[0]}
    style.legend_below(figure, list(lines.values()), 3)
    style.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hindsight", nargs="*", metavar="WORD")
    parser.add_argument("--heldout", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    if args.heldout:
        return held_out.run(args.seeds)
    found = json.loads(PATH.read_text()) if PATH.exists() else {}
    for row in all_rows() if args.hindsight is not None else ():
        if not set(args.hindsight) <= row.words():
            continue
        found[row.name] = measure(row, args.seeds)
        show({row.name: found[row.name]})
        names = [x.name for x in all_rows()]
        found = {name: found[name] for name in names if name in found}
        lines = [f" {json.dumps(name)}: {json.dumps(result)}" for name, result in found.items()]
        PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    show(found)
    draw_bits(found, FIGURES / "hindsight.png")
    draw_reach(found, FIGURES / "hindsight_reach.png")


if __name__ == "__main__":
    main()
