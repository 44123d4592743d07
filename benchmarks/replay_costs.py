"""Measures what a limit on costs does to agents that learn from a replay buffer; writes
benchmarks/replay_costs.json and the figure of docs/costs.md.

python benchmarks/replay_costs.py [--run] [WORD ...] [--seeds 3]

Words choose rows by their agent, environment or limit, and of several a row has all. Without
`--run` nothing is measured; the table is printed and the figure drawn of the rows that are there.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxpg
from jaxpg.agents import get
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.experiment.analysis.costs import cost_regret

PATH = Path(__file__).with_suffix(".json")
TENTHS = 10
CART, POINT = "CartPoleCost-jaxpg", "PointHazards-jaxpg"
SETTINGS: dict[str, dict[str, Any]] = {
    "sac_discrete": {
        "learning_rate": 1e-3, "critic_learning_rate": 1e-3, "target_entropy_ratio": 0.3,
    },
    "sac": {"num_envs": 8, "updates_per_step": 0.25, "batch_size": 128},
}  # fmt: skip


class Row(NamedTuple):
    agent: str
    env: str
    limit: float | None
    total_steps: int
    gain: float = 0.005  # of the multiplier for the sum of violations

    @property
    def name(self) -> str:
        limit = "none" if self.limit is None else f"{self.limit:g}"
        return f"{self.agent}/{self.env}/{limit}/{self.gain:g}"


ROWS = [
    *(Row("sac_discrete", CART, limit, 60_000) for limit in (None, 20.0)),
    Row("sac_discrete", CART, 20.0, 60_000, 0.05),
    *(Row("sac", POINT, limit, 60_000) for limit in (None, 5.0, 2.0)),
    Row("sac", POINT, 2.0, 60_000, 0.05),
]


def measure(row: Row, seeds: int) -> dict[str, Any]:
    """Return, cost and multiplier [seeds][TENTHS] of the parts of a run, and its regret [seeds]."""
    use_fast_random()
    agent, env = get(row.agent), jaxpg.make(row.env)
    cfg = agent.Config(cost_limit=row.limit, multiplier_i=row.gain, **SETTINGS[row.agent])
    train = jax.jit(jax.vmap(lambda key: jaxpg.train(agent, cfg, env, key, row.total_steps)[1]))
    begun = time.process_time()
    metrics = jax.tree.map(np.asarray, train(jax.random.split(jax.random.key(0), seeds)))
    count = metrics["episode/count"]
    parts = np.array_split(np.arange(count.shape[1]), TENTHS)

    def means(name: str) -> list[list[float]]:
        terms = np.where(count > 0, metrics[name], 0) * count
        each = [terms[:, x].sum(1) / np.maximum(count[:, x].sum(1), 1) for x in parts]
        return np.stack(each, 1).round(3).tolist()

    found = {"env_steps": row.total_steps, "return": means("episode/return")}
    found["cost"] = means("episode/cost")
    if row.limit is not None:
        ends = [x[-1] for x in parts]
        found["multiplier"] = metrics["cost/multiplier"][:, ends].astype(float).round(3).tolist()
        found["regret"] = cost_regret(metrics, row.limit).round().tolist()
        found["episodes"] = count.sum(1).tolist()
    return found | {"cpu_seconds": round(time.process_time() - begun)}


def show(rows: dict[str, Any]) -> None:
    """Prints the table: of the last tenth, each seed by itself."""
    print(
        "| agent | environment | limit | steps | return | cost | multiplier | regret an episode |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, x in rows.items():
        last = {k: [one[-1] for one in x.get(k, [])] for k in ("return", "cost", "multiplier")}
        regret = np.array(x.get("regret", [])) / np.array(x.get("episodes", []))
        cells = [", ".join(f"{v:.3g}" for v in last[k]) or "-" for k in last]
        cells.append(", ".join(f"{v:.2g}" for v in regret) or "-")
        print(f"| {' | '.join([*name.split('/'), *cells])} |")


def draw(rows: dict[str, Any]) -> None:
    """Draws return and cost of SAC over the tenths of a run, at each limit and gain."""
    from jaxpg.experiment.figures import style

    figure, panels = style.new_panels(2, height=3.2)
    shown = [row for row in ROWS if row.agent == "sac" and row.name in rows]
    for i, row in enumerate(shown):
        colour, label = (
            style.colour(i),
            f"limit {row.limit:g}, gain {row.gain:g}" if row.limit else "",
        )
        x = (np.arange(TENTHS) + 0.5) * row.total_steps / TENTHS
        for axes, name in zip(panels, ("return", "cost"), strict=True):
            y = np.array(rows[row.name][name])
            axes.plot(x, y.mean(0), color=colour, lw=1.6, label=label or "no limit")
            axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.2, lw=0)
        if row.limit:
            panels[1].axhline(row.limit, color=colour, ls="--", lw=1)
    note = "means of tenths of the run, three seeds, mean and range"
    style.set_title(panels[0], f"Return of SAC in {POINT}", note)
    style.set_title(panels[1], "Cost of an episode", note, "dashed: the limit")
    for axes in panels:
        style.set_steps_axis(axes, shown[0].total_steps)
    style.legend_below(figure, panels[0].get_legend_handles_labels()[0], 2)
    style.save(figure, PATH.parent.parent / "docs" / "figures" / "replay_costs.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    rows = json.loads(PATH.read_text()) if PATH.exists() else {}
    for row in ROWS:
        if asked.run and set(asked.words) <= set(row.name.split("/")):
            rows[row.name] = measure(row, asked.seeds)
            rows = {x.name: rows[x.name] for x in ROWS if x.name in rows}
            PATH.write_text(json.dumps(rows, indent=1) + "\n")
            print(row.name, rows[row.name]["cpu_seconds"], "CPU seconds", flush=True)
    show(rows)
    draw(rows)


if __name__ == "__main__":
    main()
