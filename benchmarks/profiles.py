"""Finds the general profile of an agent: settings that do well over many environments at once.

python benchmarks/profiles.py ppo                the search
python benchmarks/profiles.py ppo --refine       the profile with other values of one field
python benchmarks/profiles.py ppo --held-out     the profile on environments that it never saw

A profile, the table ["*"] of an agent's presets, is for an environment that nobody has tuned for.
The search trains points of a space on the first four environments of an agent's list, and the best
of them on all of it, with fresh seeds. What a point reached is counted from a random policy (0) to
the best that is known (1), and cut there, so that no environment outweighs another; points are
ordered by the mean over the environments, and the best one is the profile. Writes
benchmarks/profiles.json after each environment, and goes on with what is missing there.

With --refine the profile is trained again, by fresh seeds on all environments of the search, beside
itself with each of REFINED; what does best of these, by the same order, is the better profile.

With --held-out the profile is trained with 10 seeds on HELD_OUT, beside the agent's own preset
where there is one and its defaults, all of them for the steps of the table of results; and with a
memory as well where the preset has one, for there what is seen does not tell the state. It prints
of each the mean return, and its share of the way from a random policy to the better of preset and
defaults: 0.9 is the bar of the profile.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

import jax
import learning_rows
import numpy as np
from learning import measure_random
from profiles_settings import BEST, FIRST, HELD_OUT, REFINED, SEARCHES, SEEDS

import jaxpg
from jaxpg import agents, presets, sweep
from jaxpg.core.config import replace, to_dict
from jaxpg.core.games import require_score
from jaxpg.core.interrupt import exit_code
from jaxpg.envs import registry
from jaxpg.experiment.analysis import scores
from jaxpg.experiment.files.atomic import write_atomically
from jaxpg.experiment.tuning.design import propose_points

PATH = Path(__file__).with_suffix(".json")


def random_return(env_name: str) -> float:
    """Mean return of random actions; NaN if an episode does not end."""
    found = measure_random(env_name)
    return np.nan if found is None else found


def share(x, worst: float, best: float) -> np.ndarray:
    """Shares of the way from a random policy to the best that is known, cut to 0 .. 1."""
    return np.clip((np.asarray(x) - worst) / (best - worst), 0, 1)


def score(name: str, env_name: str, points: list, steps: int, seeds: int, key, base) -> list:
    """Returns of the seeds of each point, a change of a base configuration, in an environment."""
    env, agent = jaxpg.make(env_name), agents.get(name)
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
            base = replace(default, **own.base)
            found = score(name, env_name, points, steps, SEEDS[part], jax.random.key(key), base)
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


def refine(name: str, record: dict, save) -> None:
    """Trains the profile with the changes of REFINED; what the record has is not trained again."""
    changes = REFINED[name]
    base = presets.preset(name, presets.GENERAL)
    for env_name, steps in SEARCHES[name].steps.items():
        if env_name in record.setdefault("refined", {}):
            continue
        worst, key = random_return(env_name), jax.random.key(14)
        found = score(name, env_name, changes, steps, SEEDS["refined"], key, base)
        record["refined"][env_name] = {"random": round(worst, 3), "returns": found}
        save()
        shares = share(found, worst, BEST[env_name]).mean(1)
        print(f"{env_name:24}", " ".join(f"{x:4.2f}" for x in shares), flush=True)
    means = mean_shares(record, "refined")
    for i in rank(record, "refined"):
        print(f"{means[i]:.3f}", changes[i])


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
            settings["preset"] = own = presets.preset(name, env_name)
            if (memory := getattr(own, "memory", "none")) != "none":
                settings["profile, remembering"] = replace(given["profile"], memory=memory)
        each = [to_dict(cfg) for cfg in settings.values()]
        fields = [k for k in each[0] if any(x[k] != each[0][k] for x in each)]
        steps = learning_rows.total_steps(learning_rows.Row(name, env_name))
        points, key = [{k: x[k] for k in fields} for x in each], jax.random.key(13)
        found = sweep.run(agent, agent.Config(), env, key, points, seeds=10, total_steps=steps)
        worst, done = random_return(env_name), final_scores(found)
        means = {what: float(done.runs([i])[0].mean()) for i, what in enumerate(settings)}
        way = max(x for what, x in means.items() if not what.startswith("profile")) - worst
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


def require_rows(name: str, env_names: list[str]) -> None:
    """Raises ValueError for an environment without a number of steps for the agent, one whose mean
    return says nothing, or one in which it cannot act, before any other is trained."""
    agent, cfg = agents.get(name), presets.preset(name, presets.GENERAL)
    for env_name in env_names:
        learning_rows.total_steps(learning_rows.Row(name, env_name))
        env = jaxpg.make(env_name)
        require_score(env)
        jax.eval_shape(lambda key, env=env: agent.init(cfg, env, key), jax.random.key(0))


def load() -> dict:
    """Reads what searches came to, by agent. Raises ValueError, with the path, if it cannot."""
    try:
        return json.loads(PATH.read_text()) if PATH.exists() else {}
    except ValueError as error:
        raise ValueError(f"{PATH}: {error}: allowed is what this script writes") from error


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("agent", choices=list(SEARCHES))
    only = f"of the first {FIRST} these alone, and no finals; with --held-out, these"
    parser.add_argument("--env", nargs="+", default=[], help=only)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--held-out", action="store_true", help="judge the profile that there is")
    which.add_argument("--refine", action="store_true", help="try changes of the profile")
    args = parser.parse_args()
    if args.refine and args.agent not in REFINED:
        parser.error(f"--refine: allowed are {', '.join(REFINED)}")
    if args.refine and args.env:
        parser.error("--env: allowed is none with --refine, which takes all of the search")
    jaxpg.use_all_cores()  # before an environment makes JAX's devices
    searched = list(SEARCHES[args.agent].steps)
    known = searched[:FIRST]
    if args.held_out:
        known = [name for name in registry.names() if name not in searched]
        if presets.find(args.agent, presets.GENERAL).of is None:
            parser.error(f"--held-out: {args.agent} has no general profile to judge")
    if lost := [name for name in args.env if name not in known]:
        parser.error(f"--env {lost[0]}: allowed are {', '.join(known)}")
    try:
        record = load().setdefault(args.agent, {})
        require_rows(args.agent, (args.env or HELD_OUT) if args.held_out else [])
    except ValueError as error:
        parser.error(str(error))

    def save():
        write_atomically(PATH, (json.dumps(load() | {args.agent: record}) + "\n").encode())

    try:
        if args.refine:
            refine(args.agent, record, save)
        else:
            (hold_out if args.held_out else search)(args.agent, record, save, args.env)
    except KeyboardInterrupt:
        print(f"interrupted; {PATH.name} has what was done, and the same command does the rest")
        return exit_code(signal.SIGINT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
