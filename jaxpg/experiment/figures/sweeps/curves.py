"""Learning curves of a sweep: by config, or by the values of a field.

A sweep is anything with `about`, `fields`, `table`, `evaluations` and `scores`, see
`experiment/sweeps/tables.py`. Figures are matplotlib's, `width` inches wide.
"""

import numpy as np

from jaxpg.experiment.analysis import scores
from jaxpg.experiment.analysis.scores import text
from jaxpg.experiment.figures import style
from jaxpg.experiment.figures.sweeps.maps import note_diverged

MOST = 7  # curves: as many as there are colours
LONGEST = 48  # letters of a label that stand in a legend of two columns


def curves(sweep, by: str | None = None, width: float = style.WIDE):
    """Draws learning curves: at each point the IQM over runs, and its 95 % interval.

    by: a field, whose values share a curve; the other fields are then strata of the bootstrap.
    None: a curve for each config, of at most seven, the best by their final IQM. Where the values
    of a config are too many for the legend, it has the number of the config in the tables.
    """
    groups = scores.group_configs(sweep, sweep.fields if by is None else [by])
    done, data = scores.final(sweep), scores.return_curves(sweep)
    notes = ["mean of the last 20 episodes; IQM of the runs and its 95 % interval"]
    if len(groups) > MOST:
        rank = {g.values: done.iqm([c for c in g.configs if c in done.scores])
                for g in groups if any(c in done.scores for c in g.configs)}  # fmt: skip
        best = sorted(rank, key=lambda values: rank[values])[-MOST:]
        notes.append(f"the best {MOST} of {len(groups)}")
        groups = [g for g in groups if g.values in best]
    figure, (axes,) = style.new_panels(1, width, 3.6)
    fields = sweep.fields if by is None else [by]
    drawn = 0
    for group in groups:
        fewest = min(len(data.returns[c]) for c in group.configs)
        runs = np.stack([data.returns[c][:fewest] for c in group.configs])  # [tasks, runs, points]
        begun = np.flatnonzero(~np.isnan(runs).any((0, 1)))
        if not len(begun):
            continue
        estimates = [scores.estimate(runs[..., i]) for i in begun]
        value, low, high = (np.array(x) for x in zip(*estimates, strict=True))
        label = _curve_label(fields, group, runs.shape[:2])
        colour, dash = style.colour(drawn), style.dash(drawn)
        axes.plot(
            data.steps[begun], value, color=colour, linestyle=dash, linewidth=1.8, label=label
        )
        axes.fill_between(data.steps[begun], low, high, color=colour, alpha=0.18, linewidth=0)
        drawn += 1
    if not drawn:
        style.write_empty(axes, "No episode has ended yet.")
        return figure
    if (threshold := scores.solved_threshold(sweep)) is not None:
        axes.axhline(
            threshold, color=style.GREY, linestyle="--", linewidth=1, label=f"solved: {threshold:g}"
        )
    title = "Learning curves" if by is None else f"Learning curves by {by}"
    style.set_title(axes, title, *notes, *note_diverged(done))
    axes.set_ylabel("return")
    style.set_steps_axis(axes, data.steps[-1])
    style.legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def _curve_label(fields, group: scores.Group, runs: tuple[int, int]) -> str:
    own = [text(v) if f in ("agent", "env") else f"{f} = {text(v)}"
           for f, v in zip(fields, group.values, strict=True)]  # fmt: skip
    label = ", ".join(own)
    if len(label) > LONGEST and len(fields) > 1:
        label = f"config {', '.join(map(str, group.configs))}"
    return f"{label}  ({runs[0] * runs[1]} runs)"
