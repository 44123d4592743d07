"""Measures what bonuses for what is new are worth where rewards are rare; writes
benchmarks/exploration.json and the figures of docs/exploration.md.

python benchmarks/exploration.py [--sea [WORD ...]] [--car [WORD ...]] [--tv [WORD ...]]
    [--maze [WORD ...]] [--door [WORD ...]] [--speed]

`--sea` counts the episodes until the greedy policy solves DeepSea, of several sizes; `--car` has
curves of MountainCar; `--tv` tells how much of its time an agent watches a screen of noise;
`--maze` and `--door`, which needs navix, have curves where the one reward is behind walls;
`--speed` tells what each bonus costs. Words choose rows: of several a row has all. Without any of
them the figures are made anew of the rows that are there.
"""

import argparse
import functools
import json
import math
import time
from pathlib import Path
from typing import Any

import exploration_figures as figures
import exploration_settings as settings
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


def measure_sea(agent_name: str, bonus: str, size: int) -> dict[str, Any]:
    """Episodes of each seed until the greedy policy's return is the best one; None if it never is
    within MOST of them.

    Seeds of PPO are side by side. Those of DQN are one after another: a seed that has solved it
    costs nothing more, and a buffer is as large as the observations.
    """
    agent, cfg = get(agent_name), settings.sea_config(agent_name, bonus, size)
    env, cfg = jaxpg.make("DeepSea-bsuite", size=size), with_horizon(cfg, settings.MOST * size)
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

    keys = jax.random.split(jax.random.key(0), settings.SEEDS)
    groups = keys[None] if agent_name == "ppo" else keys[:, None]  # of seeds side by side
    begin, judge = (jax.jit(jax.vmap(f)) for f in (begin, judge))
    learn, found, begun = jax.jit(jax.vmap(learn), donate_argnums=0), [], time.process_time()
    for keys in groups:
        state, done, solved = begin(keys), 0, np.full(len(keys), np.inf)
        while done < settings.MOST and np.isinf(solved).any():
            state, done = learn(state), done + each
            solved[np.isinf(solved) & (np.asarray(judge(state)) > settings.SOLVED)] = done
        found += solved.tolist()
        print("", found, round(time.process_time() - begun), flush=True)
    return {
        "episodes": [int(x) if math.isfinite(x) else None for x in found],
        "cpu_seconds": round(time.process_time() - begun),
    }


def curves(name: str, cfg, env, total: int, points: int, seeds: int, of) -> dict[str, Any]:
    """Means of metrics between `points` of a run: {label: [seeds][points]}, by of(metrics); and the
    greedy return of each seed at its end."""
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
        print("", *(f"{k} {x.round(3)}" for k, x in found[-1].items()), flush=True)
    rows = {k: np.stack([x[k] for x in found], 1).round(4).tolist() for k in found[0]}
    steps = [(i + 1) * every * each for i in range(points)]
    seconds = round(time.process_time() - begun)
    greedy = jaxpg.evaluate(agent, cfg, env, state, keys, episodes=128).mean(-1)
    return {
        "env_steps": steps, **rows, "greedy": greedy.round(4).tolist(), "cpu_seconds": seconds,
    }  # fmt: skip


def measure_car(bonus: str) -> dict[str, Any]:
    keep = lambda m: {"return": m["episode/return"]}  # noqa: E731
    cfg, env = jaxpg.ppo.Config(**settings.CAR_FIELDS, bonus=bonus), jaxpg.make(settings.CAR)
    return curves("ppo", cfg, env, settings.CAR_STEPS, settings.CAR_POINTS, settings.SEEDS, keep)


def measure_tv(bonus: str, pixels: int) -> dict[str, Any]:
    """Curves of the return and of the share of steps that watch the screen."""
    cfg, env = (
        jaxpg.ppo.Config(**settings.TV_FIELDS, bonus=bonus),
        jaxpg.make(settings.TV, length=settings.TV_LENGTH, pixels=pixels),
    )

    def keep(m):
        return {
            "return": m["episode/return"],
            "watched": m["episode/watched"] / m["episode/length"],
        }

    return curves("ppo", cfg, env, settings.TV_STEPS, settings.TV_POINTS, settings.SEEDS, keep)


