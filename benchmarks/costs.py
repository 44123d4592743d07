"""Measures agents that limit costs; writes benchmarks/costs.json and the figures of docs/costs.md.

python benchmarks/costs.py [--only cliff lake goal circle run cart bandit] [--agents bound ppo cpo]

Tables, the cliff and the frozen lake, two limits each, 5 seeds: the policy is read off as a table
after every second iteration, and what it earns and costs is solved for exactly; the best return
under each limit is a linear program. A row holds the last policy, and the mean over the last fifth
of the policies, which is what a mixture of them earns: where the best policy mixes two actions,
learners may go to and fro between them.

Points and carts, 3 seeds, a loose and a tight limit: mean return and cost of the episodes of the
last tenth of training, beside PPO that minds no cost, PPO whose reward is less a weighted cost, and
the return that a limit allows (costs_bounds.py).

The bandit: exact policy gradients under a limit of 0.3, with and without the proportional part of
the multiplier.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import costs_figures as figures
import costs_settings as settings
import jax
import jax.numpy as jnp
import numpy as np
from costs_bounds import bound_returns

import jaxpg
from jaxpg.core.env import Env
from jaxpg.envs.tabular import cost_model, model
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.ops import constraints
from jaxpg.ops import dynamic_programming as dp
from jaxpg.ops.occupancy import solve_constrained

PATH = Path(__file__).with_name("costs.json")
EVERY = 2  # iterations between two policies that are evaluated


def evaluate_exactly(cfg, env, params) -> tuple[Any, Any]:
    """The discounted return and cost [] of a policy, by its table."""
    net, _ = actor_critic(cfg, env)
    obs = jax.nn.one_hot(jnp.arange(env.core.num_states), env.core.num_states)
    policy = jax.nn.softmax(net.apply(params, obs, method="policy"))
    m, C = model(env), cost_model(env)
    value, cost = (m.start @ dp.policy_evaluation(m.P, x, policy, cfg.gamma) for x in (m.R, C))
    return value, cost


def solve(task: str, limit: float):
    """The best policy of a table under a limit."""
    env_name, params, gamma, _ = settings.TABLES[task]
    env = jaxpg.make(env_name, **params)
    m, C = model(env), cost_model(env)
    return solve_constrained(*(np.asarray(x) for x in (m.P, m.R, C, m.start)), gamma, limit)


def learn_table(name: str, task: str, limit: float) -> dict:
    """The row of an agent in a table under a limit."""
    env_name, params, gamma, _ = settings.TABLES[task]
    env, agent = jaxpg.make(env_name, **params), getattr(jaxpg, name)
    own = settings.TABLE_CONFIGS[name, task] | settings.AT_LIMIT.get((name, task, limit), {})
    fields = settings.TABLE_SHARED | own
    cfg = agent.Config(gamma=gamma, cost_gamma=gamma, cost_limit=limit, **fields)

    def train(key):
        def part(state, _):
            for _ in range(EVERY):
                state, metrics = agent.step(cfg, env, state)
            actor = state.actor if hasattr(state, "actor") else state.params
            return state, (*evaluate_exactly(cfg, env, actor), metrics["cost/multiplier"])

        parts = int(fields["total_steps"]) // (EVERY * agent.steps_per_iter(cfg))
        return jax.lax.scan(part, agent.init(cfg, env, key), None, parts)[1]

    keys = jax.random.split(jax.random.key(0), settings.TABLE_SEEDS)
    value, cost, multiplier = (np.asarray(x, float) for x in jax.jit(jax.vmap(train))(keys))
    last, best = value.shape[1] // 5, solve(task, limit)
    row = {
        "best": [round(x, 4) for x in (best.value, best.cost, best.multiplier)],
        "value": value[:, -1].round(4).tolist(),
        "cost": cost[:, -1].round(4).tolist(),
        "mean value": value[:, -last:].mean(1).round(4).tolist(),
        "mean cost": cost[:, -last:].mean(1).round(4).tolist(),
        "multiplier": multiplier[:, -last:].mean(1).round(3).tolist(),
    }
    earned, paid = np.mean(row["mean value"]), np.mean(row["mean cost"])
    row["holds"] = bool(
        earned >= best.value - 0.03 * abs(best.value) and paid <= settings.ALLOWED * limit
    )
    return row | {"settings": own}


def penalize(env: Env, weight: Any, params: dict) -> Env:
    """The same environment, whose reward is less `weight` times the cost."""

    class Penalized(type(env.core)):
        def step_env(self, key, state, action, params):
            obs, state, reward, terminated, info = super().step_env(key, state, action, params)
            return obs, state, reward - weight * info["cost"], terminated, info

    return Env(env.params, Penalized(**params))


def learn_points(name: str, task: str, limit: float | None) -> dict[str, dict]:
    """Rows of an agent in a task that has no table, under a limit; of `ppo`, which has none, one
    for each weight of the cost."""
    env_name, params, _, weights = settings.POINTS[task]
    env, agent = jaxpg.make(env_name, **params), getattr(jaxpg, name)
    fields = settings.POINT_SHARED | settings.POINT_CONFIGS[name, task]
    fields |= settings.AT_LIMIT.get((name, task, limit), {})
    steps = int(fields["total_steps"])
    if name == "ppo":
        weights = np.array([0.0, *weights])
    else:
        weights, fields = np.zeros(1), fields | {"cost_limit": limit}
    cfg = agent.Config(**fields)

    def train(weight, key):
        changed = penalize(env, weight, params) if name == "ppo" else env
        metrics = jaxpg.train(agent, cfg, changed, key, steps)[1]
        return metrics["episode/return"], metrics["episode/cost"]

    keys = jax.random.split(jax.random.key(0), settings.POINT_SEEDS)
    lanes = jax.vmap(jax.vmap(train, (None, 0)), (0, None))
    value, cost = (np.asarray(x, float) for x in jax.jit(lanes)(weights, keys))
    value += weights[:, None, None] * cost  # without the penalty
    last = max(cost.shape[-1] // 10, 1)
    value, cost = (np.nanmean(x[..., -last:], -1).round(3).tolist() for x in (value, cost))
    about = {"limit": limit, "settings": fields}
    at = "" if limit is None else f" at {limit:g}"
    names = [f"{name} - {w:g} cost, {task}" if w else f"{name}{at}, {task}" for w in weights]
    return {x: {"return": v, "cost": c} | about for x, v, c in zip(names, value, cost, strict=True)}


def follow_bandit(kp: float, ki: float, steps: int = 1500, rate: float = 0.5) -> dict:
    """Probability of the dear arm and the multiplier under exact policy gradients."""

    def step(loop, _):
        logit, state = loop
        p = jax.nn.sigmoid(logit)
        state, weight = constraints.control(state, p, settings.BANDIT_LIMIT, kp, ki, 0.0)
        return (logit + rate * p * (1 - p) * (1 - weight), state), (p, weight)

    begin = jnp.zeros(()), constraints.init_multiplier()
    p, weight = jax.lax.scan(step, begin, None, steps)[1]
    rows = {"p": p, "multiplier": weight}
    return {k: np.asarray(x, float)[::5].round(4).tolist() for k, x in rows.items()}


def tell(name: str, row: dict, seconds: float) -> None:
    if "limits" in row:
        said = ", ".join(f"{y:.1f} at {x:g}" for x, y in zip(*row.values(), strict=True))
    elif "best" in row:
        value, cost = np.mean(row["mean value"]), np.mean(row["mean cost"])
        said = f"{value:.3f} of {row['best'][0]:.3f}, cost {cost:.4f} {row['mean cost']}"
        said += f", {'holds' if row['holds'] else 'short'}"
    elif "return" in row:
        said = f"return {row['return']}, cost {row['cost']} of {row['limit']}"
    else:
        late = {k: np.array(x[-100:]) for k, x in row.items()}
        said = ", ".join(f"{k} {x.min():.3f} to {x.max():.3f}" for k, x in late.items())
    print(f"{name:28} {said}, {seconds:.0f} s", flush=True)


def cases(
    task: str, agents: list[str], only: list[float] | None
) -> list[Callable[[], dict[str, dict]]]:
    """What is measured of a task, under all its limits or `only` some: functions that give rows by
    their names."""
    if task == "bandit":
        return [lambda k=k: {f"bandit {k}": follow_bandit(*k)} for k in settings.BANDIT_GAINS]
    is_table = task in settings.TABLES
    limits = settings.TABLES[task][3] if is_table else settings.POINTS[task][2]
    limiting = [name for name in settings.AGENTS if name in agents]
    every = [(name, task, x) for name in limiting for x in limits if only is None or x in only]
    if is_table:
        return [lambda x=x: {" ".join(map(str, x)): learn_table(*x)} for x in every]
    every = [("ppo", task, None)] * ("ppo" in agents) + every
    bound = [lambda: {f"bound, {task}": bound_returns(task)}] * ("bound" in agents)
    return bound + [lambda x=x: learn_points(*x) for x in every]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    tasks = (*settings.TABLES, *settings.POINTS, "bandit")
    parser.add_argument("--only", nargs="*", default=tasks, choices=tasks)
    agents = ("bound", "ppo", *settings.AGENTS)
    parser.add_argument("--agents", nargs="*", default=agents, choices=agents)
    parser.add_argument("--limits", nargs="*", type=float, help="Those alone.")
    args = parser.parse_args()
    results = json.loads(PATH.read_text()) if PATH.exists() else {}
    for task in args.only:
        for measure in cases(task, args.agents, args.limits):
            began = time.perf_counter()
            found = measure()
            for name, row in found.items():
                tell(name, row, time.perf_counter() - began)
            results |= found
            rows = [f" {json.dumps(name)}: {json.dumps(row)}" for name, row in results.items()]
            PATH.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    figures.draw_all(results, solve, PATH.parent.parent / "docs" / "figures")


if __name__ == "__main__":
    main()
