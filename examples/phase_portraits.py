"""Independent learners of games in matrix form, drawn over the exact field that they follow.

python examples/phase_portraits.py [--batch 256] [--seed 0] [--out .]

Each player is a learner of its own (IPPO: its own parameters, which are logits, and plain gradient
steps). Draws phase_portraits.png, cycles.png and climbing.png into the folder, and prints where
learners end, where the exact gradients do, and how far apart the two were on the way.
"""

import argparse
import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from PIL import Image
from rich.console import Console
from rich.table import Table

import jaxpg
from jaxpg.core.env import Env
from jaxpg.envs.tabular import Tabular
from jaxpg.experiment.figures import (
    PayoffPaths,
    Portrait,
    payoffs_over_time,
    phase_portraits,
    save,
)
from jaxpg.ops import games

# One gradient step an iteration, by as much as the gradient says: nothing is scaled or clipped.
PLAIN = {
    "num_steps": 1, "num_epochs": 1, "minibatches": 1, "hidden": (), "optimizer": "sgd",
    "learning_rate_schedule": "constant", "clip_eps": 1e6, "clip_value": False, "value_coef": 1.0,
    "normalize_advantage": False, "max_grad_norm": 1e9, "entropy_coef": 0.0,
    "share_parameters": False,
}  # fmt: skip
# By how much logits move along the gradient in each iteration: small steps follow the field.
STEPS = {
    "short": np.full(1000, 0.04),
    "large payoffs": np.full(1000, 0.01),
    "cycles": np.full(2500, 0.012),
    "spirals": np.full(2500, 0.04),
    "climbing": np.repeat([0.01, 0.1, 0.5], [500, 500, 3000]),
}
SAMPLES = 10  # random starts of the climbing game
WIDTH = 6.0  # inches
SAME = 0.05  # chances that differ by less are the same end


@struct.dataclass
class PairParams:
    payoffs: jax.Array  # [pairs]
    max_steps_in_episode: int = 1


def make(game: str) -> Env:
    """The game by its name. Payoffs are a parameter: those of one size are one program."""
    env = jaxpg.make("MatrixGame-jaxpg", game=game)
    like = jaxpg.make(
        "MatrixGame-jaxpg", game="stag_hunt" if env.core.nvec == (2, 2) else "climbing"
    )
    return Env(like.params.replace(table=env.core.payoffs(env.params)), like.core)


def make_joint(env: Env) -> Env:
    """The game of one controller, whose actions are the pairs of a game of equal payoffs."""
    params = PairParams(env.core.payoffs(env.params)[0].ravel())
    pairs = params.payoffs.size

    def outcomes(params, s, action):
        return jnp.array([1]), jnp.ones(1), params.payoffs[action][None]

    core = Tabular("Pairs", params, pairs, np.eye(2)[0], np.eye(2)[1], outcomes)
    return Env(params, core)


def logits_of(state) -> jax.Array:
    """Logits [P, n] of the players: they see the same thing always."""
    [learner] = state.learners.values()
    actor = learner.params["params"]["actor"]
    return actor["kernel"][:, 0] + actor["bias"]


def begin(agent, cfg, env: Env, logits, key):
    """The first state of learners whose policies are softmax(logits [P, n])."""
    state = agent.init(cfg, env, key)
    [(name, learner)] = state.learners.items()
    params = jax.tree.map(jnp.zeros_like, learner.params)
    params["params"]["actor"]["bias"] = jnp.asarray(logits, float)
    return state._replace(learners={name: learner._replace(params=params)})


