"""Measures what each detail of PPO is worth; writes benchmarks/ppo_details.json and the figure of
docs/course/07_ppo.md.

python benchmarks/ppo_details.py --measure [ENV ...]

Without `--measure` the figure is made anew of what is there. A row is PPO with its preset for an
environment but for one detail, trained on the same seeds; its score is the mean return of the last
hundred episodes of training, with sampled actions.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxpg
from jaxpg.core.config import replace

PATH = Path(__file__).with_suffix(".json")
FIGURE = PATH.parent.parent / "docs" / "figures" / "ppo-details.png"
STEPS = {"CartPole-v1": 40_960, "Pendulum-v1": 51_200}
SEEDS = {"CartPole-v1": 16, "Pendulum-v1": 8}


def variants(cfg: Any) -> dict[str, dict[str, Any]]:
    """The fields that differ from a config, by what each variant is called."""
    scaled, bonus = cfg.normalize_reward, cfg.entropy_coef > 0
    return {
        "the preset": {},
        "no clipping": {"clip_eps": 1e3},
        "1 epoch": {"num_epochs": 1},
        "λ = 0": {"gae_lambda": 0.0},
        "λ = 1": {"gae_lambda": 1.0},
        "advantages as they are": {"normalize_advantage": False},
        "no entropy bonus" if bonus else "entropy bonus 0.01": {
            "entropy_coef": 0.0 if bonus else 0.01
        },
        "constant rate": {"learning_rate_schedule": "constant"},
        "a quarter of the rate": {"learning_rate": cfg.learning_rate / 4},
        "LeCun weights": {"kernel_init": "lecun"},
        "rewards as they are" if scaled else "rewards scaled": {"normalize_reward": not scaled},
        "clipped value loss": {"clip_value": True},
        "no limit of the gradient": {"max_grad_norm": 1e9},
    }


def measure(name: str) -> dict[str, list[float]]:
    """The score of each seed, by variant."""
    env, scores = jaxpg.make(name), {}
    preset = jaxpg.preset("ppo", name)
    keys = jax.random.split(jax.random.key(0), SEEDS[name])
    train = partial(jaxpg.train, jaxpg.ppo, total_steps=STEPS[name])
    train = jax.jit(jax.vmap(train, (None, None, 0)))
    for variant, fields in variants(preset).items():
        begun = time.process_time()
        _, metrics = train(replace(preset, **fields), env, keys)
        found = jax.vmap(jaxpg.recent_mean)(metrics).mean
        scores[variant] = np.asarray(found, float).round(2).tolist()
        summary = f"{np.mean(scores[variant]):9.2f} {time.process_time() - begun:6.1f} s"
        print(f"{name:12} {variant:26} {summary}", flush=True)
    return scores


def draw(found: dict[str, Any]) -> None:
    """A dot and its interval for each variant, an environment a panel."""
    import matplotlib

    matplotlib.use("agg")
    from jaxpg.experiment.figures import style

    figure, panels = style.new_panels(len(found), height=4.2)
    for axes, (name, row) in zip(panels, found.items(), strict=True):
        for i, scores in enumerate(map(np.array, row["scores"].values())):
            iqm = jaxpg.statistics.iqm(scores)
            low, high = jaxpg.statistics.interval(jaxpg.statistics.iqm, scores)
            colour = style.colour(0 if i == 0 else 1)
            axes.plot([low, high], [i, i], color=colour, lw=1.6)
            axes.plot(iqm, i, "o", color=colour, ms=5)
        axes.set_yticks(range(len(row["scores"])), list(row["scores"]))
        axes.invert_yaxis()
        axes.set_xlabel("return")
        axes.locator_params(axis="x", nbins=5)
        steps, seeds = row["total_steps"], len(row["scores"]["the preset"])
        style.set_title(axes, name, f"{steps:,} steps, {seeds} seeds, IQM and 95 %")
    style.save(figure, FIGURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--measure", nargs="*", choices=list(STEPS))
    names = parser.parse_args().measure
    found = json.loads(PATH.read_text()) if PATH.exists() else {}
    for name in [] if names is None else names or list(STEPS):
        found[name] = {"total_steps": STEPS[name], "scores": measure(name)}
        lines = [f" {json.dumps(env)}: {json.dumps(row)}" for env, row in found.items()]
        PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    draw(found)


if __name__ == "__main__":
    main()
