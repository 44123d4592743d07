"""Measures what agents of games reach, beside what is known exactly; writes benchmarks/games.json.

python benchmarks/games.py kuhn [tictactoe] [spread] [pursuit] [--seeds 3] [--only ROW] [--quick]

kuhn       NashConv of self-play: of the league's average, and of the newest policy
tictactoe  against a player who takes any free square, and against itself
spread     returns of a team, summed over its agents
pursuit    hunters and prey who learnt together, each against scripted ones

A row is an agent in a game; what was measured before and is not now stays in the file. --quick
tries the command out, and writes nothing.
"""

import argparse
import functools
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxpg
from jaxpg import presets
from jaxpg.core.observations import Masked
from jaxpg.envs.games import kuhn, pursuit, tictactoe
from jaxpg.loops import players, sharing

FILE, QUICK = Path(__file__).with_name("games.json"), 2_000
KUHN = {
    "self-play, entropy bonus falls": {},
    "self-play, no entropy bonus": {"entropy_coef": 0.0},
    "fictitious play, entropy bonus falls": {"opponents": "uniform"},
}
TICTACTOE = {
    "self-play": {},
    "against the random player": {
        "league_size": 1, "snapshot_every": 1_000_000, "entropy_coef": 0.15,
    },
}  # fmt: skip
SPREAD = {name: {} for name in ("ippo", "mappo", "maddpg", "iql")}
PURSUIT = {"ippo": {}}


def learn(agent: str, name: str, fields: dict, args):
    """A generator of trained states of the preset with other fields, one for each seed; and the
    config, the environment and the number of steps."""
    env, found = jaxpg.make(name), presets.find(agent, name)
    steps = QUICK if args.quick else args.total_steps or found.settings["total_steps"]
    cfg = jaxpg.preset(agent, name, **fields)
    the_agent = getattr(jaxpg, agent)
    train = jax.jit(functools.partial(jaxpg.train, the_agent, total_steps=steps))
    states = (train(cfg, env, jax.random.key(seed))[0] for seed in range(args.seeds))
    return states, cfg, env, steps


def logits(cfg, env, params, obs, legal):
    """What a policy without a player's number gives in the rows [B, ...] of a game."""
    [group] = sharing.teams(cfg, env)
    net, _ = players.network(cfg, env, group)
    return net.apply(params, Masked(jnp.asarray(obs), jnp.asarray(legal, bool)))[0]


def measure_kuhn(fields, args):
    states, cfg, env, steps = learn("self_play", "Kuhn-jaxpg", fields, args)
    row = {"average": [], "newest": []}

    def table(member):
        said = logits(cfg, env, member.params, kuhn.observations(), np.ones((12, 2)))
        return jax.nn.softmax(said)

    for state in states:
        tables = jax.vmap(table)(state.league.members)[: int(state.league.count)]
        for name, x in ("average", kuhn.average_table(tables)), ("newest", table(state.learner)):
            row[name].append(round(float(kuhn.nash_conv(x, x)), 4))
    return steps, row


def measure_tictactoe(fields, args):
    states, cfg, env, steps = learn("self_play", "TicTacToe-jaxpg", fields, args)
    at_random = tictactoe.random_table()
    names = "first", "second", "draws", "draws, greedy", "nash_conv"
    row = {name: [] for name in names}
    for state in states:
        said = functools.partial(logits, cfg, env, state.learner.params)
        sampled = tictactoe.policy_table(lambda *x, said=said: jax.nn.softmax(said(*x)))
        greedy = tictactoe.policy_table(
            lambda *x, said=said: jax.nn.one_hot(said(*x).argmax(-1), 9)
        )
        found = (
            tictactoe.value(greedy, at_random),
            -tictactoe.value(at_random, greedy),
            tictactoe.outcomes(sampled, sampled)[1],
            tictactoe.outcomes(greedy, greedy)[1],
            tictactoe.nash_conv(sampled, sampled),
        )
        for name, x in zip(names, found, strict=True):
            row[name].append(round(float(x), 4))
    return steps, row


