"""Agents that learn to liquidate, beside the closed form of Almgren & Chriss (2000).

python examples/almgren_chriss.py [--seeds 2] [--agents cem ppo] [--out almgren_chriss.png]

Every agent learns from the noisy shortfall itself, for four risk aversions and some seeds in one
program. Prints how far the utility of each is from the best one, beside that of equal slices
(TWAP), and draws the learned schedules, the efficient frontier, and the risk of all of them.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxpg
from jaxpg.core.episodes import actions
from jaxpg.core.parallel.lanes import take_lane
from jaxpg.envs.finance import almgren_chriss as ac
from jaxpg.envs.finance import baselines as eb
from jaxpg.experiment.analysis import risk
from jaxpg.experiment.figures import style
from jaxpg.experiment.figures.risk import draw_risk

NAME, AVERSIONS = "AlmgrenChriss-jaxpg", (0.0, 1e-7, 1e-6, 1e-5)
CONFIGS = {  # agent -> what differs from its defaults, and environment steps
    "cem": ({"episodes": 64, "num_steps": 5, "hidden": (8,)}, 200 * 64 * 64 * 5),
    "ppo": (
        {
            "num_envs": 64, "num_steps": 10, "num_epochs": 8, "learning_rate": 1e-3, "gamma": 1.0,
            "entropy_coef": 0.0, "clip_value": False, "hidden": (32, 32),
        },
        400_000,
    ),
}  # fmt: skip


def train(name: str, seeds: int) -> tuple[list, float]:
    """[aversion][seed] of (agent, cfg, state), and the seconds it took, compilation included."""
    agent, (fields, total) = jaxpg.agents.get(name), CONFIGS[name]
    points = [{"env.risk_aversion": x} for x in AVERSIONS for _ in range(seeds)]
    cfgs, envs = jaxpg.sweep.batch(agent.Config(**fields), jaxpg.make(NAME), points)
    keys = jnp.tile(jax.random.split(jax.random.key(0), seeds), len(AVERSIONS))
    begun = time.perf_counter()
    lanes = jax.jit(jax.vmap(lambda *own: jaxpg.train(agent, *own, total)[0]))
    states = jax.block_until_ready(lanes(cfgs, envs, keys))
    seconds = time.perf_counter() - begun
    found = [(agent, *take_lane((cfgs, states), i)) for i in range(len(points))]
    return [found[i : i + seeds] for i in range(0, len(found), seeds)], seconds


def schedule(env, agent, cfg, state) -> np.ndarray:
    """Holdings under a greedy policy, [N + 1, 1] shares: it sees no prices, so it is a schedule."""
    sold, _ = actions(agent, cfg, env, state, jax.random.key(0), 1, True, env.params.num_trades)
    left = np.cumprod(1 - np.clip(np.asarray(sold[:, 0]), 0, 1), axis=0)
    left[-1] = 0
    return env.params.shares * np.concatenate([np.ones_like(left[:1]), left])


def report(learnt: dict[str, list]) -> Table:
    out = Table("agent", *(f"lambda {x:g}" for x in AVERSIONS), box=None)
    envs = [jaxpg.make(NAME, risk_aversion=x) for x in AVERSIONS]
    best = [float(eb.utility(env, eb.trajectory(env))) for env in envs]
    out.add_row("best E + lambda V", *(f"{x:,.0f}" for x in best))
    twap = [float(eb.utility(env, eb.equal_slices(env))) for env in envs]
    out.add_row("twap", *(f"+{t / b - 1:.2%}" for t, b in zip(twap, best, strict=True)))
    for name, by_aversion in learnt.items():
        cells = []
        for env, b, seeds in zip(envs, best, by_aversion, strict=True):
            far = [float(eb.utility(env, schedule(env, *one))) / b - 1 for one in seeds]
            cells.append(" ".join(f"+{x:.2%}" for x in far))
        out.add_row(name, *cells)
    return out


def draw(learnt: dict[str, list], path: str) -> None:
    figure, (left, right) = style.new_panels(2, width=9.0, height=4.0)
    marks = dict(zip(learnt, "o^sD", strict=False))
    for i, aversion in enumerate(AVERSIONS):
        if i == 1:  # 1e-7 lies on equal slices
            continue
        env, colour = jaxpg.make(NAME, risk_aversion=aversion), style.colour(i)
        left.plot(eb.trajectory(env)[:, 0] / 1e6, color=colour, label=f"lambda {aversion:g}")
        for name, by_aversion in learnt.items():
            x = schedule(env, *by_aversion[i][0])[:, 0] / 1e6
            left.plot(x, marks[name], color=colour, markersize=5, fillstyle="none")
    left.set_xlabel("trades done")
    left.set_ylabel("held, million shares")
    style.set_title(left, "Learned schedules on the closed form", "lines are the paper's")
    for name in learnt:
        look = {"color": style.GREY, "fillstyle": "none", "linestyle": "none", "markersize": 5}
        for axes in (left, right):
            axes.plot([], marks[name], **look, label=name.upper())
    left.legend(frameon=False, fontsize=8)

    env = jaxpg.make(NAME)
    E, V = map(np.asarray, eb.frontier(env, jnp.geomspace(1e-9, 1e-3, 200)))
    right.plot(np.sqrt(V) / 1e6, E / 1e6, color=style.GREY, label="efficient frontier")
    for i in range(len(AVERSIONS)):
        for name, by_aversion in learnt.items():
            for one in by_aversion[i]:
                x = schedule(env, *one)
                at = np.sqrt(float(eb.variance(env, x))) / 1e6, float(eb.cost(env, x)) / 1e6
                look = {"color": style.colour(i), "fillstyle": "none", "markersize": 6}
                right.plot(*at, marks[name], **look)
    x = eb.equal_slices(env)
    twap = np.sqrt(float(eb.variance(env, x))) / 1e6, float(eb.cost(env, x)) / 1e6
    right.plot(*twap, "x", color="black", label="equal slices (TWAP)", zorder=4)
    right.set_xlabel("standard deviation of the cost, million dollars")
    right.set_ylabel("expected cost, million dollars")
    style.set_title(
        right, "The efficient frontier, and where agents ended", "one colour a risk aversion"
    )
    right.legend(frameon=False, fontsize=8)
    style.save(figure, path)


def risks(learnt: dict[str, list]) -> dict[str, np.ndarray]:
    """The gains [N, episodes], million dollars, of schedules and of what was learnt at 1e-6."""
    env = jaxpg.make(NAME, risk_aversion=0.0)
    of = {
        "TWAP": (eb.twap, eb.Config(), ()),
        "closed form": (eb.almgren_chriss, eb.Config(risk_aversion=1e-6), ()),
    }
    of |= {name.upper(): by_aversion[2][0] for name, by_aversion in learnt.items()}
    million = float(ac.unit(env)) / 1e6
    sample = (4000, env.params.num_trades)
    return {
        n: million * risk.gains(a, c, env, s, jax.random.key(7), *sample)
        for n, (a, c, s) in of.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--agents", nargs="+", default=list(CONFIGS), choices=list(CONFIGS))
    parser.add_argument("--out", default="almgren_chriss.png")
    args = parser.parse_args()
    console, learnt = Console(), {}
    for name in args.agents:
        learnt[name], seconds = train(name, args.seeds)
        lanes = len(AVERSIONS) * args.seeds
        console.print(f"{name}: {lanes} lanes of one program, {seconds:.0f} s", highlight=False)
    console.print(report(learnt))
    gains = risks(learnt)
    console.print("At lambda 1e-6, million dollars:", risk.table(gains))
    draw(learnt, args.out)
    other = args.out.replace(".", "_risk.", 1)
    draw_risk(gains, other, unit="million dollars")
    console.print(f"Drawn into {args.out} and {other}.", highlight=False)


if __name__ == "__main__":
    main()
