"""Finds the general profile of an agent: settings that do well over many environments at once.

python benchmarks/profiles.py ppo                the search
python benchmarks/profiles.py ppo --held-out     the profile on environments that it never saw

A profile, the table ["*"] of an agent's presets, is for an environment that nobody has tuned for.
The search trains points of a space on the first four environments of an agent's list, and the best
of them on all of it, with fresh seeds. What a point reached is counted from a random policy (0) to
the best that is known (1), and cut there, so that no environment outweighs another; points are
ordered by the mean over the environments, and the best one is the profile. Writes
benchmarks/profiles.json after each environment, and goes on with what is missing there.

With --held-out the profile is trained with 10 seeds on HELD_OUT, beside the agent's own preset
where there is one and its defaults, all of them for the steps of the table of results. It prints of
each the mean return, and its share of the way from a random policy to the better of the last two:
0.9 is the bar of the profile.
"""

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

import jax
import learning_rows
import numpy as np
from learning import measure_random

import jaxpg
from jaxpg import agents, presets, sweep
from jaxpg.core.config import replace, to_dict
from jaxpg.envs import registry
from jaxpg.experiment.analysis import scores
from jaxpg.experiment.sweeps.points import Range
from jaxpg.experiment.tuning.design import propose_points

# environment of a search -> a return that is known to be reached: see benchmarks/references.toml
BEST = {
    "CartPole-v1": 500, "MountainCar-v0": -105, "MountainCarContinuous-v0": 94,
    "Pendulum-v1": -150, "DeepSea-bsuite": 0.99, "DiscountingChain-bsuite": 1.1,
    "UmbrellaChain-bsuite": 1.0, "FourRooms-misc": 1.0, "MetaMaze-misc": 29, "Reacher-misc": 67.5,
    "BernoulliBandit-misc": 89, "Breakout-MinAtar": 40,
}  # fmt: skip
HELD_OUT = ["Acrobot-v1", "PointRobot-misc", "FrozenLake-misc", "Catch-bsuite"]
HELD_OUT += ["GridWorld-jaxpg", "Garnet-jaxpg"]
FIRST = 4  # environments that all points are trained on
SEEDS = {"search": 3, "finals": 4}


class Search(NamedTuple):
    """Search of one agent's profile."""

    steps: dict[str, int]  # environment -> environment steps
    base: dict  # fields that all points have
    programs: list[dict]  # combinations of static fields
    numbers: dict[str, Range | list]  # fields that vary in each of them
    each: int  # points of a program
    finalists: int = 6  # points that go on


def ranged(low: float, high: float) -> Range:
    return Range(low, high, log=True)


