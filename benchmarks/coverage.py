"""How often a 95 % interval holds the truth: every method, few runs, friendly and skewed scores.

python benchmarks/coverage.py [--samples 1000] [--resamples 2000] [--figure FILE]

Draws many samples of a few runs from a distribution whose statistic is known from 400,000 runs a
task, and counts the intervals that hold it. Prints Markdown tables, in percent, of the IQM by each
method and of the other statistics by the default, and writes benchmarks/coverage.json.
BCa, which jaxpg does not offer, is scipy's, for one task.
"""

import argparse
import itertools
import json
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import stats

from jaxpg.experiment.analysis import statistics as S

RUNS = (3, 4, 5, 8, 10, 20)
SCORES = {  # (rng, shape) -> scores
    "normal": lambda rng, shape: rng.normal(size=shape),
    "lognormal": lambda rng, shape: rng.lognormal(sigma=1.0, size=shape),  # skewness 6.2
    # 70 % of the runs solve it, the others stay at the bottom.
    "two groups": lambda rng, shape: rng.normal(rng.random(shape) < 0.7, 0.1),
}
TASKS = {"1": np.zeros((1, 1)), "5 alike": np.zeros((5, 1)), "5 apart": 4.0 * np.arange(5)[:, None]}
STATISTICS = {"mean": S.mean, "median": S.median, "optimality gap": S.optimality_gap}
METHODS = ("percentile", "expanded", "t")


def samples(name: str, tasks: str, runs: int, count: int, seed: int) -> np.ndarray:
    """[count, tasks, runs]"""
    levels = TASKS[tasks]
    return levels + SCORES[name](np.random.default_rng(seed), (count, len(levels), runs))


def truth(statistic, name: str, tasks: str) -> float:
    return float(statistic(samples(name, tasks, 400_000, 1, seed=1)[0]))


def holds(low, high, true: float) -> float:
    """The share of intervals that hold the true value."""
    return float(np.mean((low <= true) & (true <= high)))


def intervals(statistic, *several, **options) -> tuple:
    """What `S.interval` gives for each sample, of arrays [count, tasks, runs]: two arrays [count].

    With one seed all samples are resampled by the same draws. So it is the places of the runs that
    are drawn, once, and the statistic looks them up in many samples.
    """
    rows = np.arange(several[0].shape[1])[:, None]
    places = [np.tile(np.arange(x.shape[2]), (x.shape[1], 1)) for x in several]
    parts = []
    for begin in range(0, len(several[0]), 100):
        some = [x[begin : begin + 100] for x in several]

        def of_all(*index, some=some):
            again = (x[:, rows, i.astype(int)] for x, i in zip(some, index, strict=True))
            return np.moveaxis(statistic(*again), 0, -1)

        parts.append(S.interval(of_all, *places, **options))
    return tuple(np.concatenate(ends) for ends in zip(*parts, strict=True))


def bca(several: np.ndarray, resamples: int) -> tuple:
    """Of one task."""
    middle = lambda x, axis: stats.trim_mean(x, 0.25, axis=axis)  # noqa: E731
    options = {"n_resamples": resamples, "batch": 100, "method": "BCa", "axis": -1}
    rng = np.random.default_rng(0)
    return stats.bootstrap((several[:, 0],), middle, **options, rng=rng).confidence_interval


