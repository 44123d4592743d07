"""Measures Go-Explore and bootstrapped DQN where the reward is rare, beside epsilon-greedy and a
count bonus, and the backward curriculum where actions stick by chance; writes
benchmarks/go_explore.json and the figure of docs/go_explore.md.

python benchmarks/go_explore.py [ROW ...]

A row is `place/agent`, such as sea10/bootstrapped or maze/go_explore: the environment steps of each
of five seeds until the greedy policy solves it. A word that only begins a row's name chooses all
such rows. Without any the figure is made anew of the rows that are there.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax

import jaxpg
from jaxpg.agents import get
from jaxpg.core import episodes
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.core.train import initial_state, with_horizon

PATH = Path(__file__).with_name("go_explore.json")
FIGURES = PATH.parent.parent / "docs" / "figures"
SEEDS = 5
DQN: dict[str, Any] = {
    "num_envs": 1, "buffer_size": 20_000, "learning_starts": 100, "batch_size": 64,
    "updates_per_step": 1.0, "target_period": 20, "hidden": (64, 64),
}  # fmt: skip
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "go_explore": ("go_explore", {"num_envs": 16, "num_steps": 16, "slots": 1}),
    "bootstrapped": ("dqn", DQN | {"ensemble": 10, "epsilon_start": 0.0, "epsilon_end": 0.0}),
    "count": ("dqn", DQN | {"bonus": "count", "epsilon_start": 0.1, "epsilon_end": 0.1}),
    "epsilon": ("dqn", DQN),
    "robust": (
        "go_explore",
        {"num_envs": 16, "slots": 1, "num_steps": 64, "robustify": True, "learning_rate": 1e-3},
    ),
    "ppo": ("ppo", {"num_envs": 16, "learning_rate": 1e-3, "learning_rate_schedule": "constant"}),
}
LABELS = {
    "go_explore": "Go-Explore", "bootstrapped": "DQN, ensemble of 10",
    "count": "DQN, count bonus", "epsilon": "DQN, epsilon",
    "robust": "Go-Explore, backward curriculum", "ppo": "PPO",
}  # fmt: skip
STICKY = {"wrappers": [("sticky_actions", {"sticky_probability": 0.25})]}
# Environment, return that solves it, steps of an episode, most steps that are tried.
PLACES: dict[str, tuple[str, dict[str, Any], float, int, int]] = {
    **{f"sea{n}": ("DeepSea-bsuite", {"size": n}, 0.985, n, 2000 * n) for n in (10, 20)},
    "sea50": ("DeepSea-bsuite", {"size": 50}, 0.985, 50, 500_000),
    "maze": ("Maze-jaxpg", {}, 0.99, 289, 100_000),
    "sticky": ("Maze-jaxpg", STICKY, 0.95, 289, 300_000),
}
FIRST = ("go_explore", "bootstrapped", "count", "epsilon")
ROWS = [f"{place}/{agent}" for place in ("sea10", "sea20", "maze") for agent in FIRST]
ROWS += ["sea50/go_explore", "sticky/go_explore", "sticky/robust", "sticky/ppo"]
SPARSE: dict[str, Any] = {"repeat": 0.5, "imitation_updates": 20}  # of mazes
PLAYS = {"sticky": 64}  # episodes that are judged, where there is chance


def measure(row: str) -> dict[str, Any]:
    """Environment steps of each seed until the greedy policy solves a place; None: not within the
    most that are tried."""
    place, name = row.split("/")
    env_name, params, solved, limit, most = PLACES[place]
    agent, fields = get(AGENTS[name][0]), dict(AGENTS[name][1])
    if agent is jaxpg.go_explore:
        fields |= {"trajectory_steps": limit, "repeat": 0.0} | (
            SPARSE if "sea" not in place else {}
        )
    else:
        fields |= {"num_steps": 64 if name == "ppo" else min(limit, 20)}
    env, plays = jaxpg.make(env_name, **params), PLAYS.get(place, 1)
    cfg = with_horizon(agent.Config(**fields), most)
    each = agent.steps_per_iter(cfg)
    every = max(1, round(25 * min(limit, 50) / each))  # iterations between two judgements

    @jax.jit
    def learn(state):
        step = lambda state, _: (agent.step(cfg, env, state)[0], ())  # noqa: E731
        return jax.lax.scan(step, state, length=every)[0]

    @jax.jit
    def judge(state):
        policy = episodes.policy_of(agent, cfg, env, state, True)
        t, _, mask = episodes.play(env, policy, jax.random.key(0), plays, limit)
        return (t.reward * mask).sum() / plays

    begin, found, begun = (
        jax.jit(lambda key: initial_state(agent, cfg, env, key)),
        [],
        time.process_time(),
    )
    for key in jax.random.split(jax.random.key(0), SEEDS):
        state, done = begin(key), 0
        while done < most:
            state, done = learn(state), done + every * each
            if judge(state) > solved:
                break
        else:
            done = None
        found.append(done)
    return {"env_steps": found, "cpu_seconds": round(time.process_time() - begun)}


def draw(rows: dict[str, Any]) -> None:
    """Steps to solve each place, a dot a seed."""
    from jaxpg.experiment.figures import style

    figure, (axes,) = style.new_panels(1, height=3.2)
    names = {
        "sea10": "DeepSea 10", "sea20": "DeepSea 20", "sea50": "DeepSea 50",
        "maze": "maze, 17 x 17", "sticky": "maze, sticky actions",
    }  # fmt: skip
    places = [place for place in names if any(row.startswith(place) for row in rows)]
    told = set()
    for x, place in enumerate(places):
        here = [agent for agent in AGENTS if f"{place}/{agent}" in rows]
        for i, agent in enumerate(here):
            steps = rows[f"{place}/{agent}"]["env_steps"]
            colour = style.colour([*AGENTS].index(agent))
            done, at = [n for n in steps if n], x + 0.16 * (i - (len(here) - 1) / 2)
            label = None if agent in told else LABELS[agent]
            axes.plot([at] * len(done), done, "o", color=colour, ms=4, alpha=0.7, label=label)
            told.add(agent)
            if None in steps:
                axes.plot([at], [PLACES[place][4] * 1.15], "^", color=colour, mfc="none")
    axes.set(yscale="log", ylabel="environment steps", xlim=(-0.5, len(places) - 0.5))
    axes.set_yticks([1e3, 1e4, 1e5], ["1,000", "10,000", "100,000"])
    axes.minorticks_off()
    axes.set_xticks(range(len(places)), [names[p] for p in places])
    style.set_title(axes, "Steps until it is solved", "a dot a seed", "triangle: not all do")
    axes.legend(fontsize=6)
    style.save(figure, FIGURES / "go_explore.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW")
    args = parser.parse_args()
    use_fast_random()
    for row in (row for row in ROWS if any(row.startswith(word) for word in args.rows)):
        found = measure(row)
        print(row, found, flush=True)
        rows = json.loads(PATH.read_text()) if PATH.exists() else {}
        rows = dict(sorted((rows | {row: found}).items()))
        lines = [f" {json.dumps(name)}: {json.dumps(x)}" for name, x in rows.items()]
        PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    draw(json.loads(PATH.read_text()))


if __name__ == "__main__":
    main()