# Steps of policy searches, which count episodes of full length.
OF_SEARCHES = {
    "CartPole-v1": 1_000_000, "MountainCar-v0": 1_000_000, "Pendulum-v1": 2_000_000,
    "MountainCarContinuous-v0": 2_000_000, "DiscountingChain-bsuite": 1_000_000,
    "FourRooms-misc": 4_000_000, "MetaMaze-misc": 2_000_000, "Reacher-misc": 1_000_000,
    "BernoulliBandit-misc": 1_000_000,
}  # fmt: skip
SEARCHES = {
    "ppo": Search(
        {
            "CartPole-v1": 100_000, "MountainCar-v0": 240_000, "MountainCarContinuous-v0": 240_000,
            "Pendulum-v1": 240_000, "DeepSea-bsuite": 60_000, "DiscountingChain-bsuite": 60_000,
            "UmbrellaChain-bsuite": 60_000, "FourRooms-misc": 120_000, "MetaMaze-misc": 240_000,
            "Reacher-misc": 240_000, "BernoulliBandit-misc": 120_000, "Breakout-MinAtar": 240_000,
        },
        # After the search came normalize_steps = 1000, for Swimmer-misc: 420 in place of 190, and
        # the same or better on MountainCar-v0, Pendulum-v1, Reacher-misc and MetaMaze-misc.
        {"clip_value": False, "normalize_obs": True, "normalize_reward": True},
        [
            {"num_envs": 16, "num_steps": 16, "num_epochs": 4, "minibatches": 4},
            {"num_envs": 16, "num_steps": 64, "num_epochs": 4, "minibatches": 8},
            {"num_envs": 16, "num_steps": 128, "num_epochs": 10, "minibatches": 16},
            {"num_envs": 32, "num_steps": 32, "num_epochs": 10, "minibatches": 8},
            {
                "num_envs": 16, "num_steps": 64, "num_epochs": 4, "minibatches": 8,
                "normalize_reward": False,
            },
        ],
        {
            "learning_rate": ranged(3e-4, 4e-3),
            "gae_lambda": [0.9, 0.95, 0.98],
            "entropy_coef": [0.0, 0.003, 0.01],
            "gamma": [0.99],
        },
        4,
    ),
    "dqn": Search(
        {
            "CartPole-v1": 50_000, "MountainCar-v0": 120_000, "DeepSea-bsuite": 50_000,
            "DiscountingChain-bsuite": 50_000, "UmbrellaChain-bsuite": 50_000,
            "FourRooms-misc": 80_000, "MetaMaze-misc": 80_000, "BernoulliBandit-misc": 50_000,
        },
        {"buffer_size": 50_000, "hidden": [64, 64], "learning_rate_schedule": "linear"},
        [
            {"num_envs": 1, "num_steps": 16, "updates_per_step": 0.5, "double": False},
            {"num_envs": 8, "num_steps": 2, "updates_per_step": 0.5, "n_step": 3},
            {"num_envs": 4, "num_steps": 4, "updates_per_step": 0.25, "n_step": 10},
            {"num_envs": 8, "num_steps": 2, "updates_per_step": 0.5, "normalize_obs": True},
        ],
        {
            "learning_rate": ranged(5e-4, 4e-3),
            "exploration_fraction": [0.2, 0.5],
            "epsilon_end": [0.02, 0.07],
        },
        2,
        finalists=4,
    ),
    "cem": Search(
        OF_SEARCHES,
        {"normalize_obs": True},
        [
            {"population": 64, "elites": 8, "episodes": 4},
            {"population": 32, "elites": 8, "episodes": 1},
            {"population": 64, "elites": 16, "episodes": 2},
        ],
        {"sigma": ranged(0.3, 3.0), "extra_noise": [0.05, 0.1, 0.3]},
        4,
    ),
    "ars": Search(
        OF_SEARCHES,
        {"normalize_obs": True},
        [
            {"directions": 16, "top_directions": 8, "episodes": 4},
            {"directions": 32, "top_directions": 8, "episodes": 1},
            {"directions": 16, "top_directions": 16, "episodes": 2},
        ],
        {"sigma": ranged(0.03, 0.5), "learning_rate": ranged(0.02, 0.5)},
        4,
    ),
    "a2c": Search(
        {
            "CartPole-v1": 200_000, "MountainCar-v0": 400_000, "MountainCarContinuous-v0": 400_000,
            "Pendulum-v1": 400_000, "DeepSea-bsuite": 100_000, "DiscountingChain-bsuite": 100_000,
            "UmbrellaChain-bsuite": 100_000, "FourRooms-misc": 200_000, "Reacher-misc": 400_000,
        },
        {"normalize_obs": True, "normalize_reward": True},
        [
            {"num_envs": 16, "num_steps": 16},
            {"num_envs": 8, "num_steps": 8},
            {"num_envs": 16, "num_steps": 16, "normalize_advantage": True},
            {"num_envs": 16, "num_steps": 32, "learning_rate_schedule": "linear"},
        ],
        {
            "learning_rate": ranged(5e-4, 4e-3),
            "critic_learning_rate": ranged(1e-3, 6e-3),
            "gae_lambda": [0.9, 0.95],
            "entropy_coef": [0.0, 0.01],
        },
        4,
    ),
    "trpo": Search(
        {
            "CartPole-v1": 100_000, "MountainCar-v0": 150_000, "MountainCarContinuous-v0": 150_000,
            "Pendulum-v1": 150_000, "DeepSea-bsuite": 50_000, "FourRooms-misc": 100_000,
            "Reacher-misc": 150_000,
        },
        {"normalize_obs": True, "normalize_reward": True},
        [{"num_envs": 8, "num_steps": 128}, {"num_envs": 16, "num_steps": 128}],
        {"max_kl": ranged(0.005, 0.05), "gae_lambda": [0.9, 0.95, 0.98], "gamma": [0.99]},
        4,
    ),
}  # fmt: skip


def random_return(env_name: str) -> float:
    """Mean return of random actions; NaN if an episode does not end."""
    found = measure_random(env_name)
    return np.nan if found is None else found


def share(x, worst: float, best: float) -> np.ndarray:
    """Shares of the way from a random policy to the best that is known, cut to 0 .. 1."""
    return np.clip((np.asarray(x) - worst) / (best - worst), 0, 1)


def score(name: str, env_name: str, points: list, steps: int, seeds: int, key) -> list:
    """The mean share that each point reaches in an environment, its seeds' returns beside it."""
    env, agent = jaxpg.make(env_name), agents.get(name)
    base = replace(agent.Config(), **SEARCHES[name].base)
    found = sweep.run(agent, base, env, key, points, seeds=seeds, total_steps=steps, episodes=32)
    done = final_scores(found)
    return [np.round(done.runs([i])[0], 3).tolist() for i in range(len(points))]


def final_scores(found: jaxpg.sweep.Sweep) -> scores.Final:
    """Scores of a sweep that was not stopped: a part of one is no result."""
    if not all(part["over"] for part in found.about["parts"]):
        raise KeyboardInterrupt
    return scores.final(found)


