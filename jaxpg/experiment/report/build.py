"""Runs, sweeps and comparisons as one HTML page, which opens offline and can be passed on."""

import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpg.core.checks import require_path, show
from jaxpg.core.env import Env
from jaxpg.core.names import UntrustedError
from jaxpg.core.run import Result
from jaxpg.core.types import Agent
from jaxpg.experiment import figures
from jaxpg.experiment.analysis import costs, phases, scores
from jaxpg.experiment.analysis.thresholds import solved, threshold_source
from jaxpg.experiment.diagnostics import Finding, diagnose, name_failed
from jaxpg.experiment.figures import learning_curve, measured
from jaxpg.experiment.figures.measured import MeasuredRun
from jaxpg.experiment.files import RUN
from jaxpg.experiment.files.atomic import write_atomically
from jaxpg.experiment.report import html, reproduce
from jaxpg.experiment.report.parts import (
    HEAD,
    Section,
    format_duration,
    format_estimate,
    format_solved,
    join_names,
    origin_section,
    settings_tables,
)
from jaxpg.experiment.report.sweep import sweep_section
from jaxpg.experiment.report.tuning import tuning_sections
from jaxpg.experiment.run.provenance import is_sweep, is_tuning
from jaxpg.experiment.text import format_count


def report(
    runs: Sequence[str | Path | Result | Any],
    out: str | Path,
    *,
    agent: Agent | None = None,
    env: Env | None = None,
    trust: bool = False,
) -> Path:
    """Writes one page about runs and sweeps, and returns its path.

    runs: folders of runs, sweeps and comparisons in any mix, or Results and Sweeps; of a tuning
    its sweeps. The page has a
    table of results with 95 % intervals, figures, settings (those that differ from the preset or
    the defaults first), versions, and the commands that give each again. It needs no network,
    and replaces what was at `out`. agent, env, trust: as of `jaxpg.load`, for all runs.

    Raises ValueError for no runs, a folder that is neither, one without metrics, a name that is not
    trusted, or an `out` that is no .html file in a folder that is there; CheckpointError for a
    damaged folder.

    >>> jaxpg.report(["runs/cliff"], "report.html").name
    'report.html'
    """
    require_path("out", out, room="x" * 32)  # the name of a draft
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm") or not out.parent.is_dir() or out.is_dir():
        raise ValueError(f"out={str(out)!r}: allowed is an .html file in a folder that is there")
    alone = isinstance(runs, (str, Path)) or hasattr(runs, "_fields") or not np.iterable(runs)
    if alone or not (runs := [*runs]):
        raise ValueError(
            f"runs={show(runs)}: allowed are folders of runs, sweeps and comparisons, in a list"
        )
    opened, sections, tunings = [], [], []
    for run in runs:
        if isinstance(run, (str, Path)) and is_tuning(run):
            tunings.append(Path(run))
            sections += tuning_sections(tunings[-1])
            continue
        opened.append(_read_source(run, agent, env, trust))
        x = opened[-1]
        sections.append(_run_section(x) if isinstance(x, MeasuredRun) else sweep_section(x))
    if not sections:
        raise ValueError(f"runs={show(runs)}: have no rounds yet, allowed are tunings that do")
    title = sections[0].name if len(sections) == 1 else f"{len(sections)} experiments"
    if len(runs) == len(tunings) == 1:
        title = f"Tuning {tunings[0].resolve().name}"
    parts = [html.heading(1, title), _summary_table(sections)]
    single = [x for x in opened if isinstance(x, MeasuredRun)]
    if len({x.about.get("environment", {}).get("name") for x in single}) == 1 < len(single):
        sources = [x.source for x in single]
        parts.append(
            html.picture(
                lambda width: learning_curve.curves(sources, width=width),
                f"Learning curves of {join_names([x.name for x in single])} in one diagram.",
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


def _read_source(run, agent: Agent | None, env: Env | None, trust: bool):
    """Reads a MeasuredRun or a Sweep. Raises ValueError for a folder that is neither."""
    if hasattr(run, "fields") and hasattr(run, "table"):
        return run
    if isinstance(run, Result):
        return measured.read_run(run)
    require_path("runs", run)
    folder = Path(run)
    if is_sweep(folder):
        from jaxpg.experiment.sweeps import tables

        return tables.load(folder)
    if not (folder / RUN).exists():
        raise ValueError(f"{folder}: allowed is the folder of a run, a sweep or a comparison")
    return measured.read_run(folder, trust, agent, env)


def _summary_table(sections: list[Section]) -> str:
    caption = (
        "Results: the interquartile mean of the seeds' greedy returns in the last evaluation "
        "(without one, of returns at the end of training), with its 95 % bootstrap interval. "
        "Steps are those of one seed. Solved: how many seeds reach the environment's threshold."
    )
    return html.table(caption, HEAD, itertools.chain(*(s.rows for s in sections)), "records")


def _run_section(history: MeasuredRun) -> Section:
    about, env = history.about, history.about.get("environment", {}).get("name", "?")
    score, what = _seed_scores(history)
    threshold = solved(about.get("environment", {}))
    steps, planned = history.steps[-1], about.get("total_steps", 0)
    took = history.summary.get("seconds")
    result = format_estimate(scores.estimate(score))
    limit = costs.limit_of(about.get("config", {}))
    dear = costs.has_costs(history.metrics)
    row = (
        history.name, about.get("agent", "?"), env, f"{int(steps):,}", history.seeds,
        f"{result}; cost {costs.last_cost(history.metrics, limit)}" if dear else result,
        format_solved(score, threshold), "not ended" if took is None else format_duration(took),
    )  # fmt: skip

    def draw() -> list[str]:
        lead = f"Result: {result}, {what}. {_describe_ending(history, planned)}"
        if dear:
            lead += f" {costs.describe_costs(history.metrics, limit).capitalize()}."
        if threshold is not None:
            lead += f" {env} counts as solved from {threshold:g} on ({threshold_source(env)})."
        seen = (
            f"Return, metrics of learning, episode lengths and phases of {history.name}: {result}."
        )
        played, problem, name, found = None, "", history.name, []
        try:
            played = figures.play(history)
            found = diagnose(history.result())
        except UntrustedError:
            raise
        except (ValueError, ImportError) as error:
            problem = str(error)
        parts = [
            html.paragraph(lead),
            *_findings(found),
            html.picture(
                lambda width: figures.training_report(history, width, played),
                seen, f"Training. Phases: {phases.RULE}.",
            ),
        ]  # fmt: skip
        if played is None:
            parts.append(html.paragraph(f"There is no policy to act with: {problem}", "faint"))
        else:
            parts.append(
                html.picture(
                    lambda width: figures.action_distribution(history, width, played),
                    f"How often the policy of {name} takes each action, greedy and sampled.",
                    "Actions over whole episodes. Dots, where there are any, are single seeds.",
                )
            )
        if about:
            agent = reproduce.find_agent(about)
            own = settings_tables(about["agent"], agent, about["config"], about["environment"])
            parts += [html.heading(3, "Settings"), *own]
        return parts + origin_section(about, history.name)

    return Section(history.name, [row], draw)


def _findings(found: list[Finding]) -> list[str]:
    """Paragraphs on a run that learnt nothing; none of one that learnt."""
    said = [name_failed(found)] if found else []
    return [html.paragraph(x) for x in [*said, *(f"{x.sentence} {x.advise()}" for x in found)]]


def _seed_scores(history: MeasuredRun) -> tuple[np.ndarray, str]:
    """Returns the score of each seed, and what it is, in words."""
    greedy = history.evaluations.get("greedy")
    if greedy is not None:
        return greedy[:, -1], f"greedy return at {format_count(history.eval_steps[-1])} steps"
    late = history.steps > (1 - scores.LAST) * history.steps[-1]
    counts = np.nan_to_num(history.metric("episode/count"))[:, late]
    total = np.nan_to_num(history.metric("episode/return")[:, late]) * counts
    with np.errstate(invalid="ignore"):  # 0 / 0: no episode ended
        return total.sum(1) / counts.sum(1), "return in the last 10 % of the steps"


def _describe_ending(history: MeasuredRun, planned: int) -> str:
    stopped = history.summary.get("stopped")
    done = f"{int(history.steps[-1]):,} of {planned:,} steps"
    said = {
        None: f"The run goes on, or was killed: {done} are written.",
        "interrupt": f"It was interrupted after {done}.",
        "error": f"It failed after {done}.",
        "callback": f"It was stopped on purpose, after {done}.",
    }
    return said.get(stopped, "")
