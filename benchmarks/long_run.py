"""A run of a million iterations: its bytes on disk, its memory as it goes on, and its curve.

python benchmarks/long_run.py [--iterations 1000000] [--seeds 8] [--steps 4]

Q-learning on the cliff, one environment, so that an iteration costs next to nothing; of each of the
iterations there are `steps` environment steps. Three fresh processes:

    run     writes a folder, as `jaxpg.run(..., out=...)` does by default: a row a seed is a block
            of iterations. Bytes by file, and the resident size at every tenth of the run
    full    the same run without a folder and with log_every=1: all rows, in memory
    curves  the learning curves of both, as jaxpg draws them, on the same axes: the largest distance
            of the two lines in pixels, of the mean and of single seeds. And the distance of the
            folder's curve from the moving mean of all rows as they are, taken at its points: a
            window of 20 episodes is about a row there, and what differs is the noise of 20 episodes

The block means of the folder are compared with NumPy's of all rows. Writes benchmarks/long_run.json
and exits with 1 if a bar is missed: 100 MB, 16 MB of growth from three tenths on (before
that are the first evaluation and the first checkpoint, and what they import), one pixel.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import own, peak_memory, save, table, worker

TIMEOUT, TENTHS = 3600, 10
MOST_BYTES, MOST_GROWTH, MOST_PIXELS = 100e6, 16.0, 1.0  # bytes, MB, pixels
NAMES = ("episode/return", "episode/count")


def arguments(args: argparse.Namespace) -> tuple:
    """What both runs are: agent, config, environment, keys; and their steps."""
    import jax

    import jaxpg

    cfg = jaxpg.q_learning.Config(num_envs=1, num_steps=args.steps)
    keys = jax.random.split(jax.random.key(0), args.seeds)
    run = jaxpg.q_learning, cfg, jaxpg.make("Cliff-jaxpg"), keys
    return run, {"total_steps": args.iterations * args.steps}


def run(args: argparse.Namespace) -> dict:
    """One process: trains with a folder."""
    import psutil

    import jaxpg

    this, sizes = psutil.Process(), []

    def weigh(event: jaxpg.Event) -> None:
        if event.iteration * TENTHS // event.num_iters > len(sizes):
            sizes.append(this.memory_info().rss / 2**20)

    positional, named = arguments(args)
    out, begun = Path(args.folder, "run"), time.perf_counter()
    watch = [jaxpg.Callback(on_metrics=weigh)]
    result = jaxpg.run(*positional, **named, out=out, callbacks=watch)
    files = {path.name: path.stat().st_size for path in out.iterdir() if path.is_file()}
    files["checkpoints"] = sum(p.stat().st_size for p in (out / "checkpoints").rglob("*"))
    return {
        "bytes": files, "MB at tenths": sizes, "peak MB": peak_memory(),
        "seconds": time.perf_counter() - begun, "of that training": result.seconds,
        "log_every": result.log_every, "rows a seed": len(result.iterations),
        "MB of metrics": sum(x.nbytes for x in result.metrics.values()) / 2**20,
    }  # fmt: skip


def full(args: argparse.Namespace) -> dict:
    """One process: trains without a folder, and saves all rows of what the curve needs."""
    import jaxpg

    positional, named = arguments(args)
    result = jaxpg.run(*positional, **named, log_every=1)
    np.savez(
        Path(args.folder, "full.npz"), **{n.replace("/", "-"): result.metrics[n] for n in NAMES}
    )
    return {"seconds": result.seconds, "peak MB": peak_memory()}


def curves(args: argparse.Namespace) -> dict:
    """One process: draws both, and compares."""
    from jaxpg.experiment.figures.measured import read_run, to_blocks

    folder = read_run(Path(args.folder, "run"))
    saved = np.load(Path(args.folder, "full.npz"))
    every = {name: saved[name.replace("/", "-")].astype(float) for name in NAMES}
    steps = (np.arange(args.iterations) + 1) * args.steps
    few = folder._replace(**dict(zip(("steps", "metrics"), to_blocks(steps, every), strict=True)))
    wide = int(5 * every["episode/count"].sum() / args.seeds / len(folder.steps))  # five blocks
    return {
        "pixels between the curves": between_curves(folder, few),
        "pixels to all rows as they are": {
            f"a window of {n} episodes": to_all_rows(folder, every, n, args) for n in (20, wide)
        },
        "largest difference of a block": block_difference(folder, every),
    }


def between_curves(one, other) -> dict[str, Any]:
    """The largest vertical distance of the curves of two runs, in pixels of equal axes, at the
    points of the first; and the pixels of the two pictures that differ."""
    from jaxpg.experiment.figures.learning_curve import curves

    figures = [curves([run]) for run in (one, other)]
    limits = np.array([figure.axes[0].get_ylim() for figure in figures])
    for figure in figures:
        figure.axes[0].set_ylim(limits[:, 0].min(), limits[:, 1].max())
        figure.canvas.draw()
    pictures = [np.asarray(figure.canvas.buffer_rgba()) for figure in figures]
    to_pixels = figures[0].axes[0].transData.transform
    apart = {"mean": 0.0, "seeds": 0.0}
    lines = zip(*(figure.axes[0].get_lines() for figure in figures), strict=True)
    for i, pair in enumerate(lines):
        (x, y), (x_other, y_other) = (to_pixels(line.get_xydata()).T for line in pair)
        if len(x) > 20:  # and not the points of evaluations
            name = "seeds" if i else "mean"
            found = np.abs(y - np.interp(x, x_other, y_other)).max()
            apart[name] = max(apart[name], float(found))
    differ = int((pictures[0] != pictures[1]).any(-1).sum())
    return {**apart, "pixels that differ": differ, "of": pictures[0][..., 0].size}


def to_all_rows(folder, every: dict[str, np.ndarray], window: int, args) -> dict[str, float]:
    """The largest distance, in pixels, between the curve of the folder at its points and the moving
    mean of all rows at the same steps."""
    from jaxpg.experiment.analysis.series import moving_mean
    from jaxpg.experiment.figures.learning_curve import curves

    figure = curves([folder], window)
    figure.canvas.draw()
    axes = figure.axes[0]
    x, y = axes.get_lines()[0].get_xydata().T
    seeds = np.array([x.get_ydata() for x in axes.get_lines() if len(x.get_xdata()) > 20][1:])
    exact = moving_mean(*every.values(), window)[:, (x / args.steps).astype(int) - 1]
    unit = axes.transData.transform([(0, 1)]) - axes.transData.transform([(0, 0)])
    apart = {"mean": y - exact.mean(0), "seeds": seeds - exact if len(seeds) else y - exact[0]}
    return {
        f"{name}, {how}": float(of(np.abs(difference)) * unit[0, 1])
        for name, difference in apart.items()
        for how, of in {"median": np.median, "largest": np.max}.items()
    }


def block_difference(folder, every: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference between the rows of the folder and NumPy's means of all rows."""
    count, total = every["episode/count"], np.nan_to_num(every["episode/return"])
    length = -(-count.shape[1] // len(folder.steps))
    starts = np.arange(0, count.shape[1], length)
    counts = np.add.reduceat(count, starts, 1)
    with np.errstate(invalid="ignore"):
        means = np.add.reduceat(total * count, starts, 1) / counts
    away = np.abs(folder.metric("episode/return") - means)
    return {
        "episode/count": float(np.abs(folder.metric("episode/count") - counts).max()),
        "episode/return, relative": float(np.nanmax(away / np.abs(means))),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--work", choices=("run", "full", "curves"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    works = {"run": run, "full": full, "curves": curves}
    if args.work:
        print(json.dumps(works[args.work](args)))
        return 0
    asked = ("--iterations", args.iterations, "--seeds", args.seeds, "--steps", args.steps)
    with tempfile.TemporaryDirectory() as folder:
        command = lambda work: own("long_run.py", *asked, "--work", work, "--folder", folder)  # noqa: E731
        found = {work: worker(command(work), TIMEOUT) for work in works}
    sizes, pixels = found["run"]["MB at tenths"], found["curves"]["pixels between the curves"]
    bars = [
        ("MB on disk", sum(found["run"]["bytes"].values()) / 1e6, MOST_BYTES / 1e6),
        ("MB more at the end than at three tenths", sizes[-1] - sizes[2], MOST_GROWTH),
        ("pixels between the curves of means", pixels["mean"], MOST_PIXELS),
        ("pixels between the curves of seeds", pixels["seeds"], MOST_PIXELS),
    ]
    table(f"{args.iterations:,} iterations, {args.seeds} seeds", ("what", "measured", "bar"), [
        (what, f"{x:.2f}", f"< {bar:g}") for what, x, bar in bars
    ])  # fmt: skip
    print("MB at tenths of the run:", ", ".join(f"{x:.0f}" for x in sizes))
    print(json.dumps(found["curves"], indent=1))
    save(__file__, {"asked": vars(args), **found})
    return int(not all(x < bar for _, x, bar in bars))


if __name__ == "__main__":
    sys.exit(main())