def of_the_iqm(count: int, resamples: int):
    """Rows of (scores, tasks, runs, {method: coverage})."""
    for tasks, name in itertools.product(TASKS, SCORES):
        true = truth(S.iqm, name, tasks)
        for runs in RUNS:
            several, row = samples(name, tasks, runs, count, seed=2), {}
            for method in METHODS:
                ends = intervals(S.iqm, several, resamples=resamples, method=method)
                row[method] = holds(*ends, true)
            if tasks == "1":
                with warnings.catch_warnings(action="ignore"):  # of samples with equal resamples
                    row["BCa"] = holds(*bca(several[: count // 2], resamples), true)
            yield name, tasks, runs, row


def of_the_others(count: int, resamples: int):
    """Rows of (scores, tasks, runs, {statistic: coverage}), by the default method."""
    for tasks, name in itertools.product(TASKS, SCORES):
        for runs in (5, 10):
            several, row = samples(name, tasks, runs, count, seed=2), {}
            for label, statistic in STATISTICS.items():
                ends = intervals(statistic, several, resamples=resamples)
                row[label] = holds(*ends, truth(statistic, name, tasks))
            ahead, others = several + 0.5, samples(name, tasks, runs, count, seed=3)
            ends = intervals(better, ahead, others, resamples=resamples)
            big = (samples(name, tasks, 3000, 1, seed)[0] for seed in (4, 5))
            row["P(X > Y)"] = holds(
                *ends, better(*(x + d for x, d in zip(big, (0.5, 0), strict=True)))
            )
            if tasks == "1":
                true = np.median(samples(name, tasks, 400_000, 1, seed=1))
                of = [S.sample_efficiency(x[0], resamples=resamples)[0] for x in several[:500]]
                row["median of steps"] = holds(*np.transpose(of)[1:], true)
            yield name, tasks, runs, row


def better(x, y):
    """P(X > Y) of scores without ties."""
    return (x[..., :, None] > y[..., None, :]).mean((-3, -2, -1))


def show(rows: list, columns: tuple) -> None:
    """A Markdown table with a line per distribution and set of tasks."""
    lines = {}
    for name, tasks, runs, row in rows:
        cells = (f"{100 * row[c]:.1f}" for c in columns if c in row)
        lines.setdefault((name, tasks), {})[runs] = " / ".join(cells)
    runs = list(next(iter(lines.values())))
    print(" / ".join(columns), end="\n\n")
    print("| scores | tasks |", *(f"{n} runs |" for n in runs))
    print("|---" * (2 + len(runs)) + "|")
    for case, cells in lines.items():
        print("| " + " | ".join([*case, *cells.values()]) + " |")
    print()


def draw(rows: list, path: str) -> None:
    """The coverage of the IQM's intervals against the number of runs, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.2), dpi=120, layout="constrained")
    panels = figure.subplots(2, len(SCORES), sharex=True, sharey=True)
    colours = dict(
        zip((*METHODS, "BCa"), ("#D55E00", "#0072B2", "#009E73", "#CC79A7"), strict=True)
    )
    for (tasks, name), axes in zip(
        itertools.product(("1", "5 apart"), SCORES), panels.flat, strict=True
    ):
        axes.axhspan(92, 98, color="#000000", alpha=0.08, linewidth=0)
        of = [(runs, row) for which, number, runs, row in rows if (which, number) == (name, tasks)]
        for method, colour in colours.items():
            points = [(runs, 100 * row[method]) for runs, row in of if method in row]
            if points:
                axes.plot(
                    *zip(*points, strict=True), "o-", color=colour, label=method, markersize=4
                )
        axes.set_title(f"{name}, {'one task' if tasks == '1' else 'five tasks apart'}", fontsize=10)
        axes.set_xscale("log")
        axes.set_xticks(RUNS, map(str, RUNS))
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[1]:
        axes.set_xlabel("runs per task")
    for axes in panels[:, 0]:
        axes.set_ylabel("intervals that hold, %")
    panels[0, 0].legend(frameon=False, fontsize=9, loc="lower right")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--figure", help="draw a PNG too")
    args = parser.parse_args()
    results = {"samples": args.samples, "resamples": args.resamples}
    results |= {"versions": {p: version(p) for p in ("numpy", "scipy")}}
    for rows, columns in (
        (of_the_iqm, (*METHODS, "BCa")),
        (of_the_others, (*STATISTICS, "P(X > Y)", "median of steps")),
    ):
        results[rows.__name__] = list(rows(args.samples, args.resamples))
        show(results[rows.__name__], columns)
    Path(__file__).with_name("coverage.json").write_text(json.dumps(results) + "\n")
    if args.figure:
        draw(results["of_the_iqm"], args.figure)


if __name__ == "__main__":
    main()
