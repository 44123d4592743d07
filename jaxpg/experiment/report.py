"""Runs, sweeps and comparisons as one HTML page, which opens offline and can be passed on."""

import itertools
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxpg import agents
from jaxpg.core import env as E
from jaxpg.core.config import to_dict
from jaxpg.core.run import Result
from jaxpg.envs.solved import solved, source
from jaxpg.experiment import commands, page, phases, pictures, plots, records, scores
from jaxpg.experiment.logging import short
from jaxpg.experiment.records import Record
from jaxpg.experiment.statistics import Estimate
from jaxpg.presets import preset, table

SWEEP = "sweep.json"
HEAD = "name", "agent", "environment", "env steps", "seeds", "result", "solved", "wall time"
BEST = 10  # configs in a sweep's table
PAIRS, DOSES = 3, 4  # fields of a sweep that are drawn, those that matter most


class Section(NamedTuple):
    name: str
    rows: list[tuple]  # of the summary table, in the order of HEAD
    draw: Callable[[], list[str]]  # the HTML of what stands under the name


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
    sections = [_of_run(x) if isinstance(x, Record) else _of_sweep(x) for x in opened]
    title = sections[0].name if len(sections) == 1 else f"{len(sections)} experiments"
    parts = [page.heading(1, title), _summary(sections)]
    single = [x for x in opened if isinstance(x, Record)]
    if len({x.about.get("environment", {}).get("name") for x in single}) == 1 < len(single):
        sources = [x.source for x in single]
        parts.append(
            page.picture(
                lambda width: plots.curves(sources, width=width),
                f"Learning curves of {_listed([x.name for x in single])} in one diagram.",
            )
        )
    ids = [f"part-{i + 1}" for i in range(len(sections))]
    if len(sections) > 1:
        parts.append(page.contents([(n, s.name) for n, s in zip(ids, sections, strict=True)]))
    for name, section in zip(ids, sections, strict=True):
        parts += [page.heading(2, section.name, name), *section.draw()]
    given = [str(run) for run in runs if isinstance(run, (str, Path))]
    if len(given) == len(runs):
        command = shlex.join(["jaxpg", "report", *given, "--out", str(out)])
        parts += [page.heading(2, "This page"), page.code(command)]
    draft = out.with_name(out.name + ".tmp")
    draft.write_text(page.page(f"jaxpg: {title}", parts), encoding="utf-8")
    draft.replace(out)
    return out


def _open(run):
    """A Record or a Sweep."""
    if hasattr(run, "fields") and hasattr(run, "table"):
        return run
    if isinstance(run, Result):
        return records.read(run)
    folder = Path(run)
    if (folder / SWEEP).exists():
        from jaxpg.experiment import results

        return results.load(folder)
    if not (folder / "run.json").exists():
        raise ValueError(f"{folder}: allowed is the folder of a run, a sweep or a comparison")
    return records.read(folder)


def _summary(sections: list[Section]) -> str:
    caption = (
        "Results: the interquartile mean of the seeds' greedy returns in the last evaluation "
        "(without one, of returns at the end of training), with its 95 % bootstrap interval. "
        "Steps are those of one seed. Solved: how many seeds reach the environment's threshold."
    )
    return page.table(caption, HEAD, itertools.chain(*(s.rows for s in sections)), "records")


