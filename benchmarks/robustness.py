"""Measures what parameters drawn anew for each episode are worth where the world is another one;
writes benchmarks/robustness.json and the figures of docs/robustness.md.

python benchmarks/robustness.py [--maps] [--gains] [--seeds 3]

`--maps` trains an agent by its preset in the environment as it is, and in one that draws two
parameters, and plays both policies over a grid that reaches beyond the draws. `--gains` trains
linear policies of the scalar LQR: without draws, with draws, and with EPOpt by each baseline; their
gains stand beside the exact ones. Without either nothing is measured, and tables and figures are
made anew of what is there.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar

import jaxpg
from jaxpg.agents import get
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.envs import lqr
from jaxpg.experiment.analysis import robustness as R

PATH = Path(__file__).with_name("robustness.json")
FIGURES = PATH.parent.parent / "docs" / "figures"
POINTS, EPISODES = 20, 64
FRACTION, INTERVAL, LENGTH = 0.2, (0.5, 1.5), 5  # of EPOpt; of a; steps of an episode


class Row(NamedTuple):
    agent: str
    env: str
    drawn: dict[str, tuple[float, float]]  # in training
    shown: dict[str, tuple[float, float]]  # of the map
    total_steps: int


MAPS = [
    Row(
        "ppo",
        "CartPole-v1",
        {"length": (0.25, 1.5), "force_mag": (5.0, 20.0)},
        {"length": (0.1, 3.0), "force_mag": (1.0, 30.0)},
        122_880,
    ),
    Row(
        "ppo",
        "Pendulum-v1",
        {"m": (0.5, 1.5), "l": (0.5, 1.5)},
        {"m": (0.2, 2.1), "l": (0.2, 2.1)},
        204_800,
    ),
]
LINEAR = {"hidden": (), "gamma": 1.0, "learning_rate_schedule": "linear", "num_steps": LENGTH}
PLAIN = {"baseline": "mean", "normalize": False, "learning_rate": 0.05}
WHOLE = {"weight": "total_return", "normalize": False, "baseline": "quantile"}
VALUE = {"baseline": "value", "critic_hidden": (16,), "critic_learning_rate": 1e-2}
EPOPT = {"worst": FRACTION, "learning_rate": 0.1}
GAINS = {  # the optimum that training should come to, what else its config has, and iterations
    "nominal": ("nominal", PLAIN, 600),
    "draws": ("mean", PLAIN, 600),
    "EPOpt, quantile": ("CVaR", WHOLE | EPOPT, 1200),
    "EPOpt, mean": ("CVaR", PLAIN | EPOPT, 1200),
    "EPOpt, value": ("CVaR", VALUE | EPOPT, 1200),
}


def measure_map(row: Row, drawn: bool, seeds: int) -> dict[str, Any]:
    """Mean returns [seeds][x][y] over the map, of a policy with or without draws, and in sum."""
    use_fast_random()
    agent, cfg = get(row.agent), jaxpg.preset(row.agent, row.env)
    env = jaxpg.make(row.env)
    env = jaxpg.randomized(env, **row.drawn) if drawn else env
    train = jax.jit(jax.vmap(lambda key: jaxpg.train(agent, cfg, env, key, row.total_steps)[0]))
    begun = time.process_time()
    state = jax.block_until_ready(train(jax.random.split(jax.random.key(0), seeds)))
    trained = time.process_time()
    grid = {name: np.linspace(*ends, POINTS) for name, ends in row.shown.items()}
    found = R.measure(agent, cfg, env, state, jax.random.key(1), grid, EPISODES)
    summary = {k: np.round(x.astype(float), 1).tolist() for k, x in R.summarize(found).items()}
    inside = np.ones(found.returns.shape[1:-1], bool)
    for i, (name, values) in enumerate(grid.items()):
        low, high = row.drawn[name]
        within = (values >= low) & (values <= high)
        inside &= within[:, None] if i == 0 else within
    means = found.returns.mean(-1)
    summary["mean where drawn"] = np.round(means[:, inside].mean(-1).astype(float), 1).tolist()
    return {
        "env_steps": row.total_steps,
        "summary": summary,
        "nominal": found.nominal,
        "trained": found.trained,
        "returns": np.round(means.astype(float), 1).tolist(),
        "cpu_seconds": [round(trained - begun), round(time.process_time() - trained)],
    }


def best_gain(goal: str) -> float:
    """The exact gain: of a = 1, of the mean cost over the interval, or of the worst fraction."""
    params = lqr.Params(max_steps_in_episode=LENGTH)
    a = np.interp((np.arange(2001) + 0.5) / 2001, (0, 1), INTERVAL)

    def cost(gain):
        if goal == "nominal":
            return lqr.expected_cost(gain, 1.0, params)
        costs = lqr.expected_cost(gain, a, params)
        return costs.mean() if goal == "mean" else -R.conditional_value(-costs, FRACTION)

    return float(minimize_scalar(cost, bounds=(0, 2), method="bounded").x)


def measure_gain(name: str, seeds: int) -> dict[str, Any]:
    """Gains [seeds] that REINFORCE finds, and the exact one."""
    goal, how, iterations = GAINS[name]
    agent, cfg = jaxpg.reinforce, jaxpg.reinforce.Config(num_envs=1024, **LINEAR, **how)
    env = jaxpg.make("ScalarLQR-jaxpg", max_steps_in_episode=LENGTH)
    env = env if goal == "nominal" else jaxpg.randomized(env, a=INTERVAL)
    steps = iterations * cfg.num_envs * LENGTH

    def learn(key):
        state, _ = jaxpg.train(agent, cfg, env, key, steps)
        action, _ = agent.act(cfg, env, state, jnp.array([[1.0], [0.0]]), (), key, True)
        return action[1, 0] - action[0, 0]

    begun = time.process_time()
    gains = jax.jit(jax.vmap(learn))(jax.random.split(jax.random.key(0), seeds))
    return {
        "exact": round(best_gain(goal), 4),
        "gains": np.round(np.asarray(gains, float), 4).tolist(),
        "env_steps": steps,
        "cpu_seconds": round(time.process_time() - begun),
    }


def as_robustness(row: Row, kind: str, result: dict[str, Any]) -> R.Robustness:
    """What `measure` gave, of one episode each: the mean."""
    returns = np.array(result["returns"])[..., None]
    return R.Robustness(
        name=f"{row.agent} in {row.env}, {kind}",
        grid={name: np.linspace(*ends, POINTS) for name, ends in row.shown.items()},
        returns=returns,
        nominal=result["nominal"],
        nominal_returns=np.array(result["summary"]["nominal"])[:, None],
        trained={name: tuple(ends) for name, ends in result["trained"].items()},
    )


def draw(found: dict[str, Any]) -> None:
    from jaxpg.experiment.figures import style
    from jaxpg.experiment.figures.robustness import robustness_figure

    for row in MAPS:
        rows = found.get("maps", {})
        kinds = [kind for kind in ("without draws", "with draws") if f"{row.env}, {kind}" in rows]
        if not kinds:
            continue
        several = [as_robustness(row, k, rows[f"{row.env}, {k}"]) for k in kinds]
        path = FIGURES / f"robustness-{row.env}.png"
        style.save(robustness_figure(several), path)


def show(found: dict[str, Any]) -> None:
    for name, result in found.get("maps", {}).items():
        means = {k: np.mean(x) for k, x in result["summary"].items()}
        print(f"{name:32}", " ".join(f"{k} {x:.4g};" for k, x in means.items()))
    for name, result in found.get("gains", {}).items():
        errors = [f"{100 * (x / result['exact'] - 1):+.1f} %" for x in result["gains"]]
        print(f"{name:18} exact {result['exact']:.4f} found {result['gains']}", *errors)


def write(found: dict[str, Any]) -> None:
    parts = []
    for part, rows in found.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(result)}" for name, result in rows.items()]
        parts.append(f' "{part}": {{\n' + ",\n".join(lines) + "\n }")
    PATH.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--maps", action="store_true")
    parser.add_argument("--gains", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    found = json.loads(PATH.read_text()) if PATH.exists() else {"gains": {}, "maps": {}}
    for name in GAINS if args.gains else ():
        found["gains"][name] = measure_gain(name, args.seeds)
        write(found)
    for row in MAPS if args.maps else ():
        for kind in ("without draws", "with draws"):
            measured = measure_map(row, kind == "with draws", args.seeds)
            found["maps"][f"{row.env}, {kind}"] = measured
            write(found)
    show(found)
    draw(found)


if __name__ == "__main__":
    main()
