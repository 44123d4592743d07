"""The command that plays the policies of runs under other parameters than those of training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional, UseAppendAction

from jaxpg.cli import common

if TYPE_CHECKING:
    from jaxpg.experiment.analysis.robustness import Robustness

NAME = 30  # letters of a run's name in the table, which fits into 80 columns


def robustness(
    runs: Positional[tuple[Path, ...]],
    param: UseAppendAction[tuple[tuple[str, ...], ...]] = (),
    points: int = 20,
    episodes: int = 64,
    sampled: bool = False,
    out: Path = Path("robustness.png"),
    seed: int = 0,
    best: bool = False,
    agent: str | None = None,
    env: str | None = None,
    trust: bool = False,
) -> int:
    """Plays the policies of runs over a grid of environment parameters, and draws their returns:
    lines over one parameter, maps side by side over two, with a table beside the picture.

    Args:
        runs: run folders.
        param: NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=VALUE,VALUE,... of one or two parameters.
        points: values of each range.
        episodes: of each point and seed.
        sampled: draw actions from the policy, instead of its mode.
        out: the picture, which ends in .png, .svg or .pdf; the table is beside it, as .csv.
        seed: of the random numbers, the same for all points and runs.
        best: the checkpoints with the best greedy evaluation, of runs with --keep-best.
        agent: module:Object of their agent, if it is another one now.
        env: module:Object of their environment, if it is another one now.
        trust: import any module that a folder names, which runs its code.
    """
    if not runs:
        raise ValueError("`jaxpg robustness RUN... --param NAME=LOW:HIGH`: no RUN is given")
    params = _read_params([word for words in param for word in words])
    common.random_key(seed)
    common.set_up(1)
    import jaxpg

    several = jaxpg.robustness(
        runs, params, points=points, episodes=episodes, greedy=not sampled, seed=seed, out=out,
        best=best, trust=trust, **common.own_objects(runs[0], agent, env, trust),
    )  # fmt: skip
    _print_summary(several, episodes, "sampled" if sampled else "greedy")
    common.tell(out, out.with_suffix(".csv"))
    return 0


def _read_params(words: list[str]) -> dict[str, Any]:
    """Parameters and their ranges or values, as `jaxpg.robustness` takes them."""
    found: dict[str, Any] = {}
    for word in words:
        name, sign, rest = word.partition("=")
        parts = rest.split(":")
        try:
            if len(parts) > 1:
                given = tuple(float(x) for x in parts[:2])
                given = (*given, *parts[2:])
            else:
                given = [float(x) for x in rest.split(",")]
        except ValueError:
            sign = ""
        if not (name and sign):
            allowed = "NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=VALUE,VALUE,..., of numbers"
            raise ValueError(f"param={word!r}: allowed is {allowed}")
        if name in found:
            raise ValueError(f"param: {name} is given twice, allowed is once")
        found[name] = given
    if len(found) not in (1, 2):
        said = ", ".join(found) or "none is given"
        raise ValueError(f"param: {said}; allowed are one or two parameters")
    return found


def _print_summary(several: "list[Robustness]", episodes: int, kind: str) -> None:
    """Prints a row per run; of several seeds the means over them."""
    import numpy as np
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from jaxpg.experiment.analysis.robustness import summarize
    from jaxpg.experiment.text import printable

    points = " x ".join(str(len(x)) for x in several[0].grid.values())
    common.tell(f"mean return of {episodes} {kind} episodes over {points} points")
    if any(np.isnan(x.returns).any() for x in several):
        common.say("warning: an episode did not end, and so has no return: its point is empty")
    table = Table("run", box=SIMPLE_HEAD)
    rows = [summarize(x) for x in several]
    for column in rows[0]:
        table.add_column(column, justify="right")
    for found, row in zip(several, rows, strict=True):
        seeds = f", {len(found.returns)} seeds" if len(found.returns) > 1 else ""
        name = printable(found.name)
        room = NAME - len(seeds)
        name = name if len(name) <= room else f"{name[: room - 3]}..."
        table.add_row(name + seeds, *(f"{x.mean():.4g}" for x in row.values()))
    common.console().print(table)
