"""How each trick cuts the variance of the policy gradient, measured on the same episodes.

python examples/variance_reduction.py [--episodes 1024] [--seed 0] [--out variance_reduction.png]

A policy is trained partway with PPO; its gradient is then estimated from one episode at a time
with the weights of each estimator. The return is undiscounted, so all estimators without an
asterisk expect the same gradient; critics are fitted to other episodes of the same policy.
"""

import argparse

import jax
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from rich.console import Console
from rich.table import Table

import jaxpg
from jaxpg.experiment import diagnostics
from jaxpg.experiment.text import format_count

STEPS, GAMMA = 5_000, 1.0  # of training; of the return whose gradient is estimated
CRITICS = {"good": 256, "rough": 8}  # how many episodes each is fitted to
LAMBDAS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
SWEEP = {name: [f"GAE {lam:g}, {name} critic" for lam in LAMBDAS] for name in CRITICS}
REFERENCE = "reward-to-go, value baseline"
BARS = {  # what is drawn: label -> estimator
    "total return": "total return",
    "reward-to-go": "reward-to-go",
    "+ mean baseline": "reward-to-go, mean baseline",
    "+ value baseline": REFERENCE,
    "20-step *": "20-step",
    "GAE 0.98 *": "GAE 0.98, good critic",
    "GAE 0.95 *": "GAE 0.95, good critic",
    "GAE 0.9 *": "GAE 0.9, good critic",
    "GAE 0.5 *": "GAE 0.5, good critic",
    "GAE 0 *": "GAE 0, good critic",
}
# Okabe and Ito's palette, which the colour-blind can tell apart too.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"


def measure(episodes: int, seed: int) -> tuple[dict[str, diagnostics.GradientStats], str]:
    """The statistics of every estimator, and a line on the policy that they are of."""
    agent, env = jaxpg.ppo, jaxpg.make("CartPole-v1")
    # Not the preset, which may change: the numbers on the page are of the policy that this makes.
    cfg = agent.Config(num_envs=8, num_steps=32, learning_rate=2e-3, gamma=0.98, clip_value=False)
    k_train, k_other, k_fit, k_batch = jax.random.split(jax.random.key(seed), 4)
    trained = jaxpg.run(agent, cfg, env, k_train, total_steps=STEPS)
    of = trained.cfg, env, trained.state

    other = diagnostics.collect(*of, k_other, max(CRITICS.values()))
    batch = diagnostics.collect(*of, k_batch, episodes)
    weights, explained = {}, {}
    for name, count in CRITICS.items():
        few = jax.tree.map(lambda x, count=count: x[:, :count], other)
        value = diagnostics.fit_value(cfg, env, few, k_fit, gamma=GAMMA)
        explained[name] = diagnostics.explained_variance(*of, batch, gamma=GAMMA, value=value)
        tables = diagnostics.gradient_estimators(
            *of, batch, gamma=GAMMA, value=value, n=(20,), lambdas=LAMBDAS
        )
        for n, w in tables.items():  # what is no GAE is drawn with the first critic
            weights.setdefault(f"{n}, {name} critic" if n.startswith("GAE") else n, w)
    stats = diagnostics.gradient_stats(*of, batch, weights, reference=REFERENCE)
    length = batch.mask.sum(0).mean()
    return {n: diagnostics.GradientStats(*map(float, s)) for n, s in stats.items()}, (
        f"PPO on CartPole-v1 after {trained.env_steps:,} steps, mean return {length:.0f}; "
        f"{episodes} episodes. Critics explain "
        + " and ".join(f"{x:.0%} ({name})" for name, x in explained.items())
        + " of the variance of returns."
    )


def table(stats: dict[str, diagnostics.GradientStats]) -> Table:
    out = Table(box=None)
    out.add_column("estimator", no_wrap=True)
    for column in ("variance", "times less", "SNR", "episodes\nfor SNR 1", "cosine"):
        out.add_column(column, justify="right")
    most = stats["total return"].variance
    for name, s in stats.items():
        needed = f"{1 / s.snr:.1f}" if s.snr > 0 else "-"
        numbers = format_count(s.variance), f"{most / s.variance:.1f}", f"{s.snr:.3f}", needed
        out.add_row(name, *numbers, f"{s.cosine:.3f}")
    return out


def draw(stats: dict[str, diagnostics.GradientStats], path: str) -> None:
    figure = Figure(figsize=(10, 4.6), dpi=120, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    bars, (top, bottom) = left.subplots(), right.subplots(2, 1, sharex=True)

    variances = [stats[name].variance for name in BARS.values()]
    colours = [ORANGE if label.endswith("*") else BLUE for label in BARS]
    bars.barh(list(BARS), variances, color=colours, height=0.7)
    for row, variance in enumerate(variances):
        less = f"  {variances[0] / variance:.1f} times less" if row else ""
        bars.text(
            variance * 1.08, row, f"{format_count(variance)}{less}", va="center", fontsize=8.5
        )
    bars.set_xscale("log")
    bars.xaxis.set_major_formatter(lambda x, _: format_count(x))
    bars.set_xlim(min(variances) / 2, max(variances) * 4)
    bars.invert_yaxis()
    bars.set_xlabel("variance of the estimate from one episode")
    bars.set_title("What each trick saves (* at the price of a bias)", fontsize=10.5, loc="left")

    for (name, column), colour in zip(SWEEP.items(), (GREEN, PINK), strict=True):
        label = f"{name} critic ({CRITICS[name]} episodes)"
        top.plot([stats[n].variance for n in column], "o-", color=colour, label=label, ms=4)
        bias = [1 - stats[n].cosine for n in column]
        bottom.plot(bias, "o-", color=colour, ms=4)
    top.set_yscale("log")
    top.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    for ticks in (top.yaxis.set_major_formatter, top.yaxis.set_minor_formatter):
        ticks(lambda x, _: format_count(x))
    top.set_ylabel("variance")
    top.set_title("GAE: variance against bias", fontsize=10.5, loc="left")
    top.legend(frameon=False, fontsize=8.5)
    bottom.axhline(0, color=GREY, linewidth=0.8)
    bottom.set_ylabel("1 - cosine")
    bottom.set_xlabel("lambda")
    bottom.set_xticks(range(len(LAMBDAS)), [f"{lam:g}" for lam in LAMBDAS])
    for axes in (bars, top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6, axis="x" if axes is bars else "y")
        axes.set_axisbelow(True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="variance_reduction.png")
    args = parser.parse_args()
    stats, note = measure(args.episodes, args.seed)
    draw(stats, args.out)
    console = Console()
    console.print(table(stats))
    console.print(note, f"Drawn into {args.out}.", highlight=False)


if __name__ == "__main__":
    main()
