"""Sellers of one stock who race each other: independent learners beside the Nash equilibrium.

python examples/liquidation_game.py [--sellers 2 4] [--out liquidation_game.png]

Each seller is a learner of its own, CEM, that knows nothing of the others. Prints what each pays in
the equilibrium, after learning, and if all were of one mind; draws the schedules.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxpg
from jaxpg.core.episodes import actions
from jaxpg.envs.finance import baselines as eb
from jaxpg.envs.finance import liquidation_game as lg
from jaxpg.experiment.figures import style
from jaxpg.loops.independent import independent

# A stock that nobody fears to hold, with a permanent impact ten times that of the paper's example.
STOCK = {"permanent_impact": 2.5e-6, "risk_aversion": 0.0}
CFG = jaxpg.cem.Config(episodes=64, num_steps=5, hidden=(8,))
TOTAL = 200 * 64 * 64 * 5


def learn(env) -> np.ndarray:
    """The schedules [N + 1, P] of greedy learners, shares."""
    learner = independent(jaxpg.cem)
    train = jax.jit(lambda key: jaxpg.train(learner, CFG, env, key, TOTAL)[0])
    state = train(jax.random.key(0))
    sold, _ = actions(learner, CFG, env, state, jax.random.key(1), 1, True, 5)
    left = np.cumprod(1 - np.asarray(sold)[:, 0, :, 0], 0)
    left[-1] = 0
    return env.params.shares * np.concatenate([np.ones_like(left[:1]), left])


def of_one_mind(sellers: int) -> np.ndarray:
    """The best schedule [N + 1] of each seller if they act together: they are one, whose trades
    move the price P times as far."""
    impacts = {
        name: sellers * getattr(jaxpg.make("LiquidationGame-jaxpg", **STOCK).params, name)
        for name in ("permanent_impact", "temporary_impact")
    }
    return np.asarray(eb.trajectory(jaxpg.make("AlmgrenChriss-jaxpg", **STOCK | impacts)))[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sellers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--out", default="liquidation_game.png")
    args = parser.parse_args()
    table = Table("sellers", "of one mind", "equilibrium", "learnt, each", box=None)
    figure, axes = style.new_panels(1, width=6.0, height=3.8)
    axes[0].plot(of_one_mind(1) / 1e6, color=style.GREY, label="alone, or of one mind")
    for i, sellers in enumerate(args.sellers):
        env = jaxpg.make("LiquidationGame-jaxpg", sellers=sellers, **STOCK)
        nash, learnt = lg.nash(env), learn(env)
        pays = [
            np.asarray(lg.utilities(env, jnp.asarray(x)))
            for x in (np.repeat(x[:, None], sellers, 1) for x in (of_one_mind(sellers), nash))
        ]
        each = np.asarray(lg.utilities(env, jnp.asarray(learnt)))
        table.add_row(
            str(sellers), *(f"{x[0]:,.0f}" for x in pays), " ".join(f"{x:,.0f}" for x in each)
        )
        look = {"color": style.colour(i)}
        axes[0].plot(nash / 1e6, **look, label=f"equilibrium of {sellers}")
        axes[0].plot(learnt / 1e6, "o", **look, fillstyle="none", markersize=5)
    axes[0].set_xlabel("trades done")
    axes[0].set_ylabel("held by each, million shares")
    style.set_title(
        axes[0], "Each sells before the others do", "points: independent learners (CEM)"
    )
    axes[0].legend(frameon=False, fontsize=8)
    style.save(figure, args.out)
    Console().print(table, f"Dollars. Drawn into {args.out}.", highlight=False)


if __name__ == "__main__":
    main()
