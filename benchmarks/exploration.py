"""Measures what bonuses for what is new are worth where rewards are rare; writes
benchmarks/exploration.json and the figures of docs/exploration.md.

python benchmarks/exploration.py [--sea [WORD ...]] [--car [WORD ...]] [--tv [WORD ...]] [--speed]

`--sea` counts the episodes until the greedy policy solves DeepSea, of several sizes; `--car` has
curves of MountainCar; `--tv` tells how much of its time an agent watches a screen of noise;
`--speed` what each bonus costs. Words choose rows: of several a row has all. Without any of them
the figures are made anew of the rows that are there.
"""

import argparse
import functools
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxpg
from jaxpg.agents import get
from jaxpg.core import episodes
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.core.train import initial_state, with_horizon
from jaxpg.loops.bonuses import BONUSES

PATH = Path(__file__).with_name("exploration.json")
FIGURES = PATH.parent.parent / "docs" / "figures"
SEEDS, SOLVED, MOST = 5, 0.985, 5000  # greedy return, its best 0.99; episodes
SIZES = (8, 10, 20, 30)
SEA: dict[str, dict[str, Any]] = {
    "ppo": {
        "num_envs": 16, "learning_rate": 1e-3, "learning_rate_schedule": "constant",
        "entropy_coef": 0.03, "bonus_weight": 0.3,
    },
    "dqn": {
        "num_envs": 1, "buffer_size": 20_000, "learning_starts": 100, "batch_size": 64,
        "updates_per_step": 2.0, "target_period": 20, "hidden": (64, 64),
    },
}  # fmt: skip
GREEDY = {"epsilon_start": 0.1, "epsilon_end": 0.1}  # with a bonus; else it falls from 1 to 0.05
ENSEMBLE = {"ensemble": 10, "epsilon_start": 0.0, "epsilon_end": 0.0, "updates_per_step": 1.0}
SEA_ROWS = [("dqn", b) for b in ("count", "bootstrapped", "none")]
SEA_ROWS += [("ppo", b) for b in ("count", "rnd", "icm", "none")]
CAR = "MountainCar-v0"
CAR_STEPS, CAR_POINTS = 500_000, 25
CAR_FIELDS: dict[str, Any] = {
    "num_envs": 16, "learning_rate": 7e-4, "learning_rate_schedule": "constant",
    "entropy_coef": 0.05, "normalize_obs": True, "bonus_weight": 100.0,
}  # fmt: skip
TV, TV_STEPS, TV_POINTS = "NoisyTV-jaxpg", 200_000, 24
TV_LENGTH, TV_PIXELS = 40, (8, 16)  # 256 pictures, which can be known by heart, and 65,536
TV_FIELDS: dict[str, Any] = {"num_envs": 16, "learning_rate": 1e-3, "bonus_weight": 1.0}
TV_BONUSES = ("none", "count", "icm", "rnd", "info_gain", "ngu_episodic")
SPEED_ROUNDS, SPEED_ITERATIONS = 7, 8  # of each bonus in turn, after one that compiles


def sea_config(agent: str, bonus: str, size: int):
    fields = SEA[agent] | {"num_steps": size}
    if bonus == "bootstrapped":  # no bonus: ten networks that disagree
        return get(agent).Config(**fields | ENSEMBLE)
    if agent == "dqn" and bonus != "none":
        fields |= GREEDY
    if agent == "dqn" and bonus == "none" and size >= 20:
        fields |= {"updates_per_step": 0.5}
    return get(agent).Config(**fields, bonus=bonus)


def measure_sea(agent_name: str, bonus: str, size: int) -> dict[str, Any]:
    """Episodes of each seed until the greedy policy's return is the best one; None if it never is
    within MOST of them.

    Seeds of PPO are side by side. Those of DQN are one after another: a seed that has solved it
    costs nothing more, and a buffer is as large as the observations.
    """
    agent, cfg = get(agent_name), sea_config(agent_name, bonus, size)
    env, cfg = jaxpg.make("DeepSea-bsuite", size=size), with_horizon(cfg, MOST * size)
    every = max(1, round(25 * size / agent.steps_per_iter(cfg)))  # iterations
    each = every * agent.steps_per_iter(cfg) // size  # episodes

    def begin(key):
        return initial_state(agent, cfg, env, key)

    def learn(state):
        step = lambda state, _: (agent.step(cfg, env, state)[0], ())  # noqa: E731
        return jax.lax.scan(step, state, length=every)[0]

    def judge(state):
        policy = episodes.policy_of(agent, cfg, env, state, True)
        t, _, mask = episodes.play(env, policy, jax.random.key(0), 1, size)
        return (t.reward * mask).sum()

    groups = jax.random.split(jax.random.key(0), SEEDS)[None]  # of seeds side by side
    groups = groups if agent_name == "ppo" else groups.T
    begin, judge = (jax.jit(jax.vmap(f)) for f in (begin, judge))
    learn, found, begun = jax.jit(jax.vmap(learn), donate_argnums=0), [], time.process_time()
    for keys in groups:
        state, done, solved = begin(keys), 0, np.full(len(keys), np.inf)
        while done < MOST and np.isinf(solved).any():
            state, done = learn(state), done + each
            solved[np.isinf(solved) & (np.asarray(judge(state)) > SOLVED)] = done
        found += solved.tolist()
        print("", found, round(time.process_time() - begun), flush=True)
    return {
        "episodes": [int(x) if math.isfinite(x) else None for x in found],
        "cpu_seconds": round(time.process_time() - begun),
    }


