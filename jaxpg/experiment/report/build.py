"""Runs, sweeps and comparisons as one HTML page, which opens offline and can be passed on."""

import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpg.core.run import Result
from jaxpg.experiment import figures
from jaxpg.experiment.analysis import phases, scores
from jaxpg.experiment.analysis.thresholds import solved, source
from jaxpg.experiment.figures import learning_curve
from jaxpg.experiment.files import write_atomically
from jaxpg.experiment.report import html
from jaxpg.experiment.report.parts import (
    HEAD,
    Section,
    duration,
    listed,
    origin,
    said,
    settings,
    share_solved,
)
from jaxpg.experiment.report.sweep import of_sweep
from jaxpg.experiment.run import measured
from jaxpg.experiment.run.measured import Record
from jaxpg.experiment.run.provenance import RUN, is_sweep
from jaxpg.experiment.text import format_count


def report(runs: Sequence[str | Path | Result | Any], out: str | Path) -> Path:
    """Writes the page and returns its path.

    runs: folders of runs, sweeps and comparisons in any mix, or Results and Sweeps. The page has a
    table of results with 95 % intervals, figures, settings (those that differ from the preset or
    the defaults first), versions, and the commands that give each again. It needs no network,
    and replaces what was at `out`.

    Raises ValueError for no runs, a folder that is neither, one without metrics, or an `out` that
    is no .html file in a folder that is there; CheckpointError for a damaged folder.
    """
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm") or not out.parent.is_dir():
        raise ValueError(f"out={str(out)!r}: allowed is an .html file in a folder that is there")
    if not runs:
        raise ValueError("runs=[]: allowed are folders of runs, sweeps and comparisons")
    opened = [_open(run) for run in runs]
    sections = [_of_run(x) if isinstance(x, Record) else of_sweep(x) for x in opened]
    title = sections[0].name if len(sections) == 1 else f"{len(sections)} experiments"
    parts = [html.heading(1, title), _summary(sections)]
    single = [x for x in opened if isinstance(x, Record)]
    if len({x.about.get("environment", {}).get("name") for x in single}) == 1 < len(single):
        sources = [x.source for x in single]
        parts.append(
            html.picture(
                lambda width: learning_curve.curves(sources, width=width),
                f"Learning curves of {listed([x.name for x in single])} in one diagram.",
            )
        )
    ids = [f"part-{i + 1}" for i in range(len(sections))]
    if len(sections) > 1:
        parts.append(html.contents([(n, s.name) for n, s in zip(ids, sections, strict=True)]))
    for name, section in zip(ids, sections, strict=True):
        parts += [html.heading(2, section.name, name), *section.draw()]
    given = [str(run) for run in runs if isinstance(run, (str, Path))]
    if len(given) == len(runs):
        command = shlex.join(["jaxpg", "report", *given, "--out", str(out)])
        parts += [html.heading(2, "This page"), html.code(command)]
    write_atomically(out, html.page(f"jaxpg: {title}", parts).encode())
    return out


def _open(run):
    """A Record or a Sweep."""
    if hasattr(run, "fields") and hasattr(run, "table"):
        return run
    if isinstance(run, Result):
        return measured.read(run)
    folder = Path(run)
    if is_sweep(folder):
        from jaxpg.experiment.sweeps import tables

        return tables.load(folder)
    if not (folder / RUN).exists():
        raise ValueError(f"{folder}: allowed is the folder of a run, a sweep or a comparison")
    return measured.read(folder)


def _summary(sections: list[Section]) -> str:
    caption = (
        "Results: the interquartile mean of the seeds' greedy returns in the last evaluation "
        "(without one, of returns at the end of training), with its 95 % bootstrap interval. "
        "Steps are those of one seed. Solved: how many seeds reach the environment's threshold."
    )
    return html.table(caption, HEAD, itertools.chain(*(s.rows for s in sections)), "records")


def _of_run(record: Record) -> Section:
    about, env = record.about, record.about.get("environment", {}).get("name", "?")
    score, what = _score(record)
    threshold = solved(about.get("environment", {}))
    steps, planned = record.steps[-1], about.get("total_steps", 0)
    took = record.summary.get("seconds")
    result = said(scores.estimate(score))
    row = (
        record.name, about.get("agent", "?"), env, f"{int(steps):,}", record.seeds, result,
        share_solved(score, threshold), "not ended" if took is None else duration(took),
    )  # fmt: skip

    def draw() -> list[str]:
        lead = f"Result: {result}, {what}. {_ending(record, planned)}"
        if threshold is not None:
            lead += f" {env} counts as solved from {threshold:g} on ({source(env)})."
        seen = (
            f"Return, metrics of learning, episode lengths and phases of {record.name}: {result}."
        )
        played, problem = None, ""
        try:
            played = figures.play(record)
        except (ValueError, ImportError) as error:
            problem = str(error)
        parts = [
            html.paragraph(lead),
            html.picture(
                lambda width: figures.training_report(record, width, played),
                seen, f"Training. Phases: {phases.RULE}.",
            ),
        ]  # fmt: skip
        if played is None:
            parts.append(html.paragraph(f"There is no policy to act with: {problem}", "faint"))
        else:
            parts.append(
                html.picture(
                    lambda width: figures.action_distribution(record, width, played),
                    f"How often the policy of {record.name} takes each action, greedy and sampled.",
                    "Actions over whole episodes. Dots, where there are any, are single seeds.",
                )
            )
        if about:
            own = settings(about["agent"], about["config"], about["environment"])
            parts += [html.heading(3, "Settings"), *own]
        return parts + origin(about, record.name)

    return Section(record.name, [row], draw)


def _score(record: Record) -> tuple[np.ndarray, str]:
    """Of each seed, and what it is."""
    greedy = record.evaluations.get("greedy")
    if greedy is not None:
        return greedy[:, -1], f"greedy return at {format_count(record.eval_steps[-1])} steps"
    late = record.steps > (1 - scores.LAST) * record.steps[-1]
    counts = np.nan_to_num(record.metric("episode/count"))[:, late]
    total = np.nan_to_num(record.metric("episode/return")[:, late]) * counts
    with np.errstate(invalid="ignore"):  # 0 / 0: no episode ended
        return total.sum(1) / counts.sum(1), "return in the last 10 % of the steps"


def _ending(record: Record, planned: int) -> str:
    stopped = record.summary.get("stopped")
    done = f"{int(record.steps[-1]):,} of {planned:,} steps"
    said = {
        None: f"The run goes on, or was killed: {done} are written.",
        "interrupt": f"It was interrupted after {done}.",
        "error": f"It failed after {done}.",
        "callback": f"It was stopped on purpose, after {done}.",
    }
    return said.get(stopped, "")