@functools.partial(jax.jit, static_argnums=0)
def learn(agent, cfg, env: Env, starts, steps, key) -> jax.Array:
    """Policies [S, T + 1, P, n] of learners that begin with logits [S, P, n], by iteration.

    steps: [T] by how much logits move along the gradient in an iteration.
    """

    def one(start, key):
        def iterate(state, step):
            # The observation is 1, so that a kernel and a bias move alike: half of it each.
            state, _ = agent.step(dataclasses.replace(cfg, learning_rate=step / 2), env, state)
            return state, logits_of(state)

        _, way = jax.lax.scan(iterate, begin(agent, cfg, env, start, key), steps)
        return jax.nn.softmax(jnp.concatenate([start[None], way]))

    return jax.vmap(one)(jnp.asarray(starts, float), jax.random.split(key, len(starts)))


@jax.jit
def follow(payoffs, starts, steps, entropy_coef=0.0) -> jax.Array:
    """Policies [S, T + 1, P, n] along the exact gradients, at the same times."""

    def one(start):
        def move(logits, step):
            logits, _ = games.follow_gradient(payoffs, list(logits), step, 4, entropy_coef)
            return jnp.stack(logits), jnp.stack(logits)

        _, way = jax.lax.scan(move, start, steps)
        return jax.nn.softmax(jnp.concatenate([start[None], way]))

    return jax.vmap(one)(jnp.asarray(starts, float))


def pay(payoffs, policies) -> np.ndarray:
    """The first player's expected payoffs [S, T] under policies [S, T, P, n]."""
    first = jax.vmap(jax.vmap(lambda x: games.expected_payoffs(payoffs, list(x))[0]))
    return np.asarray(first(policies))


def starts_at(*chances) -> np.ndarray:
    """Logits [S, 2, 2] of pairs of chances of the first action."""
    p = np.array(chances)
    return np.stack([np.log(p), np.log(1 - p)], -1)


RING = starts_at(
    (0.2, 0.7), (0.3, 0.8), (0.7, 0.2), (0.8, 0.3), (0.1, 0.4), (0.4, 0.1), (0.6, 0.9), (0.9, 0.6)
)  # fmt: skip
ORBITS = starts_at((0.5, 0.65), (0.5, 0.9))
SHARED = np.log([[x] * 2 for x in (
    [0.45, 0.3, 0.25], [0.35, 0.4, 0.25], [0.25, 0.3, 0.45], [0.25, 0.4, 0.35], [0.28, 0.7, 0.02],
    [0.02, 0.7, 0.28],
)])  # fmt: skip
THIRDS = np.log([[x] * 2 for x in ([0.45, 0.25, 0.3], [0.6, 0.2, 0.2])])
PENNIES = "matching_pennies", ORBITS
CASES = {  # title: game, starts, steps, entropy, actions
    "stag hunt": ("stag_hunt", RING, "short", 0.0, ("stag", "hare")),
    "prisoners' dilemma": ("prisoners", RING, "short", 0.0, ("silence", "confession")),
    "chicken": ("chicken", RING, "short", 0.0, ("giving way", "going on")),
    "battle of the sexes": ("battle_of_the_sexes", RING, "short", 0.0, ("Bach", "Stravinsky")),
    "matching pennies": (*PENNIES, "cycles", 0.0, ("heads", "tails")),
    "matching pennies, entropy 0.1": (*PENNIES, "spirals", 0.1, ("heads", "tails")),
    "penalty, k = -30": ("penalty", SHARED, "large payoffs", 0.0, ()),
    "rock, paper, scissors": (
        "rock_paper_scissors", THIRDS, "short", 0.0, ("rock", "paper", "scissors")
    ),
}  # fmt: skip


def learn_case(game: str, starts, steps, entropy: float, batch: int, key):
    """Payoffs, and policies [S, T + 1, 2, n] of learners and along the exact gradients."""
    env = make(game)
    payoffs = env.core.payoffs(env.params)
    cfg = jaxpg.ippo.Config(num_envs=batch, **PLAIN | {"entropy_coef": entropy})
    steps = jnp.asarray(steps, float)
    learnt = learn(jaxpg.ippo, cfg, env, starts, steps, key)
    exact = follow(payoffs, starts, steps, entropy)
    return payoffs, np.asarray(learnt), np.asarray(exact)


