"""Section of a report on a sweep or a comparison."""

import itertools
from pathlib import Path

import numpy as np

from jaxpg.experiment import figures
from jaxpg.experiment.analysis import scores
from jaxpg.experiment.report import html, reproduce
from jaxpg.experiment.report.parts import (
    Section,
    format_duration,
    format_estimate,
    format_solved,
    join_names,
    origin_section,
    settings_tables,
)

BEST = 10  # configs in a sweep's table
PAIRS, DOSES = 3, 4  # fields of a sweep that are drawn, those that matter most


def sweep_section(sweep, title: str = "") -> Section:
    """Section of a sweep or a comparison. title: in the place of its folder's name."""
    about, kept = sweep.about, sweep.about["kind"] == "comparison"
    environments = about["environments"] if kept else {about["environment"]["name"]: ...}
    name = f"{about['kind']} {about.get('agent', '')} {', '.join(environments)}"
    if (folder := getattr(sweep, "folder", None)) is not None:
        name = Path(folder).resolve().name
    title = title or name
    cost = format_duration(about["seconds"])
    rows, begun = [], len(sweep.table) > 0
    for env, part in _by_env(sweep).items() if begun else ():
        done, limit = scores.final(part), scores.solved_threshold(part)
        groups = scores.group_configs(part, part.fields)
        ranked = [(done.runs(g.configs), g) for g in groups if {*g.configs} <= {*done.scores}]
        if not kept:
            ranked = sorted(ranked, key=lambda x: -_iqm(x[0]))[:1]
        for runs, group in ranked:
            point = dict(zip(part.fields, group.values, strict=True))
            best = ", ".join(f"{f} = {scores.text(v)}" for f, v in point.items())
            steps = part.table.loc[part.table["config"] == group.configs[0], "env_steps"].max()
            rows.append((
                title if kept else f"{title}, best of {len(groups)}: {best}",
                point["agent"] if kept else about["agent"], env, f"{int(steps):,}", runs.size,
                format_estimate(scores.estimate(runs)), format_solved(runs.ravel(), limit), cost,
            ))  # fmt: skip
    if not rows:
        envs = ", ".join(environments)
        rows = [(title, about.get("agent", "-"), envs, "0", about["seeds"], "-", "-", cost)]

    def draw() -> list[str]:
        count, programs = len(about["points"]), about["compilations"]
        lead = f"{count} config{'s'[: count != 1]} x {about['seeds']} seeds"
        lead += f" of {about['total_steps']:,} steps"
        lead += f", in {programs} compiled program{'s'[: programs != 1]}"
        if not begun:
            return [html.paragraph(lead + ". It has no rows yet.")]
        done = scores.final(sweep)
        if done.diverged:
            lead += f"; {done.diverged} runs diverged and count as the worst"
        drawn = (
            _comparison_figures(sweep)
            if kept
            else [*_sweep_figures(sweep, done), _best_table(sweep, done)]
        )
        return [
            html.paragraph(lead + "."),
            *drawn,
            *_settings_section(sweep),
            *origin_section(about, name),
        ]

    return Section(title, rows, draw)


def _by_env(sweep) -> dict:
    """Splits a sweep or comparison by environment."""
    if "env" in sweep.fields:
        return scores.split_by_env(sweep)
    about = sweep.about
    envs = (
        about["environments"] if about["kind"] == "comparison" else [about["environment"]["name"]]
    )
    return dict.fromkeys(envs, sweep)


def _settings_section(sweep) -> list[str]:
    """Section on settings: of a sweep, what its points change; of a comparison, those of every
    agent."""
    about, heading = sweep.about, html.heading(3, "Settings")
    if about["kind"] == "sweep":
        told, agent = (about["config"], about["environment"]), reproduce.find_agent(about)
        return [heading, *settings_tables(about["agent"], agent, *told, sweep.fields)]
    parts = [heading]
    for point in about["points"]:
        name, env = point["agent"], point["env"]
        told = about["configs"][name][env], about["environments"][env]
        own = settings_tables(name, reproduce.find_agent(about, name), *told)
        parts.append(html.folded(f"{name} on {env}", "\n".join(own)))
    return parts


def _iqm(runs: np.ndarray) -> float:
    value = scores.estimate(runs).value
    return -np.inf if np.isnan(value) else value


