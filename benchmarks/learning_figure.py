"""Draws the table of results: a panel an environment, a curve an agent.

python benchmarks/learning_figure.py [--out docs/figures/results.png]
"""

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import learning_rows
from PIL import Image

from jaxpg.core.checks import require_file
from jaxpg.experiment.figures import style
from jaxpg.experiment.text import format_count

OUT = learning_rows.HERE.parent / "docs" / "figures" / "results.png"
COLUMNS, WIDTH, HEIGHT = 5, 8.4, 1.15  # of a row, in inches


def draw(measured: Mapping[str, Any]):
    """Draws the mean return over environment steps of every row with evaluations on the way: a
    curve each; dots are references, the grey lines the bound (dashed) and random actions."""
    found: dict[str, list[learning_rows.Row]] = {}
    for row in learning_rows.all_rows().values():
        if measured["rows"].get(row.name, {}).get("curve"):
            found.setdefault(row.env, []).append(row)
    rows = max(1, math.ceil(len(found) / COLUMNS))
    figure = style.new_figure(WIDTH, HEIGHT * rows + 0.5)
    drawn = {row.agent for own in found.values() for row in own}
    first = list(learning_rows.tables()["agents"])  # solid lines, for they are everywhere
    agents = [*(x for x in first if x in drawn), *sorted(drawn - set(first))]
    looks = {
        x: {"color": style.colour(i), "linestyle": style.dash(i)} for i, x in enumerate(agents)
    }
    handles: dict[str, Any] = {}
    for i, (env, own) in enumerate(found.items()):
        axes = figure.add_subplot(rows, COLUMNS, i + 1)
        _draw_environment(axes, env, own, measured, looks, handles)
    if found:
        lines = [handles[x] for x in agents]
        place = {"loc": "outside lower center", "ncols": 8}
        figure.legend(handles=lines, frameon=False, fontsize=6, **place)
    return figure


def save(figure, path: Path) -> None:
    """Writes a figure as PNG with 256 colours, which is a third of the bytes."""
    style.save(figure, path)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256)
    small.save(path, optimize=True)


def _draw_environment(
    axes, env: str, rows: list[learning_rows.Row], measured: Mapping[str, Any], looks: dict,
    handles: dict[str, Any],
) -> None:  # fmt: skip
    """Draws a panel. handles: a line for each agent, of the legend; gets those that are new."""
    style.tidy(axes)
    for row in rows:
        curve, look = measured["rows"][row.name]["curve"], looks[row.agent]
        values = [math.nan if x is None else x for x in curve["returns"]]
        (line,) = axes.plot(curve["env_steps"], values, linewidth=1.0, label=row.agent, **look)
        handles.setdefault(row.agent, line)
        if aims := learning_rows.references(row):
            steps = aims[0].env_steps or curve["env_steps"][-1]
            axes.plot([steps], [aims[0].value], "o", color=look["color"], markersize=2.5)
    if bound := learning_rows.find_bound(env):
        axes.axhline(bound[0], color=style.GREY, linewidth=0.8, linestyle="--")
    bottom, top = axes.get_ylim()
    chance = measured["random"].get(env)
    if chance is not None and bottom - chance < top - bottom:  # else it would crush the curves
        axes.axhline(chance, color=style.GREY, linewidth=0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda x, _: format_count(x))
    axes.xaxis.set_minor_formatter(lambda x, _: "")
    axes.locator_params(axis="y", nbins=3)
    axes.tick_params(labelsize=5, pad=1, length=2)
    axes.set_title(env, fontsize=5.5, loc="left", pad=2)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    try:
        require_file("--out", args.out, ".png")
        measured = learning_rows.load()
    except ValueError as error:
        parser.error(str(error))
    figure = draw(measured)
    save(figure, args.out)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
