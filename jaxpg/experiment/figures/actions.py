"""Figures of the actions of a policy over whole episodes."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.core import episodes, spaces
from jaxpg.core.run import Result
from jaxpg.experiment.figures import measured, style
from jaxpg.experiment.figures.measured import MeasuredRun
from jaxpg.experiment.text import format_count

EPISODES, STEPS = 64, 1000  # of each seed; no episode is longer than these steps
_REPORT = 0x4E90  # folded into the key: what is played here shares no key with training


class Played(NamedTuple):
    """Episodes of the last policy, "greedy" and "sampled": their lengths and actions."""

    lengths: dict[str, np.ndarray]  # [episodes of all seeds] steps
    actions: dict[str, list[np.ndarray]]  # of each seed [steps, dimensions]
    space: Any  # the environment's action space
    players: int = 0  # of a game


def play(run: str | Path | Result | MeasuredRun, trust: bool = False) -> Played:
    """Plays 64 episodes of each seed, always the same ones, none longer than 1000 steps.

    trust: as of `jaxpg.load`. Raises CheckpointError for a run without a checkpoint and ValueError
    for one without a state, of a network that is not trusted, or of an agent or environment that no
    name gives again.
    """
    agent, cfg, env, state, metrics, *_ = measured.read_run(run, trust).result()
    if state is None:
        raise ValueError(f"{run}: has no state, allowed is a run whose policy can act")
    steps = min(STEPS, int(np.max(getattr(env.params, "max_steps_in_episode", STEPS))))
    seeds = next(iter(metrics.values())).shape[:-1]
    lengths, actions = {}, {}
    for kind, greedy in (("greedy", True), ("sampled", False)):
        key = jax.random.fold_in(jax.random.key(0), _REPORT + greedy)
        key = jax.random.split(key, seeds) if seeds else key
        found = episodes.actions(agent, cfg, env, state, key, EPISODES, greedy, steps)
        action, mask = (x if seeds else x[None] for x in map(np.asarray, found))
        action = action.reshape(*mask.shape, -1)  # [seeds, T, episodes, dimensions]
        lengths[kind] = mask.sum(1).ravel()
        actions[kind] = [a[m] for a, m in zip(action, mask, strict=True)]
    return Played(lengths, actions, env.action_space, getattr(env.core, "players", 0))


def action_distribution(
    run: str | Path | Result | MeasuredRun, width: float = style.WIDE, played: Played | None = None
):
    """Draws the policy's actions over whole episodes, greedy beside sampled, as a matplotlib
    Figure.

    Discrete actions as bars (dots are single seeds), continuous ones as a histogram of every
    dimension, up to six of them. played: from `play`; None plays here, and raises what it does.
    """
    played = play(run) if played is None else played
    taken, space = played.actions, played.space
    dims = taken["greedy"][0].shape[-1]
    figure, all_axes = style.new_panels(min(dims, 6), width if dims > 1 else min(width, 5.0), 2.7)
    counts = getattr(space, "nvec", None) or [getattr(space, "n", 2)] * dims
    continuous = spaces.kind(space) == "continuous"
    for i, axes in enumerate(all_axes):
        own = {kind: [x[:, i] for x in seeds] for kind, seeds in taken.items()}
        if continuous:
            _draw_histogram(axes, own)
        else:
            _draw_bars(axes, own, int(counts[i]))
        axes.set_xlabel(_label(i, dims, played.players))
    total = sum(map(len, taken["greedy"]))
    note = f"{len(played.lengths['greedy'])} episodes each, {format_count(total)} greedy steps"
    style.set_title(all_axes[0], "Actions over whole episodes", note)
    style.legend_below(figure, all_axes[0].get_legend_handles_labels()[0])
    return figure


def _label(i: int, dims: int, players: int) -> str:
    """Name of a dimension of an action; in a game players have as many each."""
    if dims == 1:
        return "action"
    if not players:
        return f"action, dimension {i + 1} of {dims}"
    each = dims // players
    part = "" if each == 1 else f", dimension {i % each + 1} of {each}"
    return f"action of player {i // each}{part}"


def _draw_bars(axes, own: dict[str, list[np.ndarray]], count: int) -> None:
    for i, (kind, seeds) in enumerate(own.items()):
        shares = np.stack([np.bincount(x.astype(int), minlength=count) / len(x) for x in seeds])
        x = np.arange(count) + (i - 0.5) * 0.4
        axes.bar(x, shares.mean(0), 0.38, color=style.colour(i), alpha=0.8, label=kind)
        if len(seeds) > 1:
            axes.plot(x, shares.T, ".", color="black", markersize=3, alpha=0.6)
    axes.set_xticks(np.arange(count))
    axes.set(ylabel="share of steps", ylim=(0, None))


def _draw_histogram(axes, own: dict[str, list[np.ndarray]]) -> None:
    pooled = {kind: np.concatenate(seeds) for kind, seeds in own.items()}
    values = np.concatenate([*pooled.values()])
    least, most = np.nanmin(values), np.nanmax(values)
    bins = np.linspace(least, most if most > least else least + 1, 41)
    for i, (kind, x) in enumerate(pooled.items()):
        look = {"density": True, "color": style.colour(i)}
        axes.hist(x, bins, alpha=0.4, label=kind, **look)
        axes.hist(x, bins, histtype="step", **look)
    axes.set_ylabel("density")