def _sweep_figures(sweep, done) -> list[str]:
    """Figures of a sweep: of the fields that matter most first. Where there are fewer configs than
    fields, no field has a figure: which of them made the difference nobody can tell."""
    fields = sorted(sweep.fields, key=lambda f: -_field_effect(sweep, done, f))
    drawn, few = [], len(done.scores) < len(fields)
    for x, y in [] if few else itertools.islice(itertools.combinations(fields, 2), PAIRS):
        drawn.append(html.picture(
            lambda width, x=x, y=y: figures.heat_map(sweep, x, y, width=width),
            f"The final score over {x} and {y}, as a map; the numbers are in the table below.",
            kind="map",
        ))  # fmt: skip
    for x in [] if few else fields[:DOSES]:
        drawn.append(html.picture(
            lambda width, x=x: figures.heat_map(sweep, x, width=width),
            f"The final score over {x}, with 95 % intervals and single runs.",
        ))  # fmt: skip
    if len(fields) > 1:
        names = join_names(fields)
        drawn.append(html.picture(
            lambda width: figures.parallel_coordinates(sweep, width),
            f"All configs as lines through the values of {names}, to their final score.",
            kind="map",
        ))  # fmt: skip
    drawn.append(html.picture(
        lambda width: figures.curves(sweep, width=width), "Learning curves of the best configs."
    ))  # fmt: skip
    if len(fields) > 1 and not few:
        drawn.append(html.picture(
            lambda width: figures.curves(sweep, fields[0], width),
            f"Learning curves by {fields[0]}.",
        ))  # fmt: skip
    return drawn


def _field_effect(sweep, done, field: str) -> float:
    """Difference of the IQM between the values of a field."""
    groups = [
        [c for c in g.configs if c in done.scores] for g in scores.group_configs(sweep, [field])
    ]
    values = [done.iqm(configs) for configs in groups if configs]
    return float(np.ptp(values)) if np.isfinite(values).all() and values else 0.0


def _best_table(sweep, done) -> str:
    rows = []
    for group in scores.group_configs(sweep, sweep.fields):
        for config in group.configs:
            if config in done.scores:
                lost = int(np.isnan(done.scores[config]).sum())
                estimate = scores.estimate(done.runs([config]))
                rows.append((config, *map(scores.text, group.values), estimate, lost))
    rows.sort(key=lambda row: -np.nan_to_num(row[-2].value, nan=-np.inf))
    head = "config", *sweep.fields, "IQM [95 % interval]", "diverged"
    caption = f"The best of {len(rows)} configs by the IQM of the {done.what}."
    best = [(*row[:-2], format_estimate(row[-2]), row[-1]) for row in rows[:BEST]]
    return html.table(caption, head, best, "records")


def _comparison_figures(sweep) -> list[str]:
    """Figures of a comparison."""
    drawn, parts = [], _by_env(sweep)
    for env, part in parts.items():
        where, name = f" on {env}", env if len(parts) > 1 else ""
        drawn.append(html.picture(
            lambda width, part=part: figures.curves(part, "agent", width),
            f"Learning curves by agent{where}.", name,
        ))  # fmt: skip
        drawn.append(html.picture(
            lambda width, part=part: figures.heat_map(part, "agent", width=width),
            f"Final scores by agent{where}, with 95 % intervals.", name,
        ))  # fmt: skip
        if (limit := scores.solved_threshold(part)) is not None:
            drawn.append(html.picture(
                lambda width, part=part, limit=limit: figures.efficiency(
                    _curves_by_agent(part), limit, width
                ),
                f"How many runs of each agent reach {limit:g}{where}, over the steps.", name,
            ))  # fmt: skip
    found, what = scores.scores_by_agent(sweep)
    found = {k: x for k, x in found.items() if np.isfinite(x).all()}
    if found:
        drawn.append(html.picture(
            lambda width: figures.profiles(found, what, width),
            "Performance profiles: the share of runs above each score, by agent.",
        ))  # fmt: skip
    if len(found) > 1 and all(x.shape[1] > 1 for x in found.values()):
        drawn.append(html.picture(
            lambda width: figures.improvement(found, width),
            "For each pair of agents the probability that a run of one beats one of the other.",
        ))  # fmt: skip
    return drawn


def _curves_by_agent(part) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    measured = scores.return_curves(part)
    return {
        group.values[0]: (
            measured.steps, np.concatenate([measured.returns[c] for c in group.configs])
        )
        for group in scores.group_configs(part, ["agent"])
    }  # fmt: skip
