"""Agents that learn to invest, beside the weights of Merton (1969) and Kelly (1956).

python examples/portfolio.py [--seeds 2] [--out portfolio.png]

CEM learns the weight of one asset in three markets, of two correlated assets, and, with costs, how
seldom to trade. Prints the weights beside Merton's, and draws them, what costs do, and the risk of
what was learnt. Rewards leave out the part of the prices' noise whose mean is zero
(`price_noise=0`), which a learner would average over centuries to see a weight.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.parallel.lanes import take_lane
from jaxpg.envs.finance import portfolio as pf
from jaxpg.experiment.analysis import risk
from jaxpg.experiment.figures import style
from jaxpg.experiment.figures.risk import draw_risk

NAME, STEPS = "Portfolio-jaxpg", 12
WEEKLY = {"price_noise": 0.0, "horizon": STEPS / 52, "num_steps": STEPS}
MONTHLY = {"price_noise": 0.0, "horizon": 1.0, "num_steps": STEPS}
ONE = [{}, {"env.drift": 0.06, "env.volatility": 0.25}, {"env.drift": 0.12, "env.volatility": 0.3}]
TWO = {
    "assets": 2, "drift": [0.08, 0.05], "volatility": [0.25, 0.2], "correlation": 0.3,
    "min_weight": -1.0, "max_leverage": 3.0,
}  # fmt: skip
COSTLY = {"volatility": 0.35, "max_weight": 1.0}
COSTS = (0.0, 0.002, 0.005, 0.01, 0.02)
CFG = jaxpg.cem.Config(population=32, elites=8, episodes=1024, num_steps=STEPS)
TOTAL = 60 * 32 * 1024 * STEPS


def learn(env, points: list, seeds: int) -> list[list]:
    """[point][seed] of (env, cfg, state), all in one program."""
    every = [point for point in points for _ in range(seeds)]
    cfgs, envs = jaxpg.sweep.batch(CFG, env, every)
    keys = jnp.tile(jax.random.split(jax.random.key(0), seeds), len(points))
    train = jax.jit(jax.vmap(lambda *own: jaxpg.train(jaxpg.cem, *own, TOTAL)[0]))
    found = envs, cfgs, train(cfgs, envs, keys)
    lanes = [take_lane(found, i) for i in range(len(every))]
    return [lanes[i : i + seeds] for i in range(0, len(every), seeds)]


@jax.jit
def watch(env, cfg, state):
    """Transitions [T, 256] of the greedy policy."""

    def act(obs, carry, key):
        return *jaxpg.cem.act(cfg, env, state, obs, carry, key, True), ()

    return E.rollout(env, act, E.reset(env, jax.random.key(1), 256), (), jax.random.key(2), STEPS)[
        2
    ]


def weights(env, cfg, state) -> np.ndarray:
    """The mean weights [n] over time and episodes."""
    return np.asarray(watch(env, cfg, state).action.mean((0, 1)))


def traded(env, cfg, state) -> float:
    """Turnover in a period, bought and sold, as a share of wealth; the first purchase left out."""
    t = watch(env, cfg, state)
    return float(jnp.abs(t.action - t.obs[..., :1])[1:].mean())


def compare(found: list[list]) -> tuple[Table, np.ndarray]:
    """A table, and [weights, 1 + seeds]: Merton's and those learnt."""
    out, rows = Table("market", "Merton", "learnt", "off by", box=None), []
    for seeds in found:
        env = seeds[0][0]
        best, ours = np.asarray(pf.merton(env)), np.stack([weights(*one) for one in seeds], 1)
        for i, (b, w) in enumerate(zip(best, ours, strict=True)):
            mu, sigma = (float(env.core.each(env.params, f)[i]) for f in pf.OF_EACH)
            name = f"mu {mu:g}, sigma {sigma:g}" + (
                f", asset {i + 1} of 2" if len(best) > 1 else ""
            )
            off = " ".join(f"{x / b - 1:+.1%}" for x in w)
            out.add_row(name, f"{b:.3f}", " ".join(f"{x:.3f}" for x in w), off)
            rows.append([b, *w])
    return out, np.array(rows)


