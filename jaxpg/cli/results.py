"""The commands that show what came of runs: eval, plot, report, render, export."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from jaxpg.cli import common

if TYPE_CHECKING:
    import numpy as np

    from jaxpg.core.env import Env

SIDE_BY_SIDE = 5  # players in a table of 80 columns
EVALUATION = 1  # folded into the seed's key: evaluation shares no key with training


def evaluate(
    run: Positional[Path],
    episodes: int = 128,
    sampled: bool = False,
    by_player: bool = False,
    seed: int = 0,
    best: bool = False,
    agent: str | None = None,
    env: str | None = None,
    trust: bool = False,
) -> int:
    """Measures the returns of whole episodes under the newest checkpoint of a run, and the signals
    that its environment sums up, such as the success rate of one with goals.

    Args:
        run: the run folder.
        episodes: of each seed.
        sampled: draw actions from the policy, instead of its mode.
        by_player: the mean return of each player of a game, instead of that of their mean reward.
        seed: of the random numbers.
        best: the checkpoint with the best greedy evaluation, of a run with --keep-best.
        agent: module:Object of its agent, if it is another one now.
        env: module:Object of its environment, if it is another one now.
        trust: import any module that the folder names, which runs its code.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes}: allowed is an integer >= 1")
    seeds = common.seed_shape(run)
    common.set_up(math.prod(seeds))
    import jax
    import numpy as np

    import jaxpg
    from jaxpg.core import signals
    from jaxpg.core.episodes import step_limit
    from jaxpg.experiment.callbacks.evaluation import warn_of_endless_episodes

    key = jax.random.split(jax.random.fold_in(common.random_key(seed), EVALUATION), seeds)
    result = jaxpg.load(run, trust=trust, best=best, **common.own_objects(run, agent, env, trust))
    most = step_limit(result.env)
    learnt, cfg, world, state = result[:4]
    asked = key, episodes, not sampled, most, by_player
    returns = np.asarray(jaxpg.evaluate(learnt, cfg, world, state, *asked))
    returns = returns.reshape(key.size, episodes, -1)
    if np.isnan(returns).any():
        warn_of_endless_episodes(result.env, most)
    kind = "sampled" if sampled else "greedy"
    common.tell(f"return of {episodes} {kind} episodes at {result.env_steps:,} env steps")
    if by_player:
        _print_players(world, returns)
        return 0
    returns = returns[..., 0]
    common.print_table({"mean": returns.mean(1), "std": returns.std(1), "lowest": returns.min(1)})
    if names := signals.scalars(world.core, world.params):
        common.tell("signals of the same episodes: mean of their sums")
        sums = [jaxpg.evaluate(learnt, cfg, world, state, *asked, signal=x) for x in names]
        means = [np.asarray(x).reshape(key.size, episodes).mean(1) for x in sums]
        common.print_table(dict(zip(names, means, strict=True)))
    return 0


def _print_players(env: "Env", returns: "np.ndarray") -> None:
    """Prints the mean returns of players, of returns [seeds, episodes, P], some side by side."""
    sizes = getattr(env.core, "groups", {"player": env.core.players})
    names = [
        f"{name}_{i}" if size > 1 else name for name, size in sizes.items() for i in range(size)
    ]
    means = dict(zip(names, returns.mean(1).T, strict=True))
    for begin in range(0, len(names), SIDE_BY_SIDE):
        some = names[begin : begin + SIDE_BY_SIDE]
        common.print_table({name: means[name] for name in some})


def plot(runs: Positional[tuple[Path, ...]], out: Path | None = None, window: int = 20) -> int:
    """Draws the learning curves of runs into one picture.

    Args:
        runs: run folders.
        out: the file, which ends in .png, .svg or .pdf; None is curve.png in the run's folder, or
            curves.png here for several.
        window: how many of the last episodes the return is a mean of.
    """
    if not runs:
        raise ValueError("`jaxpg plot RUN...`: no RUN is given")
    from jaxpg.experiment.figures.learning_curve import learning_curve

    if out is None:
        out = runs[0] / "curve.png" if len(runs) == 1 else Path("curves.png")
    learning_curve(runs, out, window)
    common.tell(out)
    return 0