def measure_place(place: str, bonus: str) -> dict[str, Any]:
    """Curves of the return and the length of episodes."""
    name, params, seeds, total, _, fields = settings.PLACES[place]
    cfg, env = jaxpg.ppo.Config(**fields, bonus=bonus), jaxpg.make(name, **params)
    keep = lambda m: {"return": m["episode/return"], "length": m["episode/length"]}  # noqa: E731
    return curves("ppo", cfg, env, total, settings.PLACE_POINTS, seeds, keep)


def measure_speed() -> dict[str, Any]:
    """Environment steps in a second of CPU time with each bonus, the median of rounds.

    Of PPO as in `measure_tv`, in one process, one round of each after the other: what else the
    machine does slows all of them down.
    """
    agent, learners = jaxpg.ppo, {}
    env = jaxpg.make(settings.TV, length=settings.TV_LENGTH, pixels=settings.TV_PIXELS[0])
    for bonus in ("none", *BONUSES):
        cfg = with_horizon(agent.Config(**settings.TV_FIELDS, bonus=bonus), settings.TV_STEPS)
        step = functools.partial(lambda cfg, state, _: (agent.step(cfg, env, state)[0], ()), cfg)
        learn = jax.jit(functools.partial(jax.lax.scan, step, length=settings.SPEED_ITERATIONS))
        state = initial_state(agent, cfg, env, jax.random.key(0))
        learners[bonus] = learn, jax.block_until_ready(learn(state)[0])
    steps = settings.SPEED_ITERATIONS * agent.steps_per_iter(cfg)
    found = {bonus: [] for bonus in learners}
    for _ in range(settings.SPEED_ROUNDS):
        for bonus, (learn, state) in learners.items():
            begun = time.process_time()
            jax.block_until_ready(learn(state))
            found[bonus].append(steps / (time.process_time() - begun))
    median = {bonus: float(np.median(x)) for bonus, x in found.items()}
    return {
        "env_steps_per_cpu_second": {bonus: round(x) for bonus, x in median.items()},
        "share": {bonus: round(x / median["none"], 2) for bonus, x in median.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for part in ("--sea", "--car", "--tv", "--maze", "--door"):
        parser.add_argument(part, nargs="*", metavar="WORD")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    use_fast_random()
    jobs = []
    if args.sea is not None:
        for agent, bonus in settings.SEA_ROWS:
            for size in settings.SIZES:
                words = {agent, bonus, str(size)}
                if set(args.sea) <= words:
                    name = f"sea/{agent}/{bonus}/{size}"
                    jobs.append((name, functools.partial(measure_sea, agent, bonus, size)))
    if args.car is not None:
        for bonus in ("none", "rnd"):
            if set(args.car) <= {bonus}:
                jobs.append((f"car/ppo/{bonus}", functools.partial(measure_car, bonus)))
    if args.tv is not None:
        for pixels in settings.TV_PIXELS:
            for bonus in settings.TV_BONUSES:
                if set(args.tv) <= {bonus, str(pixels)}:
                    run = functools.partial(measure_tv, bonus, pixels)
                    jobs.append((f"tv/{pixels}/{bonus}", run))
    for place in settings.PLACES:
        words = getattr(args, place)
        for bonus in settings.PLACES[place][4] if words is not None else ():
            if set(words) <= {bonus}:
                run = functools.partial(measure_place, place, bonus)
                jobs.append((f"{place}/ppo/{bonus}", run))
    if args.speed:
        jobs.append(("speed/ppo", measure_speed))
    for name, job in jobs:
        found = job()
        print(name, found, flush=True)
        rows = json.loads(PATH.read_text()) if PATH.exists() else {}
        rows = dict(sorted((rows | {name: found}).items()))
        lines = [f" {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
        PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    figures.draw_all(json.loads(PATH.read_text()), FIGURES)


if __name__ == "__main__":
    main()
