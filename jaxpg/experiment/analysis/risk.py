"""Measures of risk: how a policy's gains are distributed over episodes, for money.

    gains = risk.gains(ppo, cfg, env, state, key, episodes=2000, num_steps=12)
    print(risk.table({"PPO": gains, ...}))

`figures.risk.draw_risk` draws them. A gain is the reward of a step, in whatever unit; `scale` makes
dollars of it. Measured is an environment's reward: for the risk of the shortfall itself set
`risk_aversion` to 0, for that of wealth take utility="log", whose gains are log-returns. Losses
count as positive in VaR, CVaR and drawdown. Intervals are those of `bootstrap.interval`, episodes
resampled.
"""

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import env as E
from jaxpg.core.episodes import play, policy_of
from jaxpg.core.types import Agent, Array, C, Key, Tree
from jaxpg.experiment.analysis.bootstrap import interval, replace_diverged
from jaxpg.experiment.analysis.statistics import Estimate

RESAMPLES = 1000


@functools.partial(jax.jit, static_argnames=("agent", "episodes", "num_steps", "greedy"))
def gains(
    agent: Agent[C],
    cfg: C,
    env: E.Env,
    state: Tree,
    key: Key,
    episodes: int,
    num_steps: int,
    greedy: bool = True,
) -> Array:
    """Plays one episode in each of so many environments: their rewards [num_steps, episodes], zeros
    after the end."""
    policy = policy_of(agent, cfg, env, state, greedy)
    t, _, mask = play(env, policy, key, episodes, num_steps)
    return jnp.where(mask, t.reward, 0)


def value_at_risk(totals: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Value at risk [...]: the loss that a share `level` of the episodes [..., n] stays below."""
    return -np.quantile(totals, 1 - level, axis=-1)


def expected_shortfall(totals: np.ndarray, level: float = 0.95) -> np.ndarray:
    """CVaR [...]: the mean loss of the worst 1 - level of the episodes [..., n], Rockafellar &
    Uryasev (2000); of an episode that lies on the edge the share that belongs to them."""
    count = (1 - level) * totals.shape[-1]
    weight = np.clip(count - np.arange(totals.shape[-1]), 0, 1)
    return -(np.sort(totals, -1) * weight).sum(-1) / count


def sharpe(totals: np.ndarray) -> np.ndarray:
    """Mean over standard deviation [...] of an episode's gain; 0 where nothing varies."""
    std = totals.std(-1, ddof=1)
    return np.where(std > 0, totals.mean(-1) / np.where(std > 0, std, 1), 0)


def drawdown(gains: np.ndarray) -> np.ndarray:
    """Maximum drawdown [episodes]: the deepest fall of the sum of gains [T, episodes] from its
    highest so far, which begins at 0."""
    path = np.concatenate([np.zeros((1, gains.shape[1])), np.cumsum(gains, 0)])
    return (np.maximum.accumulate(path, 0) - path).max(0)


def measures(
    gains: np.ndarray,
    *,
    scale: float = 1.0,
    level: float = 0.95,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Measures of risk by name, with bootstrap intervals, from gains [T, episodes]: mean, standard
    deviation, Sharpe ratio, VaR and CVaR at `level`, and mean drawdown of episodes.

    Raises ValueError for gains that are not finite, fewer than two episodes, or an option that is
    not allowed.
    """
    gains, totals = check_gains(gains, scale, level)
    share = f"{level:.0%}" if level * 100 % 1 == 0 else f"{level:.1%}"
    asked = {
        "mean": (lambda x: x.mean((-2, -1)), totals),
        "std": (lambda x: x.std(-1, ddof=1)[..., 0], totals),
        "Sharpe": (lambda x: sharpe(x)[..., 0], totals),
        f"VaR {share}": (lambda x: value_at_risk(x, level)[..., 0], totals),
        f"CVaR {share}": (lambda x: expected_shortfall(x, level)[..., 0], totals),
        "drawdown": (lambda x: x.mean((-2, -1)), drawdown(gains)),
    }
    options = {"confidence": confidence, "resamples": resamples, "seed": seed}
    return {
        name: Estimate(float(f(x[None])), *interval(f, x[None], **options))
        for name, (f, x) in asked.items()
    }


def table(of: Mapping[str, np.ndarray], **options):
    """Makes a rich Table: a row for each policy's gains [T, episodes], a column for each measure.

    options: of `measures`.
    """
    from rich.table import Table

    if not of:
        raise ValueError("of={}: allowed is at least one policy's gains")
    rows = {name: measures(gains, **options) for name, gains in of.items()}
    found = Table("policy", box=None)
    for column in next(iter(rows.values())):
        found.add_column(column, justify="right")
    for name, row in rows.items():
        found.add_row(
            name, *(f"{_format_number(e.value)}\n{_format_interval(e)}" for e in row.values())
        )
    return found


def check_gains(gains, scale: float, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns gains [T, episodes], scaled, and their sums [episodes]. Raises ValueError for gains
    that are not finite, fewer than two episodes, or a scale or level that is not allowed."""
    gains = np.asarray(gains, float)
    if gains.ndim != 2 or gains.shape[1] < 2:
        raise ValueError(f"gains of shape {gains.shape}: allowed is [steps, episodes >= 2]")
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: allowed is a number between 0 and 1")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale={scale!r}: allowed is a number > 0")
    gains = replace_diverged(gains, name="gains") * scale
    return gains, gains.sum(0)


def _format_number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def _format_interval(e: Estimate) -> str:
    return f"{_format_number(e.low)} .. {_format_number(e.high)}"