def _of_run(record: Record) -> Section:
    about, env = record.about, record.about.get("environment", {}).get("name", "?")
    score, what = _score(record)
    threshold = solved(about.get("environment", {}))
    steps, planned = record.steps[-1], about.get("total_steps", 0)
    took = record.summary.get("seconds")
    result = _said(scores.estimate(score))
    row = (
        record.name, about.get("agent", "?"), env, f"{int(steps):,}", record.seeds, result,
        _solved(score, threshold), "not ended" if took is None else _time(took),
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
            played = pictures.play(record)
        except (ValueError, ImportError) as error:
            problem = str(error)
        parts = [
            page.paragraph(lead),
            page.picture(
                lambda width: pictures.training_report(record, width, played),
                seen, f"Training. Phases: {phases.RULE}.",
            ),
        ]  # fmt: skip
        if played is None:
            parts.append(page.paragraph(f"There is no policy to act with: {problem}", "faint"))
        else:
            parts.append(
                page.picture(
                    lambda width: pictures.action_distribution(record, width, played),
                    f"How often the policy of {record.name} takes each action, greedy and sampled.",
                    "Actions over whole episodes. Dots, where there are any, are single seeds.",
                )
            )
        return parts + _settings(about) + _origin(about, record.name)

    return Section(record.name, [row], draw)


def _score(record: Record) -> tuple[np.ndarray, str]:
    """Of each seed, and what it is."""
    greedy = record.evaluations.get("greedy")
    if greedy is not None:
        return greedy[:, -1], f"greedy return at {short(record.eval_steps[-1])} steps"
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


def _of_sweep(sweep) -> Section:
    about, done = sweep.about, scores.final(sweep)
    name = getattr(sweep, "folder", None)
    agent, env = about.get("agent") or "", (about.get("environment") or {}).get("name", "")
    name = Path(name).resolve().name if name else f"{about['kind']} {agent} {env}".strip()
    took = about.get("seconds")
    cost = _time(took) if took else "-"
    kept = "agent" in sweep.fields
    groups = scores.groups(sweep, sweep.fields) if len(sweep.table) else []
    ranked = [(done.runs(g.configs), g) for g in groups if {*g.configs} <= {*done.scores}]
    if not kept:
        ranked = sorted(ranked, key=lambda x: -_iqm(x[0]))[:1]
    rows = []
    for runs, group in ranked:
        point = dict(zip(sweep.fields, group.values, strict=True))
        own_env = point.get("env", env)
        own = ", ".join(f"{f} = {scores.text(v)}" for f, v in point.items())
        label = name if kept else f"{name}, best of {len(groups)}: {own}"
        steps = sweep.table.loc[sweep.table["config"] == group.configs[0], "env_steps"].max()
        limit = scores.threshold(sweep)
        limit = solved(own_env) if kept and "env" in point else limit
        rows.append((
            label, point.get("agent", agent), own_env, f"{int(steps):,}", runs.size,
            _said(scores.estimate(runs)), _solved(runs.ravel(), limit), cost,
        ))  # fmt: skip
    if not rows:
        rows = [(name, agent, env, "0", about["seeds"], "-", "-", cost)]

    def draw() -> list[str]:
        count, programs = len(about["points"]), about.get("compilations", about.get("programs"))
        lead = f"{count} config{'s'[: count != 1]} x {about['seeds']} seeds"
        lead += f" of {about['total_steps']:,} steps"
        if programs is not None:
            lead += f", in {programs} compiled program{'s'[: programs != 1]}"
        if done.diverged:
            lead += f"; {done.diverged} runs diverged and count as the worst"
        if not groups:
            return [page.paragraph(lead + ". It has no rows yet.")]
        drawn = _comparison(sweep) if kept else [*_varied(sweep, done), _best(sweep, done)]
        return [page.paragraph(lead + "."), *drawn, *_settings(about, sweep.fields),
                *_origin(about, name)]  # fmt: skip

    return Section(name, rows, draw)


def _iqm(runs: np.ndarray) -> float:
    value = scores.estimate(runs).value
    return -np.inf if np.isnan(value) else value


def _varied(sweep, done) -> list[str]:
    """Figures of a sweep: of the fields that matter most first."""
    fields = sorted(sweep.fields, key=lambda f: -_effect(sweep, done, f))
    drawn = []
    for x, y in itertools.islice(itertools.combinations(fields, 2), PAIRS):
        drawn.append(page.picture(
            lambda width, x=x, y=y: pictures.heat_map(sweep, x, y, width=width),
            f"The final score over {x} and {y}, as a map; the numbers are in the table below.",
        ))  # fmt: skip
    for x in fields[:DOSES]:
        drawn.append(page.picture(
            lambda width, x=x: pictures.heat_map(sweep, x, width=width),
            f"The final score over {x}, with 95 % intervals and single runs.",
        ))  # fmt: skip
    if len(fields) > 1:
        drawn.append(page.picture(
            lambda width: pictures.parallel_coordinates(sweep, width),
            f"All configs as lines through the values of {_listed(fields)}, to their final score.",
        ))  # fmt: skip
    drawn.append(page.picture(
        lambda width: pictures.curves(sweep, width=width), "Learning curves of the best configs."
    ))  # fmt: skip
    if len(fields) > 1:
        drawn.append(page.picture(
            lambda width: pictures.curves(sweep, fields[0], width),
            f"Learning curves by {fields[0]}.",
        ))  # fmt: skip
    return drawn


def _effect(sweep, done, field: str) -> float:
    """By how much the IQM differs between the values of a field."""
    groups = [[c for c in g.configs if c in done.scores] for g in scores.groups(sweep, [field])]
    values = [done.iqm(configs) for configs in groups if configs]
    return float(np.ptp(values)) if np.isfinite(values).all() and values else 0.0


def _best(sweep, done) -> str:
    rows = []
    for group in scores.groups(sweep, sweep.fields):
        for config in group.configs:
            if config in done.scores:
                lost = int(np.isnan(done.scores[config]).sum())
                estimate = scores.estimate(done.runs([config]))
                rows.append((config, *map(scores.text, group.values), estimate, lost))
    rows.sort(key=lambda row: -np.nan_to_num(row[-2].value, nan=-np.inf))
    head = "config", *sweep.fields, "IQM [95 % interval]", "diverged"
    caption = f"The best of {len(rows)} configs by the IQM of the {done.what}."
    best = [(*row[:-2], _said(row[-2]), row[-1]) for row in rows[:BEST]]
    return page.table(caption, head, best)


def _comparison(sweep) -> list[str]:
    """Figures of a comparison."""
    parts = scores.by_env(sweep) if "env" in sweep.fields else {"": sweep}
    drawn = []
    for name, part in parts.items():
        where = f" on {name}" if name else ""
        drawn.append(page.picture(
            lambda width, part=part: pictures.curves(part, "agent", width),
            f"Learning curves by agent{where}.", name,
        ))  # fmt: skip
        drawn.append(page.picture(
            lambda width, part=part: pictures.heat_map(part, "agent", width=width),
            f"Final scores by agent{where}, with 95 % intervals.", name,
        ))  # fmt: skip
        if (limit := scores.threshold(part)) is not None:
            drawn.append(page.picture(
                lambda width, part=part, limit=limit: pictures.efficiency(
                    _by_agent(part), limit, width
                ),
                f"How many runs of each agent reach {limit:g}{where}, over the steps.", name,
            ))  # fmt: skip
    found, what = scores.by_agent(sweep)
    found = {k: x for k, x in found.items() if np.isfinite(x).all()}
    if found:
        drawn.append(page.picture(
            lambda width: pictures.profiles(found, what, width),
            "Performance profiles: the share of runs above each score, by agent.",
        ))  # fmt: skip
    if len(found) > 1 and all(x.shape[1] > 1 for x in found.values()):
        drawn.append(page.picture(
            lambda width: pictures.improvement(found, width),
            "For each pair of agents the probability that a run of one beats one of the other.",
        ))  # fmt: skip
    return drawn


def _by_agent(part) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    measured = scores.curves(part)
    return {
        group.values[0]: (
            measured.steps, np.concatenate([measured.returns[c] for c in group.configs])
        )
        for group in scores.groups(part, ["agent"])
    }  # fmt: skip


def _settings(about: dict[str, Any], varied: Sequence[str] = ()) -> list[str]:
    """What differs from preset and defaults, then all of it."""
    config = about.get("config") or {}
    parts = [page.heading(3, "Settings")]
    env = (about.get("environment") or {}).get("name")
    if about.get("agent") in agents.NAMES and config:
        agent = agents.get(about["agent"])
        default, tuned = to_dict(agent.Config()), to_dict(preset(agent, env or ""))
        has = env in table(agent)
        head = ["setting", "here", "default"] + [f"preset for {env}"] * has
        rows = [
            (k, _value(v), _value(default.get(k)), *[_value(tuned.get(k))] * has)
            for k, v in config.items()
            if k not in varied and not v == default.get(k) == tuned.get(k)
        ]
        if rows:
            what = "the agent's defaults or its preset" if has else "the agent's defaults"
            parts.append(
                page.table(f"Settings of {agent.name} that differ from {what}.", head, rows)
            )
        else:
            parts.append(page.paragraph(f"All settings are the defaults of {agent.name}."))
    parts += _parameters(about)
    for name, content in (("config", config), ("environment", about.get("environment"))):
        if content:
            rows = [(k, _value(v)) for k, v in content.items()]
            whole = page.table(f"The whole {name}.", ("name", "value"), rows)
            parts.append(page.folded(f"The whole {name}", whole))
    return parts


def _parameters(about: dict[str, Any]) -> list[str]:
    environment = about.get("environment") or {}
    name = environment.get("name")
    if name not in E.names():
        return []
    usual = E.to_dict(E.make(name))
    rows = [
        (k, _value(v), _value(usual.get(k))) for k, v in environment.items() if usual.get(k) != v
    ]
    if not rows:
        return [page.paragraph(f"{name} has its default parameters.")]
    caption = f"Parameters of {name} that differ from its defaults."
    return [page.table(caption, ("parameter", "here", "default"), rows)]


def _origin(about: dict[str, Any], name: str) -> list[str]:
    """The commands that give it again, and with what it was made."""
    parts = [page.heading(3, "How to reproduce it")]
    command = about.get("command")
    command = shlex.join(command) if command else commands.again(about, f"{name}-again")
    if command:
        parts.append(page.code(command))
        text = "On the same versions and devices the numbers are the same to the last digit."
        parts.append(page.paragraph(text, "faint"))
    else:
        text = "Its agent or environment has no name in jaxpg: the program that made it is needed."
        parts.append(page.paragraph(text))
    if made := about.get("made_with"):
        said = ", ".join(f"{part} {version}" for part, version in made.items())
        parts.append(page.paragraph(f"Made with {said}."))
    return parts


def _said(estimate: Estimate) -> str:
    value, low, high = estimate
    if np.isnan(value):
        return "-"
    return f"{value:.4g}" + ("" if np.isnan(low) else f" [{low:.4g}, {high:.4g}]")


def _solved(score: np.ndarray, threshold: float | None) -> str:
    if threshold is None:
        return "no threshold"
    return f"{int((score >= threshold).sum())} of {len(score)} (≥ {threshold:g})"


def _value(value: Any) -> str:
    return "-" if value is None else scores.text(value)


def _time(seconds: float) -> str:
    if np.isnan(seconds):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{minutes} min {seconds % 60:.0f} s" if hours < 1 else f"{hours} h {minutes % 60} min"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