def learn_climbing(batch: int, key):
    """Payoffs over time of independent learners, of those with a central critic, and of a policy
    over pairs: from uniform, and from random starts."""
    env, uniform = make("climbing"), np.zeros((3, 2, 3))
    payoffs, steps = env.core.payoffs(env.params), jnp.asarray(STEPS["climbing"], float)
    joint, pairs = make_joint(env), np.zeros((3, 1, 9))
    cfgs = {x: x.Config(num_envs=batch, **PLAIN) for x in (jaxpg.ippo, jaxpg.mappo)}
    time = np.cumsum(steps)
    from_uniform = {}
    for name, agent, table, own, starts in (
        ("independent learners", jaxpg.ippo, payoffs, env, uniform),
        ("with a central critic", jaxpg.mappo, payoffs, env, uniform),
        ("one policy over pairs", jaxpg.ippo, payoffs[:1].reshape(1, -1), joint, pairs),
    ):
        key, k_learn = jax.random.split(key)
        learnt = learn(agent, cfgs[agent], own, starts, steps, k_learn)
        exact = follow(table, starts[:1], steps)
        from_uniform[name] = PayoffPaths(time, pay(table, learnt)[:, 1:], pay(table, exact)[:, 1:])
    k_start, k_learn = jax.random.split(key)
    starts = jax.random.normal(k_start, (SAMPLES, 2, 3))
    learnt = learn(jaxpg.ippo, cfgs[jaxpg.ippo], env, starts, steps, k_learn)
    exact = follow(payoffs, starts, steps)
    at_random = PayoffPaths(time, pay(payoffs, learnt)[:, 1:], pay(payoffs, exact)[:, 1:])
    return from_uniform, at_random


def write(figure, path: Path) -> None:
    """Writes a figure in so few colours that it stays small."""
    save(figure, path)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=".")
    args = parser.parse_args()
    out, key = Path(args.out), jax.random.key(args.seed)
    jaxpg.use_fast_random()
    table = Table("game", "starts", "ends", "farthest apart", box=None)
    portraits = {}
    for i, (title, (game, starts, kind, entropy, actions)) in enumerate(CASES.items()):
        steps = STEPS[kind]
        payoffs, learnt, exact = learn_case(
            game, starts, steps, entropy, args.batch, jax.random.fold_in(key, i)
        )
        apart = np.abs(learnt - exact)
        same = (apart[:, -1].max((1, 2)) < SAME).sum()
        table.add_row(title, str(len(starts)), f"{same} where the exact gradients do",
                      f"{apart.max():.2f}")  # fmt: skip
        note = f"time {steps.sum():.0f}, farthest from the exact path: {apart.max():.2f}"
        portraits[title] = Portrait(payoffs, learnt, entropy, actions, note)
    names = list(portraits)
    write(phase_portraits({x: portraits[x] for x in names[:4]}, WIDTH), out / "phase_portraits.png")
    write(phase_portraits({x: portraits[x] for x in names[4:]}, WIDTH), out / "cycles.png")

    from_uniform, at_random = learn_climbing(args.batch, jax.random.fold_in(key, len(CASES)))
    for name, paths in {**from_uniform, "independent, random starts": at_random}.items():
        ends = (" ".join(f"{x:.0f}" for x in way[:, -1]) for way in (paths.learnt, paths.exact))
        told = "paid {}; by the exact gradients {}".format(*ends)
        table.add_row(f"climbing: {name}", str(len(paths.learnt)), told, "")
    panels = {"from uniform policies": from_uniform,
              "from random policies": {"independent learners": at_random}}  # fmt: skip
    write(payoffs_over_time(panels, levels=(6, 7, 11)), out / "climbing.png")
    Console(width=120).print(table, f"Drawn into {out}.", highlight=False)


if __name__ == "__main__":
    main()
