"""Measures what a model of the other players is worth; writes benchmarks/opponents.json and the
figure of docs/opponents.md.

python benchmarks/opponents.py [--seeds 8] [--total-steps 192000] [--gamma 0.99]

Rock, paper, scissors against a scripted player. First one of one type, whose strategy a model has
to find. Then one of two types, drawn at each reset, over 20 rounds: by which agent is the type
found out, and what is it worth? Of that game the best return and the least cross-entropy are known:
what the learner does has no effect on the other, so the best answers the posterior of the type.
"""

import argparse
import functools
import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxpg
from jaxpg.core import env as E
from jaxpg.envs.games.matrix import GAMES
from jaxpg.loops.players import predict_others

TYPES, ROUNDS, GAMES_EACH = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3]]), 20, 4000
PAYOFF = GAMES["rock_paper_scissors"][0]  # of the learner, [own, other's]
KINDS = {
    "neither": {},
    "model of now": {"opponent_model": "mlp"},
    "model that remembers": {"opponent_model": "gru"},
    "policy that remembers": {"memory": "gru"},
}


def best_return() -> tuple[float, list[float]]:
    """The best return of an episode, and the posterior's cross-entropy in each round: sums over how
    often each choice was seen."""
    total, entropy = 0.0, np.zeros(ROUNDS)
    for t in range(ROUNDS):
        for i, j in itertools.product(range(t + 1), repeat=2):
            if (k := t - i - j) < 0:
                continue
            ways = math.factorial(t) / math.prod(map(math.factorial, (i, j, k)))
            joint = ways * (TYPES ** [i, j, k]).prod(1) / len(TYPES) @ TYPES  # seen, and then this
            total += (PAYOFF @ joint).max()
            entropy[t] -= joint @ np.log(joint / joint.sum())
    return total, entropy.tolist()


def best_without_memory(tries: int = 3000) -> float:
    """The best return found of policies that see the last round alone, as a table of all that they
    see: each entry is the best answer to the others, from random tables. Their own last action
    is seen too, and so it is a note to themselves."""
    worth, found = TYPES @ PAYOFF.T, []  # [types, actions]
    for table in np.random.default_rng(0).integers(0, 3, (tries, ROUNDS, 9)):
        last = -math.inf
        while True:
            ahead = np.zeros((ROUNDS + 1, 2, 9))  # own last action times 3, and the other's
            gain = np.zeros((ROUNDS, 2, 3))
            for t in reversed(range(ROUNDS)):
                gain[t] = worth + np.einsum("ko,kao->ka", TYPES, ahead[t + 1].reshape(2, 3, 3))
                ahead[t] = gain[t][:, table[t]]
            here = np.zeros((2, 9))
            here[:, 0] = 1 / len(TYPES)
            now = here[:, 0] @ ahead[0][:, 0]
            if now < last + 1e-9:
                found.append(now)
                break
            last = now
            for t in range(ROUNDS):
                table[t] = (here.T @ gain[t]).argmax(1)
                after = np.zeros((2, 3, 3))
                np.add.at(after, (slice(None), table[t]), here[..., None] * TYPES[:, None])
                here = after.reshape(2, 9)
    return max(found)


def learn_fixed(seeds: int) -> dict[str, list[float]]:
    """Against (0.5, 0.3, 0.2), one round: exact cross-entropies, and the greedy answers."""
    truth = TYPES[0]
    env = jaxpg.make("MatrixGame-jaxpg", game="rock_paper_scissors", opponent=[truth.tolist()])
    cfg = jaxpg.ippo.Config(opponent_model="mlp", num_envs=16, num_steps=32, hidden=(16,))

    def learn(key):
        state, metrics = jaxpg.train(jaxpg.ippo, cfg, env, key, 100_000)
        obs = state.env.obs[:1]
        [q] = predict_others(cfg, env, state, obs)["players"]
        action, _ = jaxpg.ippo.act(cfg, env, state, obs, (), key, True)
        last = metrics["opponents/cross_entropy"][-100:].mean()
        return -(truth * jnp.log(q[0, 0])).sum(), last, action[0, 0]

    found = jax.jit(jax.vmap(learn))(jax.random.split(jax.random.key(0), seeds))
    return dict(zip(("exact", "metric", "action"), (x.tolist() for x in found), strict=True))


def judge(cfg, env, state, key):
    """Greedy episodes: the mean return by the true strategies, and the exact cross-entropy [R]."""
    k_reset, k_play = jax.random.split(key)
    begin = E.reset(env, k_reset, GAMES_EACH)
    strategy = begin.inner.strategy

    def act(obs, carry, key):
        action, after = jaxpg.ippo.act(cfg, env, state, obs, carry, key, True)
        if cfg.opponent_model == "none":
            return action, after, jnp.ones((GAMES_EACH, 3)) / 3
        return action, after, predict_others(cfg, env, state, obs, carry)["players"][0][:, 0]

    empty = jax.tree.map(lambda x: jnp.zeros((GAMES_EACH, *x.shape[1:])), state.carry)
    _, _, t, q, _ = E.rollout(env, act, begin, empty, k_play, ROUNDS)
    reward = jnp.take_along_axis((strategy @ PAYOFF.T)[None], t.action[..., :1], -1)
    return reward.sum(0).mean(), -(strategy * jnp.log(q)).sum(-1).mean(-1)