def draw(rows: np.ndarray, costly: list[list], path: str) -> None:
    figure = style.new_figure(10.0, 3.4)
    left, middle, right = figure.subplots(1, 3)
    for axes in (left, middle, right):
        style.tidy(axes)
    most = rows.max() * 1.08
    left.plot([0, most], [0, most], color=style.GREY, linewidth=1)
    left.fill_between([0, most], [0, most * 0.95], [0, most * 1.05], color=style.GREY, alpha=0.15)
    for i, (best, *ours) in enumerate(rows):
        left.plot([best] * len(ours), ours, "o", color=style.colour(i), fillstyle="none")
    left.set_xlabel("Merton's weight")
    left.set_ylabel("learnt by CEM")
    style.set_title(left, "Without costs", "the band is 5 % about Merton's weight")

    for i, cost in enumerate(COSTS):
        for one in costly[i]:
            middle.plot(
                cost * 100, traded(*one) * 100, "o", color=style.colour(0), fillstyle="none"
            )
    middle.set_xlabel("cost, % of what is traded")
    middle.set_ylabel("traded in a month, % of wealth")
    middle.set_ylim(0)
    style.set_title(middle, "Costs make it trade less", "points are seeds")

    shown = {0: COSTS[0], len(COSTS) - 1: COSTS[-1]}
    for k, (i, cost) in enumerate(shown.items()):
        t = watch(*costly[i][0])
        held, asked = (np.asarray(x)[1:, :, 0].ravel() for x in (t.obs[..., :1], t.action))
        look = {"color": style.colour(k), "markersize": 2, "alpha": 0.25}
        right.plot(held, asked, ".", **look)
        right.plot([], "o", color=style.colour(k), label=f"cost {cost:.0%}")
    merton = float(pf.merton(costly[0][0][0])[0])
    right.axhline(merton, color=style.GREY, linewidth=1)
    span = right.get_xlim()
    right.plot(span, span, color=style.GREY, linewidth=1, linestyle=":")
    right.set_xlabel("weight that prices have left")
    right.set_ylabel("weight asked for")
    style.set_title(right, "With costs it stays where it is", "solid: Merton; dotted: no trade")
    right.legend(frameon=False, fontsize=8)
    style.save(figure, path)


def risks(one: list[list], seed: int = 7) -> dict[str, np.ndarray]:
    """Log-returns [T, episodes] of a year, by what was learnt for the first market and others."""
    env = jaxpg.make(NAME)
    policies = {
        "half and half": (pf.constant, pf.Config(weights=(0.5, 0.5)), ()),
        "Merton, 1.5": (pf.constant, pf.Config(weights=(1.5, -0.5)), ()),
        "CEM": (jaxpg.cem, *one[0][0][1:]),
    }
    key = jax.random.key(seed)
    return {n: risk.gains(a, c, env, s, key, 4000, STEPS) for n, (a, c, s) in policies.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", default="portfolio.png")
    args = parser.parse_args()
    console, begun = Console(), time.perf_counter()
    one = learn(jaxpg.make(NAME, **WEEKLY), ONE, args.seeds)
    two = learn(jaxpg.make(NAME, **WEEKLY, **TWO), [{}], args.seeds)
    points = [{"env.cost": cost} for cost in COSTS]
    costly = learn(jaxpg.make(NAME, **MONTHLY, **COSTLY), points, args.seeds)
    console.print(f"three programs, {time.perf_counter() - begun:.0f} s", highlight=False)
    table, rows = compare(one + two)
    console.print(table)
    for cost, seeds in zip(COSTS, costly, strict=True):
        much = " ".join(f"{traded(*s):.2%}" for s in seeds)
        mean = " ".join(f"{weights(*s)[0]:.2f}" for s in seeds)
        console.print(f"cost {cost:.1%}: traded a month {much}, weight {mean}", highlight=False)
    gains = risks(one)
    console.print("Log-returns of a year, mu 0.08, sigma 0.2:", risk.table(gains))
    draw(rows, costly, args.out)
    other = args.out.replace(".", "_risk.", 1)
    draw_risk(gains, other, unit="log-return of a year")
    console.print(f"Drawn into {args.out} and {other}.", highlight=False)


if __name__ == "__main__":
    main()
