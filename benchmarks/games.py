"""Measures what agents of games reach, beside what is known exactly; writes benchmarks/games.json.

python benchmarks/games.py kuhn [tictactoe] [spread] [pursuit] [--seeds 3] [--only ROW] [--quick]

kuhn       NashConv of self-play: of the league's average, and of the newest policy
tictactoe  against a player who takes any free square, and against itself; draws the figure of
           docs/self_play.md
spread     returns of a team, summed over its agents
pursuit    hunters and prey who learnt together, each against scripted ones

A row is an agent in a game; what was measured before and is not now stays in the file. --quick
tries the command out, and writes nothing.
"""

import argparse
import functools
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxpg
from jaxpg import agents, presets
from jaxpg.core.observations import Masked
from jaxpg.envs.games import kuhn, pursuit, tictactoe
from jaxpg.loops import players, sharing
from jaxpg.ops.games import elo_ratings

FILE, QUICK, STEPS = Path(__file__).with_name("games.json"), 2_000, "total_steps"
RANDOM = {"league_size": 1, "snapshot_every": 1_000_000, "entropy_coef": 0.15}


class Row(NamedTuple):
    agent: str
    env: str
    fields: dict  # in the place of the preset's
    measure: Callable  # (agent, cfg, env, state, args) -> numbers by name


def steps_of(agent: str, env: str, args) -> int:
    return QUICK if args.quick else args.total_steps or presets.find(agent, env).settings[STEPS]


def learn(row: Row, args):
    """The config, the environment, and a generator of trained states, one for each seed."""
    env, cfg = jaxpg.make(row.env), jaxpg.preset(row.agent, row.env, **row.fields)
    steps = steps_of(row.agent, row.env, args)
    train = jax.jit(functools.partial(jaxpg.train, agents.get(row.agent), total_steps=steps))
    return cfg, env, (train(cfg, env, jax.random.key(seed))[0] for seed in range(args.seeds))


def logits(cfg, env, params, obs, legal):
    """What a policy without a player's number gives in the rows [B, ...] of a game."""
    [group] = sharing.teams(cfg, env)
    net, _ = players.network(cfg, env, group)
    return net.apply(params, Masked(jnp.asarray(obs), jnp.asarray(legal, bool)))[0]


def measure_kuhn(agent, cfg, env, state, args):
    def table(member):
        said = logits(cfg, env, member.params, kuhn.observations(), np.ones((12, 2)))
        return jax.nn.softmax(said)

    tables = jax.vmap(table)(state.league.members)[: int(state.league.count)]
    both = {"average": kuhn.average_table(tables), "newest": table(state.learner)}
    return {name: float(kuhn.nash_conv(x, x)) for name, x in both.items()}


def tictactoe_tables(cfg, env, member):
    """Tables of a policy: as it samples, and greedy."""
    said = functools.partial(logits, cfg, env, member.params)
    greedy = tictactoe.policy_table(lambda *x: jax.nn.one_hot(said(*x).argmax(-1), 9))
    return tictactoe.policy_table(lambda *x: jax.nn.softmax(said(*x))), greedy


def measure_tictactoe(agent, cfg, env, state, args):
    at_random = tictactoe.random_table()
    sampled, greedy = tictactoe_tables(cfg, env, state.learner)
    return {
        "first": tictactoe.value(greedy, at_random),
        "second": -tictactoe.value(at_random, greedy),
        "draws": tictactoe.outcomes(sampled, sampled)[1],
        "draws, greedy": tictactoe.outcomes(greedy, greedy)[1],
        "nash_conv": tictactoe.nash_conv(sampled, sampled),
    }


def draw_league(args) -> None:
    """Draws who beats whom of the snapshots of a short run of self-play, by exact scores."""
    from jaxpg import pictures

    fields = {"league_size": 12, "snapshot_every": 13}
    short = argparse.Namespace(**vars(args) | {"total_steps": 1_200_000, "seeds": 1})
    row = Row("self_play", "TicTacToe-jaxpg", fields, measure_tictactoe)
    cfg, env, states = learn(row, short)
    league = next(states).league
    members = [jax.tree.map(lambda x, i=i: x[i], league.members) for i in range(12)]
    tables = [tictactoe_tables(cfg, env, member)[0] for member in members]
    as_first = np.array([[tictactoe.value(a, b) for b in tables] for a in tables])
    scores = (2 + as_first - as_first.T) / 4  # a win 1, a draw 1/2, in both seats
    ratings = np.asarray(elo_ratings(jnp.asarray(scores)))
    print(f"ratings of snapshots: {ratings.round().astype(int).tolist()}", flush=True)
    figure = pictures.league_heat_map(scores, ratings)
    if not args.quick:
        pictures.save(figure, FILE.parent.parent / "docs" / "figures" / "league.png")