def learn_types(kind: str, args) -> dict[str, list]:
    env = jaxpg.make(
        "MatrixGame-jaxpg", game="rock_paper_scissors", opponent=TYPES.tolist(), rounds=ROUNDS
    )
    cfg = jaxpg.ippo.Config(
        num_envs=64, num_steps=ROUNDS, hidden=(32,), memory_size=16, learning_rate=3e-3,
        gamma=args.gamma, **KINDS[kind],
    )  # fmt: skip
    train = functools.partial(jaxpg.train, jaxpg.ippo, cfg, env, total_steps=args.total_steps)
    states, metrics = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), args.seeds))
    keys = jax.random.split(jax.random.key(7), args.seeds)
    greedy, said = jax.jit(
        lambda *x: jax.lax.map(lambda each: judge(cfg, env, *each), x)
    )(states, keys)  # fmt: skip
    curve = metrics["episode/return"]
    row = {"greedy": greedy, "curve": curve, "cross_entropy": said}
    if cfg.opponent_model == "none":
        del row["cross_entropy"]
    return {name: np.asarray(x, float).round(5).tolist() for name, x in row.items()}


def draw(results, steps: int, path: Path) -> None:
    from jaxpg.experiment.figures import style

    figure, (left, right) = style.new_panels(2, height=3.2)
    for i, kind in enumerate(KINDS):
        curve = np.array(results[kind]["curve"])
        mean = np.array([curve[:, max(0, t - 4) : t + 5].mean(1) for t in range(curve.shape[1])])
        x = np.arange(1, len(mean) + 1) / len(mean) * steps
        left.plot(x, mean.mean(1), color=style.colour(i), label=kind, lw=1.4)
        left.fill_between(x, mean.min(1), mean.max(1), color=style.colour(i), alpha=0.15, lw=0)
        if said := results[kind].get("cross_entropy"):
            said = np.array(said)
            x = np.arange(1, ROUNDS + 1)
            right.plot(x, said.mean(0), color=style.colour(i), lw=1.4)
            right.fill_between(x, said.min(0), said.max(0), color=style.colour(i), alpha=0.2, lw=0)
    of_best, without = results["best"]["return"], results["best"]["without memory"]
    for value, above, name in (
        (of_best, 0.06, "best"),
        (without, -0.2, "best found without memory"),
    ):
        left.axhline(value, color=style.GREY, lw=0.9, ls="--")
        left.text(steps, value + above, name, ha="right", fontsize=7, color=style.GREY)
    entropy = results["best"]["cross_entropy"]
    right.plot(range(1, ROUNDS + 1), entropy, color=style.GREY, lw=0.9, ls="--")
    right.text(7.2, entropy[6] - 0.012, "posterior", fontsize=7, color=style.GREY)
    right.axhline(1.02965, color=style.GREY, lw=0.9, ls=":")
    right.text(1, 1.0305, "type known", fontsize=7, color=style.GREY)
    style.set_title(left, "Return of an episode while learning", f"{len(curve)} seeds, with range")
    style.set_title(right, "Cross-entropy of the model, nats", "exact, against the true strategy")
    style.set_steps_axis(left, steps)
    right.set_xlabel("round of the episode")
    right.set_xticks(range(4, ROUNDS + 1, 4))
    left.set_ylim(0, of_best + 0.5)
    style.legend_below(figure, left.get_legend_handles_labels()[0], 4)
    style.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--total-steps", type=int, default=192_000)
    parser.add_argument("--gamma", type=float, default=0.99)
    args = parser.parse_args()
    total, entropy = best_return()
    best = {"return": total, "cross_entropy": entropy, "without memory": best_without_memory()}
    print(f"best {total:.3f}, without memory {best['without memory']:.3f}", flush=True)
    results: dict = {"settings": vars(args), "best": best, "fixed": learn_fixed(args.seeds)}
    fixed = results["fixed"]
    print(f"fixed: {fixed}", flush=True)
    for kind in KINDS:
        row = results[kind] = learn_types(kind, args)
        x = np.array(row["greedy"])
        half = 1.96 * x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else math.nan
        late = np.array(row["curve"])[:, -20:].mean()
        said = np.mean(row.get("cross_entropy", math.nan))
        print(f"{kind:22} {x.mean():.3f} +- {half:.3f} (worst {x.min():.3f})", end="  ")
        print(f"learning {late:.3f}  cross-entropy {said:.4f}", flush=True)
    rows = [f" {json.dumps(name)}: {json.dumps(row)}" for name, row in results.items()]
    path = Path(__file__).with_name("opponents.json")
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    draw(results, args.total_steps, path.parent.parent / "docs" / "figures" / "opponents.png")


if __name__ == "__main__":
    main()