def measure_spread(agent, fields, args):
    states, cfg, env, steps = learn(agent, "Spread-jaxpg", fields, args)
    row = {"sampled": [], "greedy": []}
    for state in states:
        for name, greedy in (("sampled", False), ("greedy", True)):
            returns = jaxpg.evaluate(
                getattr(jaxpg, agent), cfg, env, state, jax.random.key(7),
                episodes=16 if args.quick else 1024, greedy=greedy, by_player=True,
            )  # fmt: skip
            row[name].append(round(float(returns.sum(-1).mean()), 2))
    return steps, row


def learnt(cfg, env, state, name: str):
    """The policy of a group that was learnt, as `pursuit.play` takes it."""
    [group] = [g for g in sharing.teams(cfg, env) if g.name == name]
    net, pi = players.network(cfg, env, group)

    def policy(core, obs, key):
        rows = group.env.core.observe({name: obs[None]})
        out, _, _ = players.apply(cfg, net, state.learners[name], rows, ())
        return pi.action(pi.sample(out, key)[0])[0]

    return policy


def measure_pursuit(agent, fields, args):
    """Captures of an episode, of two prey: [hunters/prey] of every pair."""
    states, cfg, env, steps = learn(agent, "Pursuit-jaxpg", fields, args)
    row, episodes = {}, 16 if args.quick else 1000
    for state in states:
        hunters = {"learnt": learnt(cfg, env, state, "hunters")}
        hunters |= {"random": pursuit.random, "chase": pursuit.chase, "pinch": pursuit.pinch}
        prey = {"learnt": learnt(cfg, env, state, "prey")}
        prey |= {"random": pursuit.random, "flee": pursuit.flee}
        for a, hunt in hunters.items():
            for b, run in prey.items():
                found = pursuit.play(env, jax.random.key(7), hunt, run, episodes)
                caught = round(float(found.caught) * env.core.prey, 3)
                row.setdefault(f"{a}/{b}", []).append(caught)
    return steps, row


def exact() -> dict[str, dict]:
    """What is known without learning."""
    uniform, best = jnp.full((12, 2), 0.5), kuhn.equilibrium(0.2)
    at_random = tictactoe.random_table()
    seats = [tictactoe.best_response(at_random, seat)[0] for seat in (0, 1)]
    return {
        "kuhn/uniform play": {"average": [round(float(kuhn.nash_conv(uniform, uniform)), 4)]},
        "kuhn/an equilibrium": {"average": [abs(round(float(kuhn.nash_conv(best, best)), 4))]},
        "tictactoe/best response": dict(zip(("first", "second"), ([round(x, 4)] for x in seats))),
        "tictactoe/random play": {
            "first": [round(tictactoe.value(at_random, at_random), 4)],
            "second": [round(-tictactoe.value(at_random, at_random), 4)],
            "draws": [round(float(tictactoe.outcomes(at_random, at_random)[1]), 4)],
            "nash_conv": [round(float(tictactoe.nash_conv(at_random, at_random)), 4)],
        },
    }


ROWS = {
    **{f"kuhn/{k}": functools.partial(measure_kuhn, v) for k, v in KUHN.items()},
    **{f"tictactoe/{k}": functools.partial(measure_tictactoe, v) for k, v in TICTACTOE.items()},
    **{f"spread/{k}": functools.partial(measure_spread, k, v) for k, v in SPREAD.items()},
    **{f"pursuit/{k}": functools.partial(measure_pursuit, k, v) for k, v in PURSUIT.items()},
}


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
    for name, measure in ROWS.items():
        game, _, rest = name.partition("/")
        if game not in args.games or (args.only and rest not in args.only):
            continue
        begin = time.process_time()
        steps, row = measure(args)
        seconds = round((time.process_time() - begin) / args.seeds)
        row = {"total_steps": steps, "cpu_seconds": seconds, **row}
        print(f"{name:48} {row}", flush=True)
        if not args.quick:
            results = (json.loads(FILE.read_text()) if FILE.exists() else results) | {name: row}
            lines = [f" {json.dumps(k)}: {json.dumps(x)}" for k, x in sorted(results.items())]
            FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
