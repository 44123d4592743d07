"""Measures agents that limit costs against exact optima; writes benchmarks/costs.json and the
figure of docs/costs.md.

python benchmarks/costs.py [--only cliff] [--seeds 5]

The cliff and the frozen lake with costs, two limits each. Every second iteration the policy is
read off as a table, and what it earns and costs is solved for exactly; the best return under each
limit is a linear program. A row holds the last policy and the mean over the last fifth of the
policies: where the best policy mixes two actions, learners may go to and fro between them.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxpg
from jaxpg.envs.tabular import cost_model, model
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.ops import dynamic_programming as dp
from jaxpg.ops.occupancy import solve_constrained

TASKS = {
    "cliff": ("CliffCost-jaxpg", {"slip": 0.1}, 0.95, (0.1, 0.06)),
    "lake": ("FrozenLakeCost-jaxpg", {}, 0.99, (0.1, 0.05)),
}
SHARED = {"num_envs": 64, "num_steps": 64, "hidden": (), "critic_learning_rate": 1e-2}
AGENTS = {
    ("ppo_lagrangian", "cliff"): {"learning_rate": 1e-2, "multiplier_i": 0.01},
    ("ppo_lagrangian", "lake"): {"learning_rate": 1e-2, "multiplier_p": 0.5, "multiplier_i": 0.05},
    ("cpo", "cliff"): {},
    ("cpo", "lake"): {},
}
STEPS, EVERY = 2_000_000, 2


def evaluate_exactly(cfg, env, params):
    """The discounted return and cost of a policy, by its table."""
    net, _ = actor_critic(cfg, env)
    obs = jax.nn.one_hot(jnp.arange(env.core.num_states), env.core.num_states)
    policy = jax.nn.softmax(net.apply(params, obs, method="policy"))
    m, C = model(env), cost_model(env)
    return tuple(m.start @ dp.policy_evaluation(m.P, x, policy, cfg.gamma) for x in (m.R, C))


def learn(name: str, task: str, limit: float, seeds: int) -> dict:
    env_name, params, gamma, _ = TASKS[task]
    env, agent = jaxpg.make(env_name, **params), getattr(jaxpg, name)
    cfg = agent.Config(
        gamma=gamma, cost_gamma=gamma, cost_limit=limit, cost_unit="discounted",
        total_steps=STEPS, **SHARED, **AGENTS[name, task],
    )  # fmt: skip

    def train(key):
        def part(state, _):
            for _ in range(EVERY):
                state, metrics = agent.step(cfg, env, state)
            actor = state.actor if hasattr(state, "actor") else state.params
            return state, (*evaluate_exactly(cfg, env, actor), metrics["cost/multiplier"])

        parts = STEPS // (EVERY * agent.steps_per_iter(cfg))
        return jax.lax.scan(part, agent.init(cfg, env, key), None, parts)[1]

    found = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), seeds))
    value, cost, multiplier = (np.asarray(x, float) for x in found)
    last = value.shape[1] // 5
    return {
        "value": value[:, -1].round(4).tolist(),
        "cost": cost[:, -1].round(4).tolist(),
        "mean value": value[:, -last:].mean(1).round(4).tolist(),
        "mean cost": cost[:, -last:].mean(1).round(4).tolist(),
        "multiplier": multiplier[:, -last:].mean(1).round(3).tolist(),
    }


def optimum(task: str, limit: float):
    env_name, params, gamma, _ = TASKS[task]
    env = jaxpg.make(env_name, **params)
    m, C = model(env), cost_model(env)
    return solve_constrained(*(np.asarray(x) for x in (m.P, m.R, C, m.start)), gamma, limit)


def draw(results: dict, path: Path) -> None:
    from jaxpg.experiment.figures import style

    figure, axes = style.new_panels(2, height=3.2)
    for axis, task in zip(axes, TASKS, strict=True):
        free = optimum(task, np.inf)
        limits = np.linspace(0, 1.1 * free.cost, 45)
        best = [optimum(task, limit).value for limit in limits]
        axis.plot(limits, best, color=style.GREY, lw=1.2, label="best, a linear program")
        for i, name in enumerate(("ppo_lagrangian", "cpo")):
            rows = [results[f"{name} {task} {limit}"] for limit in TASKS[task][3]]
            x, y = (np.concatenate([row[k] for row in rows]) for k in ("mean cost", "mean value"))
            axis.plot(x, y, "o", ms=4, alpha=0.7, color=style.colour(i), label=name)
        for limit in TASKS[task][3]:
            axis.axvline(limit, color=style.GREY, lw=0.8, ls=":")
        axis.set_xlabel("discounted cost")
        style.set_title(axis, f"{TASKS[task][0]}", "discounted return; dotted: the limits")
    style.legend_below(figure, axes[0].get_legend_handles_labels()[0], 3)
    style.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=TASKS)
    args = parser.parse_args()
    path = Path(__file__).with_name("costs.json")
    results = json.loads(path.read_text()) if path.exists() else {}
    for (name, task), settings in AGENTS.items():
        for limit in TASKS[task][3] if args.only in (None, task) else ():
            began, best = time.perf_counter(), optimum(task, limit)
            row = learn(name, task, limit, args.seeds)
            row["best"] = [round(best.value, 4), round(best.cost, 4), round(best.multiplier, 3)]
            row["settings"] = settings
            results[f"{name} {task} {limit}"] = row
            value, cost = np.mean(row["mean value"]), np.mean(row["mean cost"])
            seconds = time.perf_counter() - began
            print(f"{name:15} {task:6} {limit}: {value:.3f} of {best.value:.3f}", end=", ")
            print(f"cost {cost:.4f} of {limit}, {seconds:.0f} s", row["mean cost"], flush=True)
    rows = [f" {json.dumps(name)}: {json.dumps(row)}" for name, row in results.items()]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    if len(results) == sum(len(TASKS[task][3]) for _, task in AGENTS):
        draw(results, path.parent.parent / "docs" / "figures" / "costs.png")


if __name__ == "__main__":
    main()