def report(
    runs: Positional[tuple[Path, ...]],
    out: Path = Path("report.html"),
    agent: str | None = None,
    env: str | None = None,
    trust: bool = False,
) -> int:
    """Writes one HTML page about runs, sweeps and comparisons, which opens offline.

    Args:
        runs: their folders.
        out: the page.
        agent: module:Object of their agent, if it is another one now.
        env: module:Object of their environment, if it is another one now.
        trust: import any module that a folder names, which runs its code.
    """
    if not runs:
        raise ValueError("`jaxpg report RUN...`: no RUN is given")
    common.set_up(1)
    from jaxpg.experiment.report.build import report as write

    objects = common.own_objects(runs[0], agent, env, trust)
    common.tell(f"{write(runs, out, trust=trust, **objects)}  {out.stat().st_size:,} bytes")
    return 0


def render(
    run: Positional[Path],
    out: Path,
    episodes: int = 1,
    sampled: bool = False,
    seed: int = 0,
    policy: int = 0,
    config: int | None = None,
    max_steps: int = 1000,
    fps: float | None = None,
    best: bool = False,
    agent: str | None = None,
    env: str | None = None,
    trust: bool = False,
) -> int:
    """Plays episodes with the policy of a run's newest checkpoint, into a GIF or MP4.

    Args:
        run: the folder of a run, or of a sweep or comparison.
        out: the file, whose ending says which: .gif or .mp4.
        episodes: how many, one after the other.
        sampled: draw actions from the policy, instead of its mode.
        seed: of the random numbers.
        policy: which, of a run of several seeds: 0, 1, ...
        config: of a sweep: which of its configs, as scores.csv numbers them.
        max_steps: where an episode is cut that has not ended.
        fps: environment steps a second; None is what suits the environment.
        best: the checkpoint with the best greedy evaluation, of a run with --keep-best.
        agent: module:Object of its agent, if it is another one now.
        env: module:Object of its environment, if it is another one now.
        trust: import any module that the folder names, which runs its code.
    """
    common.set_up(1)
    import jaxpg
    from jaxpg.experiment.run.provenance import is_sweep

    source, objects = run, common.own_objects(run, agent, env, trust)
    if best and config is not None:
        raise ValueError(f"config={config}: allowed with --best is None")
    if best:
        source, objects = jaxpg.load(run, trust=trust, best=True, **objects), {}
    elif is_sweep(run):
        if config is None:
            raise ValueError(f"{run}: holds many configs, say which: --config 0, 1, ...")
        source, objects = jaxpg.sweep.result(run, config, trust=trust, **objects), {}
    elif config is not None:
        raise ValueError(f"config={config}: allowed is None for {run}, which is no sweep")
    done = jaxpg.render(
        source, out, episodes=episodes, seed=seed, policy=policy, greedy=not sampled,
        max_steps=max_steps, fps=fps, trust=trust, **objects,
    )  # fmt: skip
    for i, (total, steps, ending) in enumerate(zip(*done[:3], strict=True), 1):
        common.tell(f"episode {i}: return {total:.4g} in {steps} steps, {ending}")
    common.tell(f"{out}  {done.frames} pictures, {out.stat().st_size:,} bytes")
    return 0


def export(
    run: Positional[Path],
    out: Path,
    onnx: bool = False,
    seed: int = 0,
    best: bool = False,
    agent: str | None = None,
    env: str | None = None,
    trust: bool = False,
) -> int:
    """Writes the policy of a run's newest checkpoint into one file, to act with elsewhere.

    Args:
        run: the run folder.
        out: the file.
        onnx: as ONNX, greedy; else for jaxpg.Policy.from_file, which needs JAX.
        seed: which policy, of a run of several seeds: 0, 1, ...
        best: of the checkpoint with the best greedy evaluation, of a run with --keep-best.
        agent: module:Object of its agent, if it is another one now.
        env: module:Object of its environment, if it is another one now.
        trust: import any module that the folder names, which runs its code.
    """
    from jaxpg.core.checks import require_file

    require_file("out", out)
    common.set_up(math.prod(common.seed_shape(run)))
    import jaxpg

    objects = common.own_objects(run, agent, env, trust)
    policy = jaxpg.Policy.load(run, seed=seed, trust=trust, best=best, **objects)
    (policy.export_onnx if onnx else policy.export)(out)
    common.tell(f"{out}  {out.stat().st_size:,} bytes")
    return 0
