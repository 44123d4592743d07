"""Robustness of the policies of runs, over a grid of environment parameters: `jaxpg.robustness`."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxpg.core.checks import require_bool, require_file, require_integer, require_path, show
from jaxpg.core.env import Env
from jaxpg.core.run import Result
from jaxpg.core.single import name_of
from jaxpg.core.types import Agent, Key
from jaxpg.envs.wrappers.layer import innermost
from jaxpg.experiment import runs as folders
from jaxpg.experiment.analysis.robustness import Robustness, measure, settle_axis, table_rows
from jaxpg.experiment.files.atomic import write_atomically
from jaxpg.experiment.run.provenance import is_sweep, is_tuning

EVALUATION = 2  # folded into the seed's key: it shares none with training, nor with `jaxpg eval`


def robustness(
    runs: Sequence[str | Path | Result],
    params: Mapping[str, Any],
    *,
    points: int = 20,
    episodes: int = 64,
    greedy: bool = True,
    seed: int = 0,
    out: str | Path | None = None,
    best: bool = False,
    agent: Agent | None = None,
    env: Env | None = None,
    trust: bool = False,
) -> list[Robustness]:
    """Plays the policies of runs in worlds whose parameters are not those of training.

    runs: folders or Results, of one environment. params: one or two parameters; of each a range
    (low, high), of which `points` evenly spaced values are taken, (low, high, "log"), whose
    logarithms are, or a list of values. All other parameters are the run's own. A run that drew
    parameters anew for each episode (`randomized`) is played with them fixed: those of the grid at
    its values, others at those of the environment in the wrapper. episodes: of each world and
    seed, with the same random draws in all worlds and runs. out: a picture (.png, .svg or .pdf),
    with a table of the same name that ends in .csv. best, agent, env, trust: as of `jaxpg.load`.

    Returns for each run its returns [seeds, *points, episodes] and those at the nominal parameters;
    `experiment.analysis.robustness.summarize` sums them up. Raises ValueError for what cannot work,
    before anything is played: no runs, a parameter that is unknown, no single number or a part of
    the program, a range that is none, more than two parameters, runs of several environments.

    >>> (found,) = jaxpg.robustness(["runs/cliff"], {"slip": (0.0, 0.5)}, points=3, episodes=4)
    >>> found.returns.shape  # [seeds, slip, episodes]
    (1, 3, 4)
    """
    alone = isinstance(runs, (str, Path)) or hasattr(runs, "_fields")
    if alone or not (runs := [*runs]):
        raise ValueError(f"runs={show(runs)}: allowed are run folders or Results, in a list")
    require_integer("points", points, 2)
    require_integer("episodes", episodes, 1)
    require_bool("greedy", greedy)
    require_integer("seed", seed, 0, 2**32 - 1)
    axes = {name: _axis(name, given, points) for name, given in _require_few(params).items()}
    if out is not None:
        out = require_file("out", out, ".png", ".svg", ".pdf")
    loaded = [_load(run, agent, env, trust, best) for run in runs]
    _require_one_environment([result for _, result in loaded])
    for _, result in loaded:
        for name, values in axes.items():
            settle_axis(result.env, name, values)
    key = jax.random.fold_in(jax.random.key(seed), EVALUATION)
    several = [_measure(name, x, key, axes, episodes, greedy) for name, x in loaded]
    if out is not None:
        write(several, out)
    return several


def write(several: Sequence[Robustness], out: Path) -> None:
    """Writes the picture, and beside it the table as CSV."""
    from jaxpg.experiment.figures import style
    from jaxpg.experiment.figures.robustness import robustness_figure

    figure = robustness_figure(several)
    if out.suffix.lower() == ".pdf":
        figure.savefig(out)
    else:
        style.save(figure, out)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table_rows([*several]))
    write_atomically(out.with_suffix(".csv"), text.getvalue().encode())


def _require_few(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raises ValueError unless there are one or two parameters."""
    if not isinstance(params, Mapping) or len(params) not in (1, 2):
        given = ", ".join(map(str, params)) if isinstance(params, Mapping) else show(params)
        raise ValueError(f"params: {given or 'none'}; allowed are one or two parameters")
    return params


def _axis(name: str, given: Any, points: int) -> np.ndarray:
    """The values of a parameter. Raises ValueError for what is neither a range nor values."""
    allowed = "a range (low, high), low < high, also (low, high, 'log') of numbers > 0, or a list"
    wrong = ValueError(f"{name}={show(given)}: allowed is {allowed} of finite numbers")
    log = isinstance(given, tuple) and len(given) == 3 and given[2] == "log"
    try:
        values = np.asarray(given[:2] if log else given, float)
    except (TypeError, ValueError):
        raise wrong from None
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise wrong
    if not isinstance(given, tuple):
        return values
    if len(values) != 2 or values[0] >= values[1] or (log and values[0] <= 0):
        raise wrong
    space: Any = np.geomspace if log else np.linspace
    return space(*values, points)


def _load(
    run: Any, agent: Agent | None, env: Env | None, trust: bool, best: bool
) -> tuple[str, Result]:
    """A run's name and its Result. Raises ValueError for a sweep, which holds many."""
    if isinstance(run, Result):
        return f"{run.agent.name}-{run.env.name}", run
    require_path("run", run)
    if is_sweep(run) or is_tuning(run):
        raise ValueError(f"{run}: holds many configs, allowed are folders of one run")
    result = folders.load(run, agent, env, trust=trust, best=best)
    return Path(run).resolve().name, result


def _require_one_environment(results: Sequence[Result]) -> None:
    names = list(dict.fromkeys(name_of(innermost(x.env.core)) for x in results))
    if len(names) > 1:
        raise ValueError(f"runs of {', '.join(names)}: allowed are runs of one environment")


def _measure(
    name: str, result: Result, key: Key, axes: Mapping[str, np.ndarray], episodes: int, greedy: bool
) -> Robustness:
    agent, cfg, env, state = result[:4]
    return measure(agent, cfg, env, state, key, axes, episodes, greedy, name)