def curves(name: str, cfg, env, total: int, points: int, seeds: int, of) -> dict[str, Any]:
    """Means of metrics between `points` of a run: {label: [seeds][points]}, by of(metrics)."""
    agent = get(name)
    each = agent.steps_per_iter(cfg)
    every = total // points // each
    cfg = with_horizon(cfg, total)

    def learn(state):
        step = lambda state, _: (lambda x: (x[0], of(x[1])))(agent.step(cfg, env, state))  # noqa: E731
        return jax.lax.scan(step, state, length=every)

    keys = jax.random.split(jax.random.key(0), seeds)
    state = jax.jit(jax.vmap(lambda key: initial_state(agent, cfg, env, key)))(keys)
    learn, found, begun = jax.jit(jax.vmap(learn), donate_argnums=0), [], time.process_time()
    for _ in range(points):
        state, m = learn(state)
        found.append({k: np.nanmean(np.asarray(x, float), 1) for k, x in m.items()})
    rows = {k: np.stack([x[k] for x in found], 1).round(4).tolist() for k in found[0]}
    steps = [(i + 1) * every * each for i in range(points)]
    return {"env_steps": steps, **rows, "cpu_seconds": round(time.process_time() - begun)}


def measure_car(bonus: str) -> dict[str, Any]:
    keep = lambda m: {"return": m["episode/return"]}  # noqa: E731
    cfg, env = jaxpg.ppo.Config(**CAR_FIELDS, bonus=bonus), jaxpg.make(CAR)
    return curves("ppo", cfg, env, CAR_STEPS, CAR_POINTS, SEEDS, keep)


def measure_tv(bonus: str, pixels: int) -> dict[str, Any]:
    """Curves of the return and of the share of steps that watch the screen."""
    cfg, env = (
        jaxpg.ppo.Config(**TV_FIELDS, bonus=bonus),
        jaxpg.make(TV, length=TV_LENGTH, pixels=pixels),
    )

    def keep(m):
        return {
            "return": m["episode/return"],
            "watched": m["episode/watched"] / m["episode/length"],
        }

    return curves("ppo", cfg, env, TV_STEPS, TV_POINTS, SEEDS, keep)


def measure_speed() -> dict[str, Any]:
    """Environment steps in a second of CPU time with each bonus, the median of rounds.

    Of PPO as in `measure_tv`, in one process, one round of each after the other: what else the
    machine does slows all of them down.
    """
    agent, env, learners = jaxpg.ppo, jaxpg.make(TV, length=TV_LENGTH, pixels=TV_PIXELS[0]), {}
    for bonus in ("none", *BONUSES):
        cfg = with_horizon(agent.Config(**TV_FIELDS, bonus=bonus), TV_STEPS)
        step = functools.partial(lambda cfg, state, _: (agent.step(cfg, env, state)[0], ()), cfg)
        learn = jax.jit(functools.partial(jax.lax.scan, step, length=SPEED_ITERATIONS))
        state = initial_state(agent, cfg, env, jax.random.key(0))
        learners[bonus] = learn, jax.block_until_ready(learn(state)[0])
    steps = SPEED_ITERATIONS * agent.steps_per_iter(cfg)
    found = {bonus: [] for bonus in learners}
    for _ in range(SPEED_ROUNDS):
        for bonus, (learn, state) in learners.items():
            begun = time.process_time()
            jax.block_until_ready(learn(state))
            found[bonus].append(steps / (time.process_time() - begun))
    median = {bonus: float(np.median(x)) for bonus, x in found.items()}
    return {
        "env_steps_per_cpu_second": {bonus: round(x) for bonus, x in median.items()},
        "share": {bonus: round(x / median["none"], 2) for bonus, x in median.items()},
    }


def fitted_exponent(rows: dict[str, Any], agent: str, bonus: str) -> tuple[float, float] | None:
    """(a, b) of the least squares fit log(episodes) = log(a) + b log(size) to all seeds that solved
    it; None where fewer than three sizes were solved by all."""
    x, y = [], []
    for size in SIZES:
        row = rows.get(f"sea/{agent}/{bonus}/{size}")
        if row and None not in row["episodes"]:
            x += [math.log(size)] * len(row["episodes"])
            y += [math.log(n) for n in row["episodes"]]
    if len(set(x)) < 3:
        return None
    b, log_a = np.polyfit(x, y, 1)
    return float(np.exp(log_a)), float(b)