def measure_spread(agent, cfg, env, state, args):
    """The return of an episode, summed over the agents of the team."""
    episodes, found = 16 if args.quick else 1024, {}
    for name, greedy in (("sampled", False), ("greedy", True)):
        returns = jaxpg.evaluate(
            agents.get(agent), cfg, env, state, jax.random.key(7), episodes, greedy, by_player=True
        )
        found[name] = float(returns.sum(-1).mean())
    return found


def learnt(cfg, env, state, name: str):
    """The policy of a group that was learnt, as `pursuit.play` takes it."""
    [group] = [g for g in sharing.teams(cfg, env) if g.name == name]
    net, pi = players.network(cfg, env, group)

    def policy(core, obs, key):
        rows = group.env.core.observe({name: obs[None]})
        out, _, _ = players.apply(cfg, net, state.learners[name], rows, ())
        return pi.action(pi.sample(out, key)[0])[0]

    return policy


def measure_pursuit(agent, cfg, env, state, args):
    """Captures of an episode, of two prey: "hunters/prey" of every pair."""
    scripted = {"random": pursuit.random, "chase": pursuit.chase, "pinch": pursuit.pinch}
    hunters = {"learnt": learnt(cfg, env, state, "hunters"), **scripted}
    prey = {"learnt": learnt(cfg, env, state, "prey")}
    prey |= {"random": pursuit.random, "flee": pursuit.flee}
    found, episodes = {}, 16 if args.quick else 1000
    for (a, hunt), (b, run) in itertools.product(hunters.items(), prey.items()):
        outcome = pursuit.play(env, jax.random.key(7), hunt, run, episodes)
        found[f"{a}/{b}"] = float(outcome.caught) * env.core.prey
    return found


def exact() -> dict[str, dict]:
    """What is known without learning."""
    uniform, best = jnp.full((12, 2), 0.5), kuhn.equilibrium(0.2)
    at_random = tictactoe.random_table()
    seats = [tictactoe.best_response(at_random, seat)[0] for seat in (0, 1)]
    return {
        "kuhn/uniform play": {"average": [round(float(kuhn.nash_conv(uniform, uniform)), 4)]},
        "kuhn/an equilibrium": {"average": [abs(round(float(kuhn.nash_conv(best, best)), 4))]},
        "tictactoe/best response": {
            name: [round(x, 4)] for name, x in zip(("first", "second"), seats, strict=True)
        },
        "tictactoe/random play": {
            "first": [round(tictactoe.value(at_random, at_random), 4)],
            "second": [round(-tictactoe.value(at_random, at_random), 4)],
            "draws": [round(float(tictactoe.outcomes(at_random, at_random)[1]), 4)],
            "nash_conv": [round(float(tictactoe.nash_conv(at_random, at_random)), 4)],
        },
    }


SELF_PLAY = "self_play", "Kuhn-jaxpg"
ON_SQUARES = "self_play", "TicTacToe-jaxpg"
ROWS = {
    "kuhn/self-play, entropy bonus falls": Row(*SELF_PLAY, {}, measure_kuhn),
    "kuhn/self-play, no entropy bonus": Row(*SELF_PLAY, {"entropy_coef": 0.0}, measure_kuhn),
    "tictactoe/self-play": Row(*ON_SQUARES, {}, measure_tictactoe),
    "tictactoe/against the random player": Row(*ON_SQUARES, RANDOM, measure_tictactoe),
    **{
        f"spread/{agent}": Row(agent, "Spread-jaxpg", {}, measure_spread)
        for agent in ("ippo", "mappo", "maddpg", "iql")
    },
    "pursuit/ippo": Row("ippo", "Pursuit-jaxpg", {}, measure_pursuit),
}


def write(results: dict) -> None:
    lines = [f" {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(results.items())]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    games = sorted({name.partition("/")[0] for name in ROWS})
    parser.add_argument("games", nargs="+", choices=games)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--total-steps", type=int, help="in the place of the preset's")
    parser.add_argument("--only", nargs="*", help="rows of the games, by the part behind the slash")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    results = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name, row in exact().items():
        results[name] = row
        if name.partition("/")[0] in args.games:
            print(f"{name:48} {row}", flush=True)
    if "tictactoe" in args.games and not args.only:
        draw_league(args)
    for name, row in ROWS.items():
        game, _, rest = name.partition("/")
        if game not in args.games or (args.only and rest not in args.only):
            continue
        begin = time.process_time()
        found: dict[str, Any] = {STEPS: steps_of(row.agent, row.env, args)}
        cfg, env, states = learn(row, args)
        for seed, state in enumerate(states):
            for what, x in row.measure(row.agent, cfg, env, state, args).items():
                found.setdefault(what, []).append(round(float(x), 4))
            found["cpu_seconds"] = round((time.process_time() - begin) / (seed + 1))
            if not args.quick:  # each seed, for the last one may be long
                write(results := results | {name: found})
        print(f"{name:40} {found}", flush=True)


if __name__ == "__main__":
    main()