def search(name: str, record: dict, save, only: list[str]) -> None:
    """Trains all points, then the finalists; what the record has is not trained again."""
    own = SEARCHES[name]
    programs = [own.base | x for x in own.programs]
    names = {k for x in programs for k in x} | own.numbers.keys()
    default = agents.get(name).Config()
    space = {k: own.numbers.get(k, [getattr(default, k)]) for k in sorted(names)}
    full = [
        {k: x.get(k, getattr(default, k)) for k in names if k not in own.numbers} for x in programs
    ]
    record.setdefault("points", propose_points(default, space, full, own.each, [7]))
    for part, key in (("search", 11), ("finals", 12)):
        if part == "finals":
            record.setdefault("finalists", rank(record, "search")[: own.finalists])
        points = record["points"]
        if part == "finals":
            points = [points[i] for i in record["finalists"]]
        places = list(own.steps.items())
        for env_name, steps in places[:FIRST] if part == "search" else places:
            if env_name in record.setdefault(part, {}) or (only and env_name not in only):
                continue
            begun = time.perf_counter()
            worst = random_return(env_name)
            found = score(name, env_name, points, steps, SEEDS[part], jax.random.key(key))
            record[part][env_name] = {"random": round(worst, 3), "returns": found}
            save()
            shares = share(found, worst, BEST[env_name]).mean(1)
            line = " ".join(f"{x:4.2f}" for x in shares)
            print(f"{part} {env_name:24} {time.perf_counter() - begun:5.0f} s  {line}", flush=True)
        if only:
            return
        order = rank(record, part)
        means = mean_shares(record, part)
        for i in order[:8]:
            print(f"{means[i]:.3f}", points[i])
    best = record["finalists"][rank(record, "finals")[0]]
    record["profile"] = record["points"][best]
    save()
    print("profile", record["profile"])


def mean_shares(record: dict, part: str) -> np.ndarray:
    """The mean share of each point over the environments [points]."""
    each = [share(x["returns"], x["random"], BEST[e]).mean(1) for e, x in record[part].items()]
    return np.mean(each, 0)


def rank(record: dict, part: str) -> list[int]:
    return np.argsort(-mean_shares(record, part), kind="stable").tolist()


def hold_out(name: str, record: dict, save, only: list[str]) -> None:
    """Trains profile, own preset and defaults on environments that were not searched."""
    agent = agents.get(name)
    given = {"profile": presets.preset(name, presets.GENERAL), "defaults": agent.Config()}
    for env_name in only or HELD_OUT:
        begun, env = time.perf_counter(), jaxpg.make(env_name)
        settings = dict(given)
        if env_name in presets.table(name):
            settings["preset"] = presets.preset(name, env_name)
        each = [to_dict(cfg) for cfg in settings.values()]
        fields = [k for k in each[0] if any(x[k] != each[0][k] for x in each)]
        steps = learning_rows.total_steps(learning_rows.Row(name, env_name))
        points, key = [{k: x[k] for k in fields} for x in each], jax.random.key(13)
        found = sweep.run(agent, agent.Config(), env, key, points, seeds=10, total_steps=steps)
        worst, done = random_return(env_name), final_scores(found)
        means = {what: float(done.runs([i])[0].mean()) for i, what in enumerate(settings)}
        way = max(x for what, x in means.items() if what != "profile") - worst
        ways = {what: (x - worst) / way for what, x in means.items()}
        entry = {"total_steps": steps, "random": worst, "means": means}
        record.setdefault("held_out", {})[env_name] = entry
        save()
        text = ", ".join(f"{what} {means[what]:.4g} ({ways[what]:.2f})" for what in settings)
        seconds = time.perf_counter() - begun
        print(
            f"{env_name:24} {steps:,} steps, {seconds:.0f} s, random {worst:.4g}: {text}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("agent", choices=list(SEARCHES))
    only = f"of the first {FIRST} these alone, and no finals; with --held-out, these"
    parser.add_argument("--env", nargs="+", default=[], help=only)
    parser.add_argument("--held-out", action="store_true", help="judge the profile that there is")
    args = parser.parse_args()
    jaxpg.use_all_cores()  # before an environment makes JAX's devices
    searched = list(SEARCHES[args.agent].steps)
    known = searched[:FIRST]
    if args.held_out:
        known = [name for name in registry.names() if name not in searched]
        if presets.find(args.agent, presets.GENERAL).of is None:
            parser.error(f"--held-out: {args.agent} has no general profile to judge")
    if lost := [name for name in args.env if name not in known]:
        parser.error(f"--env {lost[0]}: allowed are {', '.join(known)}")
    path = Path(__file__).with_suffix(".json")
    results = json.loads(path.read_text()) if path.exists() else {}
    record = results.setdefault(args.agent, {})

    def save():
        now = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(now | {args.agent: record}) + "\n")

    (hold_out if args.held_out else search)(args.agent, record, save, args.env)


if __name__ == "__main__":
    main()