def draw_sea(axes, rows: dict[str, Any]) -> None:
    """Episodes to solve DeepSea against its size."""
    from jaxpg.experiment.figures import style

    for i, (agent, bonus) in enumerate(SEA_ROWS):
        colour, found = style.colour(i), fitted_exponent(rows, agent, bonus)
        measured = [n for n in SIZES if f"sea/{agent}/{bonus}/{n}" in rows]
        if not measured:
            continue
        for size in measured:
            episodes = rows[f"sea/{agent}/{bonus}/{size}"]["episodes"]
            place, done = size * (1 + 0.02 * (i - 2)), [n for n in episodes if n]
            axes.plot([place] * len(done), done, "o", color=colour, ms=4, alpha=0.7)
            if None in episodes:
                axes.plot([place], [MOST * (1.2 + 0.1 * i)], "^", color=colour, ms=5, mfc="none")
        name = f"{agent}, {bonus if bonus != 'none' else 'no bonus'}"
        sizes = np.array([measured[0], measured[-1]]) if found else np.array([])
        line = found[0] * sizes ** found[1] if found else sizes
        name += f": size^{found[1]:.1f}" if found else ""
        axes.plot(sizes, line, "-o", color=colour, lw=1, ms=0, label=name)
    axes.set(xscale="log", yscale="log", xlabel="size N", ylim=(30, 12_000))
    axes.set_xticks(SIZES, [str(n) for n in SIZES])
    axes.set_yticks([30, 100, 300, 1000, 3000], ["30", "100", "300", "1,000", "3,000"])
    axes.minorticks_off()
    style.set_title(
        axes, "Episodes to solve DeepSea", "a dot a seed", f"triangle: not all within {MOST}"
    )


def draw_curves(axes, rows: dict[str, Any], part: str, key: str, total: int) -> None:
    """Mean and range over seeds of what a part's rows have under a key."""
    from jaxpg.experiment.figures import style

    for i, bonus in enumerate(TV_BONUSES):
        if (row := rows.get(f"{part}{bonus}")) is None:
            continue
        y = np.array(row[key])
        label = "no bonus" if bonus == "none" else bonus
        axes.plot(row["env_steps"], y.mean(0), color=style.colour(i), lw=1.4, label=label)
        low, high = y.min(0), y.max(0)
        axes.fill_between(row["env_steps"], low, high, color=style.colour(i), alpha=0.15, lw=0)
    style.set_steps_axis(axes, total)


def draw(rows: dict[str, Any]) -> None:
    from jaxpg.experiment.figures import style

    figure, (left, right) = style.new_panels(2, height=3.4)
    draw_sea(left, rows)
    draw_curves(right, rows, "car/ppo/", "return", CAR_STEPS)
    style.set_title(right, f"Return in {CAR}", "ppo, five seeds, mean and range")
    left.legend(fontsize=6)
    right.legend(fontsize=6)
    style.save(figure, FIGURES / "exploration.png")
    figure, (left, right) = style.new_panels(2, height=3.0)
    for axes, pixels in zip((left, right), TV_PIXELS, strict=True):
        draw_curves(axes, rows, f"tv/{pixels}/", "watched", TV_STEPS)
        axes.set_ylim(-0.02, 1.02)
        what = f"of {2**pixels:,} pictures; five seeds, mean and range"
        style.set_title(axes, "Share of steps that watch the screen", what)
    style.legend_below(figure, right.get_legend_handles_labels()[0], 3)
    style.save(figure, FIGURES / "exploration_tv.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sea", nargs="*", metavar="WORD")
    parser.add_argument("--car", nargs="*", metavar="WORD")
    parser.add_argument("--tv", nargs="*", metavar="WORD")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    use_fast_random()
    jobs = []
    if args.sea is not None:
        for agent, bonus in SEA_ROWS:
            for size in SIZES:
                words = {agent, bonus, str(size)}
                if set(args.sea) <= words:
                    name = f"sea/{agent}/{bonus}/{size}"
                    jobs.append((name, functools.partial(measure_sea, agent, bonus, size)))
    if args.car is not None:
        for bonus in ("none", "rnd"):
            if set(args.car) <= {bonus}:
                jobs.append((f"car/ppo/{bonus}", functools.partial(measure_car, bonus)))
    if args.tv is not None:
        for pixels in TV_PIXELS:
            for bonus in TV_BONUSES:
                if set(args.tv) <= {bonus, str(pixels)}:
                    run = functools.partial(measure_tv, bonus, pixels)
                    jobs.append((f"tv/{pixels}/{bonus}", run))
    if args.speed:
        jobs.append(("speed/ppo", measure_speed))
    for name, job in jobs:
        found = job()
        print(name, found, flush=True)
        rows = json.loads(PATH.read_text()) if PATH.exists() else {}
        rows = dict(sorted((rows | {name: found}).items()))
        lines = [f" {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
        PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    draw(json.loads(PATH.read_text()))


if __name__ == "__main__":
    main()
