"""Run folders and sweeps for tests, written by hand: what is in them is known."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd

import jaxpg
from jaxpg.core.config import to_dict
from jaxpg.envs import registry
from jaxpg.experiment.files.atomic import write_json
from jaxpg.experiment.run import provenance

NAN = np.nan


def run_folder(path, returns, *, about=True, env="CartPole-v1", greedy=None, summary=True, **more):
    """A run of ppo with returns [seeds, iterations], one episode in each that is not NaN, and ten
    environment steps an iteration."""
    path.mkdir(parents=True)
    returns = np.atleast_2d(np.asarray(returns, float))
    cell = lambda x: "" if np.isnan(x) else str(x)  # noqa: E731
    names = ["episode/count", "episode/length", "episode/return", "loss/policy"]
    rows = [",".join(["seed", "iteration", "env_steps", *names])]
    for i, column in enumerate(returns.T, 1):
        for seed, x in enumerate(column):
            rows.append(f"{seed},{i},{i * 10},{int(x == x)},{cell(abs(x))},{cell(x)},{1 / i}")
    (path / "metrics.csv").write_text("\n".join(rows) + "\n")
    if greedy is not None:
        rows = ["seed,iteration,env_steps,greedy,greedy_std,sampled,sampled_std"]
        last = returns.shape[1]
        rows += [f"{s},{last},{last * 10},{g},0.0,{g},0.0" for s, g in enumerate(greedy)]
        (path / "evaluations.csv").write_text("\n".join(rows) + "\n")
    if about:
        words = [[0, s] for s in range(len(returns))]
        record = {
            "format": 1,
            "agent": "ppo",
            "config": to_dict(jaxpg.ppo.Config(learning_rate=0.5)),
            "environment": registry.to_dict(registry.make(env)),
            "own": [],
            "key": {"generator": "threefry2x32", "words": words if len(words) > 1 else words[0]},
            "total_steps": returns.shape[1] * 10,
            "chunk": None, "evaluations": 10, "episodes": 128, "checkpoints": 5, "keep": 3,
            "made_with": provenance.environment_versions(),
        }  # fmt: skip
        write_json(path / "run.json", json.loads(json.dumps(record)) | more)
    if summary:
        ended = {"stopped": "done", "seconds": 75.0, "iteration": returns.shape[1]}
        write_json(path / "summary.json", ended | {"env_steps": returns.shape[1] * 10})
    return path


def sweep(points, scores, curve=None, ended=None, kind="sweep", seeds=None, **about):
    """A Sweep: scores [points, seeds], NaN where a run diverged; curves rise to them in a line.

    curve: [iterations] the share of its score that each run has; ended: [points, seeds].
    """
    scores = np.asarray(scores, float)
    curve = np.linspace(0.1, 1, 10) if curve is None else np.asarray(curve)
    fields = list(points[0]) if points else ["learning_rate"]
    rows, evaluations, finals = [], [], []
    for config, (point, own) in enumerate(zip(points, scores, strict=True)):
        lead = {"config": config, **point}
        for seed, score in enumerate(own):
            how = "diverged" if np.isnan(score) else "done"
            how = ended[config][seed] if ended else how
            for i, share in enumerate(curve, 1):
                if np.isnan(score) and i > len(curve) // 2:
                    break
                value = share * np.nan_to_num(score)
                rows.append({
                    **lead, "seed": seed, "iteration": i, "env_steps": 100 * i,
                    "episode/count": 30, "episode/return": value, "loss/policy": 1.0,
                })  # fmt: skip
            if not np.isnan(score):
                evaluations.append({
                    **lead, "seed": seed, "iteration": len(curve), "env_steps": 100 * len(curve),
                    "greedy": score, "greedy_std": 0.0, "sampled": score, "sampled_std": 0.0,
                })  # fmt: skip
            finals.append({**lead, "seed": seed, "env_steps": 0, "score": score, "ended": how})
    environment = {"name": "CartPole-v1"}
    record = {
        "kind": kind, "fields": fields, "points": points, "seeds": seeds or scores.shape[-1],
        "total_steps": 100 * len(curve), "compilations": 1, "seconds": 12.0, "target": None,
        "evaluations": 1, "episodes": 128, "lanes": None, "memory": None, "own": [],
        "key": {"generator": "threefry2x32", "words": [0, 7]}, "made_with": {"jaxpg": "0.1.0"},
    }  # fmt: skip
    if kind == "sweep":
        record |= {"agent": "ppo", "config": to_dict(jaxpg.ppo.Config())}
        record |= {"environment": environment}
    else:
        envs = list(dict.fromkeys(p.get("env", "CartPole-v1") for p in points))
        record["environments"] = {name: registry.to_dict(registry.make(name)) for name in envs}
        record["configs"] = {
            p["agent"]: {name: to_dict(jaxpg.preset(p["agent"], name)) for name in envs}
            for p in points
        }
        record["points"] = [{"env": "CartPole-v1", **p} for p in points]
    head = ["config", *fields, "seed"]
    table, measured, ends = (
        pd.DataFrame(x, columns=None if x else head) for x in (rows, evaluations, finals)
    )
    if not finals:
        ends = pd.DataFrame(columns=[*head, "env_steps", "score", "ended"])
    return SimpleNamespace(
        about=record | about, fields=fields, table=table, evaluations=measured, scores=ends
    )


def grid():
    """Learning rates and lambdas on a grid; the score is known in each cell."""
    points = [{"learning_rate": lr, "gae_lambda": lam} for lr in (1e-4, 1e-3) for lam in (0.5, 0.9)]
    return points, [[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, NAN]]
