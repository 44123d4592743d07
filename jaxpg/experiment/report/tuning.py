"""Sections of a report on a tuning: its rounds, and what came of the comparison behind them."""

from pathlib import Path
from typing import Any

from jaxpg.experiment.analysis import scores
from jaxpg.experiment.files import SWEEP, TUNE
from jaxpg.experiment.files.atomic import read_json
from jaxpg.experiment.report import html
from jaxpg.experiment.report.parts import Section, format_estimate
from jaxpg.experiment.report.sweep import sweep_section
from jaxpg.experiment.sweeps import Sweep, load
from jaxpg.experiment.tuning import judge


def tuning_sections(folder: Path) -> list[Section]:
    """Sections of the sweeps of a tuning, of those that there are: the comparison, then the
    rounds."""
    rounds, found = read_json(folder / TUNE, ("rounds",))["rounds"], []
    for i in range(rounds + 1):
        if not (folder / "rounds" / str(i) / SWEEP).exists():
            continue
        what = f"round {i + 1} of {rounds}" if i < rounds else "held-out seeds"
        sweep = load(folder / "rounds" / str(i))
        section = sweep_section(sweep, f"{folder.resolve().name}: {what}")
        if i == rounds and "digests" in sweep.about:
            section = _add_verdict(section, sweep)
        found.append(section)
    return found[rounds:] + found[:rounds]


def _add_verdict(section: Section, sweep: Sweep) -> Section:
    """The section of the comparison, with its finalists beside the config ahead of all else."""
    return section._replace(draw=lambda: [verdict_table(sweep), *section.draw()])


def verdict_table(sweep: Sweep) -> str:
    """Table of the finalists beside the config that the tuning began with, of its comparison."""
    before, finalists = judge.judge_finalists(sweep)
    if not finalists:
        return html.paragraph("No seed has a greedy return.")
    base = sweep.about["points"][0]
    mean = judge.estimate(before, 1 - judge.ERROR)
    columns: list[tuple[Any, ...]] = [("before", base, format_estimate(mean), "", "")]
    for i, x in enumerate(finalists):
        better = "yes" if x.better else "no"
        means = format_estimate(x.mean), format_estimate(x.gain)
        columns.append((f"finalist {i + 1}", x.point, *means, better))
    names, points, *results = zip(*columns, strict=True)
    rows = [(field, *(scores.text(point[field]) for point in points)) for field in sweep.fields]
    share = f"{100 * finalists[0].confidence:.3g} %"
    heads = "mean return [95 %]", f"gain [{share}]", "better"
    rows += [(head, *cells) for head, cells in zip(heads, results, strict=True)]
    caption = (
        "Finalists beside the settings that the tuning began with, on seeds that no round has "
        "used. Gain: mean of the differences, seed by seed. Better: its interval is above 0."
    )
    return html.table(caption, ("", *names), rows)
