"""What a central critic changes: the variance of the policy gradient, and not its mean.

python examples/central_critic.py [--batches 512] [--seed 0]

The players' policies are the same throughout and near uniform. Critics are fitted to them, one
that sees what the player sees (IPPO) and one that sees what all see (MAPPO). Then many batches are
drawn, and each gives one estimate of the gradient. Where a batch is of whole episodes there is also
an estimate without a critic, whose value is 0.
"""

import argparse
import dataclasses
import functools

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

import jaxpg

FITTING = 400  # iterations of the critics
SHARED = {
    "num_envs": 64, "num_epochs": 1, "minibatches": 1, "hidden": (32,), "clip_eps": 1e6,
    "clip_value": False, "normalize_advantage": False, "max_grad_norm": 1e9, "entropy_coef": 0.0,
    "learning_rate_schedule": "constant", "share_parameters": False, "gamma": 1.0,
    "gae_lambda": 1.0,
}  # fmt: skip
GAMES = {  # title: environment, its arguments, steps of a batch
    "climbing": ("MatrixGame-jaxpg", {"game": "climbing"}, 1),
    "Kuhn poker": ("Kuhn-jaxpg", {}, 16),
}
REFERENCE = "of what the player sees (IPPO)"
CRITICS = {
    "none": jaxpg.ippo, "of what the player sees (IPPO)": jaxpg.ippo,
    "of what all see (MAPPO)": jaxpg.mappo,
}  # fmt: skip


def of_policy(params) -> dict:
    """The parameters of the policies, without those of the critics."""
    return {name: x for name, x in params["params"].items() if name.startswith("actor")}


def put(state, params):
    """The state with these parameters of its one group."""
    [(name, learner)] = state.learners.items()
    return state._replace(learners={name: learner._replace(params=params)})


def params_of(state):
    [learner] = state.learners.values()
    return learner.params


def fit_critics(agent, cfg, env, policies, key):
    """Parameters whose policies are the given ones, and whose critics are fitted to them."""
    cfg = dataclasses.replace(cfg, optimizer="adam", learning_rate=3e-3)

    def restore(state):
        return put(state, {"params": params_of(state)["params"] | policies})

    def iterate(state, _):
        state, _ = agent.step(cfg, env, state)
        return restore(state), None

    state, _ = jax.lax.scan(iterate, restore(agent.init(cfg, env, key)), length=FITTING)
    return params_of(state)


def estimate(agent, cfg, env, params, key):
    """One estimate of the gradient of all policies, as one vector: a plain step of length 1."""
    cfg = dataclasses.replace(cfg, optimizer="sgd", learning_rate=1.0)
    state, _ = agent.step(cfg, env, put(agent.init(cfg, env, key), params))
    moved = jax.tree.map(jnp.subtract, of_policy(params_of(state)), of_policy(params))
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(moved)])


@functools.partial(jax.jit, static_argnums=(0, 4))
def measure(agent, cfg, env, key, batches: int, fitted=1.0):
    """The mean of the estimates, and the variance of one, summed over all parameters. fitted: 0
    leaves the critics out."""
    k_policy, k_fit, k_batch = jax.random.split(key, 3)
    # Policies are those that IPPO begins with, so that all have the same.
    first = jaxpg.ippo.Config(**{f.name: getattr(cfg, f.name) for f in dataclasses.fields(cfg)})
    policies = of_policy(params_of(jaxpg.ippo.init(first, env, k_policy)))
    params = fit_critics(agent, cfg, env, policies, k_fit)
    params = {"params": {
        name: x if name in policies else jax.tree.map(lambda y: fitted * y, x)
        for name, x in params["params"].items()
    }}  # fmt: skip
    one = functools.partial(estimate, agent, cfg, env, params)
    found = jax.lax.map(one, jax.random.split(k_batch, batches), batch_size=min(batches, 64))
    return found.mean(0), found.var(0, ddof=1).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batches", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    jaxpg.use_fast_random()
    table = Table("game", "critic", box=None)
    for column in ("variance", "norm of the mean", "means apart", "standard error"):
        table.add_column(column, justify="right")
    for title, (name, options, steps) in GAMES.items():
        env, found = jaxpg.make(name, **options), {}
        for critic, agent in CRITICS.items():
            if critic == "none" and steps > 1:
                continue  # games that the batch's end cuts would count as worth 0
            cfg = agent.Config(num_steps=steps, **SHARED)
            key = jax.random.key(args.seed)
            found[critic] = measure(agent, cfg, env, key, args.batches, float(critic != "none"))
        mean, usual = found[REFERENCE]
        for critic, (own, variance) in found.items():
            apart = jnp.linalg.norm(own - mean)
            error = jnp.sqrt((usual + variance) / args.batches)
            compared = ("-", "-") if critic == REFERENCE else (f"{apart:.3f}", f"{error:.3f}")
            size = f"{jnp.linalg.norm(own):.3f}"
            table.add_row(title, critic, f"{variance:.5f}", size, *compared)
            title = ""
    Console(width=110).print(table, highlight=False)


if __name__ == "__main__":
    main()
