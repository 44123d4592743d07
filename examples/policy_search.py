"""Seven black-box searches on one problem: how fast they learn, and which way they went.

python examples/policy_search.py [--seeds 5] [--out policy_search.png]

A linear policy on CartPole-v1, greedy. On the left the return of the policy that each search would
act by, against the environment steps that its candidates lived. On the right a slice through the
return as a function of the parameters, with the first seed's paths. Scaling all weights of a greedy
linear policy does not change it, so the slice goes through the origin and consists of sectors,
and each path is drawn in units of its own longest reach. Prints what each search reached.
"""

import argparse

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import jaxpg
from jaxpg.experiment.analysis.series import pointwise_interval
from jaxpg.experiment.figures.style import COLOURS
from jaxpg.loops import population

SEARCHES = {  # name -> (iterations, fields)
    "hill_climbing": (300, {}),
    "steepest_ascent": (20, {}),
    "simulated_annealing": (300, {}),
    "adaptive_noise": (300, {}),
    "cem": (30, {}),
    "es": (30, {"hidden": (), "learning_rate": 0.1}),
    "ars": (30, {"normalize_obs": False}),
}
ENV = "CartPole-v1"
POINTS = 31  # of a path at which its policy is measured
JUDGE = jaxpg.cem.Config(episodes=32, slice_size=64)  # how it is measured


def path(name: str, keys):
    """Parameters before every iteration [seeds, iterations, D], and the steps until then."""
    agent, env = jaxpg.agents.get(name), jaxpg.make(ENV)
    iterations, fields = SEARCHES[name]
    cfg = agent.Config(**fields)
    cfg = jaxpg.core.train.with_horizon(cfg, iterations * agent.steps_per_iter(cfg))

    def one(key):
        def body(state, _):
            new, metrics = agent.step(cfg, env, state)
            acts = state.best if hasattr(state, "best") else state.params
            return new, (acts, metrics["population/env_steps"])

        return jax.lax.scan(
            body, jaxpg.core.train.initial_state(agent, cfg, env, key), None, iterations
        )[1]

    params, lived = jax.jit(jax.vmap(one))(keys)
    return np.asarray(params), np.cumsum(lived, -1) - np.asarray(lived)


@jax.jit
def returns(params, key):
    """The mean return of parameters [N, D], all on the same episodes. [N]"""
    return population.fitness(JUDGE, jaxpg.make(ENV), params, (), key)[0]


def plane(ends, points):
    """Two orthonormal directions [2, D]: to where the searches ended, and the one along which
    their paths differ most from it."""
    first = ends.mean(0) / np.linalg.norm(ends.mean(0))
    rest = points - np.outer(points @ first, first)
    return np.stack([first, np.linalg.svd(rest, full_matrices=False)[2][0]])


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", default="policy_search.png")
    args = parser.parse_args()
    keys, k_judge = jax.random.split(jax.random.key(0), args.seeds), jax.random.key(1)
    figure = Figure(figsize=(11, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    curve, map_ = figure.subplots(1, 2)
    table = Table("search", "candidates' steps", "return", "worst seed")

    # Learning curves.
    paths, grid = {}, np.geomspace(1e3, 4e6, 200)
    for name, colour in zip(SEARCHES, COLOURS, strict=True):
        params, lived = path(name, keys)
        at = np.unique(np.linspace(0, params.shape[1] - 1, POINTS).astype(int))
        measured = returns(params[:, at].reshape(-1, params.shape[-1]), k_judge)
        measured = np.asarray(measured).reshape(args.seeds, -1)
        shown = grid[grid <= lived[:, -1].max()]
        seen = np.stack([
            y[np.searchsorted(x[at], shown, side="right") - 1]
            for x, y in zip(lived, measured, strict=True)
        ])  # fmt: skip
        curve.plot(shown, seen.mean(0), color=colour, linewidth=2, label=name)
        curve.fill_between(shown, *pointwise_interval(seen), color=colour, alpha=0.08, linewidth=0)
        paths[name] = params[0] / np.linalg.norm(params[0], axis=-1).max()
        table.add_row(
            name, f"{lived[:, -1].mean():,.0f}", f"{measured[:, -1].mean():.0f}",
            f"{measured[:, -1].min():.0f}",
        )  # fmt: skip

    # The slice, and the paths on it.
    unit = [p[-1] / np.linalg.norm(p[-1]) for p in paths.values()]
    axes = plane(np.stack(unit), np.concatenate(list(paths.values())))
    east, north = np.linspace(-0.6, 1.2, 56), np.linspace(-0.9, 0.9, 56)
    spots = np.stack(np.meshgrid(east, north), -1).reshape(-1, 2)
    surface = np.asarray(returns(spots @ axes, k_judge)).reshape(56, 56)
    shade = map_.pcolormesh(
        east, north, surface, cmap="Greys_r", vmin=0, vmax=500, shading="nearest"
    )
    for (name, walk), colour in zip(paths.items(), COLOURS, strict=True):
        x, y = (walk @ axes.T).T
        map_.plot(x, y, color="white", linewidth=3.2, solid_capstyle="round")
        map_.plot(x, y, color=colour, linewidth=1.8, label=name)
        map_.plot(x[-1], y[-1], "o", color=colour, markersize=9, markeredgecolor="white")
    figure.colorbar(shade, ax=map_, label="return")
    map_.set(xlabel="towards where the searches end", ylabel="where their paths differ most")
    map_.set(title="a slice of the return, and the paths", aspect="equal")

    curve.set(xscale="log", xlabel="environment steps lived by candidates", ylabel="return")
    curve.set(title=f"{ENV}, linear policy, mean of {args.seeds} seeds", ylim=(0, 515))
    curve.grid(alpha=0.25, linewidth=0.6)
    curve.spines[["top", "right"]].set_visible(False)
    handles, labels = curve.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False)
    figure.savefig(args.out)
    Console().print(table)
    print(f"drawn into {args.out}")


if __name__ == "__main__":
    main()
