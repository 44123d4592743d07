"""The runs, the sweep and the policy that are tried, and what is seen when one is read."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxpg
from jaxpg.core.config import to_dict
from jaxpg.envs import registry
from jaxpg.experiment import runs
from jaxpg.experiment.figures.measured import read_run
from jaxpg.experiment.run.provenance import is_sweep
from tests.conftest import TINY, short_env

ITERATIONS, HALF = 6, 4
ASKED: dict[str, Any] = {"evaluations": 2, "episodes": 2, "checkpoints": 3, "keep": 2}
# By name: the agent, and of how many seeds.
RUNS = {
    "ppo": ("ppo", 1),
    "dqn": ("dqn", 1),
    "q_learning": ("q_learning", 1),
    "cem": ("cem", 1),
    "reinforce": ("reinforce", 1),
    "q_learning of two seeds": ("q_learning", 2),
}
# Of two seeds a row is a block, in which chunks, checkpoints and the run end; and twice, in JSON.
BLOCKS: dict[str, Any] = {"log_every": 4, "log": ["jsonl"]}
SWEEP, POLICY = "sweep", "policy"
WRITTEN = ("metrics.csv", "metrics.jsonl", "evaluations.csv", "results.csv", "scores.csv")


def draw_no_curves() -> None:
    """Puts a few bytes in the place of learning curves in this process: to draw them takes longer
    than all the rest."""
    runs.draw_curve = lambda path: path.write_bytes(b"a picture " * 50)


def train(subject: str, out: str, seed: int = 0, stop: int | None = None, rate: float = 0.0):
    """Trains a run or a sweep. stop: ends it at the first chunk after so many iterations. rate:
    added to the learning rate, which makes it another run."""
    if subject == SWEEP:
        return train_sweep(out, seed)
    name, seeds = RUNS[subject]
    agent = getattr(jaxpg, name)
    cfg = agent.Config(**TINY[name] | ({"learning_rate": rate} if rate else {}))
    key = jax.random.key(seed)
    watch = [lambda event: event.iteration >= stop] if stop else []
    return jaxpg.run(
        agent, cfg, short_env(agent, cfg), jax.random.split(key, seeds) if seeds > 1 else key,
        total_steps=ITERATIONS * agent.steps_per_iter(cfg), chunk=2, out=out, callbacks=watch,
        **ASKED, **(BLOCKS if seeds > 1 else {}),
    )  # fmt: skip


def train_sweep(out: str, seed: int):
    """Two programs of two points of two seeds each."""
    agent = jaxpg.q_learning
    cfg = agent.Config(**TINY["q_learning"])
    points = jaxpg.sweep.grid(learning_rate=[0.1, 0.2], num_envs=[1, 2])
    return jaxpg.sweep.run(
        agent, cfg, short_env(agent, cfg), jax.random.key(seed), points,
        total_steps=4 * agent.steps_per_iter(cfg), seeds=2, episodes=2, out=out,
    )  # fmt: skip


def resume(path: str) -> None:
    jaxpg.resume(path)


def export(run: str, out: str) -> None:
    jaxpg.Policy.load(run).export(out, platforms=("cpu",))


def look(path: str) -> dict[str, Any]:
    """What is seen of a run, a sweep or a policy: digests of all that reading it gives, and of the
    tables as they are written."""
    where = Path(path)
    if where.suffix == ".policy":
        return _look_at_policy(where)
    seen = _look_at_sweep(where) if is_sweep(where) else _look_at_run(where)
    files = {name: where / name for name in WRITTEN}
    return seen | {
        "files": {n: _digest(p.read_bytes()) for n, p in files.items() if p.is_file()},
    }


def _look_at_run(path: Path) -> dict[str, Any]:
    result, measured = jaxpg.load(path), read_run(path)
    return {
        **_look_at_result(result),
        "evaluations": _digest(measured.eval_steps, measured.evaluations),
        "curves": _digest(measured.steps, measured.metrics),
        "record": {k: x for k, x in measured.about.items() if k != "made_with"},
        "seconds": None if np.isnan(result.seconds) else result.seconds,
    }


def _look_at_result(result) -> dict[str, Any]:
    return {
        "agent": result.agent.name,
        "config": json.loads(json.dumps(to_dict(result.cfg), default=_plain)),
        "environment": json.loads(json.dumps(registry.to_dict(result.env), default=_plain)),
        "iteration": [result.iteration, result.num_iters, result.stopped],
        "state": _digest(result.state),
        "metrics": _digest(result.metrics),
    }


def _look_at_sweep(path: Path) -> dict[str, Any]:
    found = jaxpg.load(path)
    about = {k: x for k, x in found.about.items() if k not in ("compilations", "seconds")}
    tables = {n: getattr(found, n).to_csv() for n in ("table", "evaluations", "scores")}
    configs = (0, 1)  # one of each part
    return {
        "record": {k: x for k, x in about.items() if k != "made_with"},
        "tables": {name: _digest(text.encode()) for name, text in tables.items()},
        "configs": [_look_at_result(jaxpg.sweep.result(path, i)) for i in configs],
        "seconds": found.about["seconds"],
    }


def _look_at_policy(path: Path) -> dict[str, Any]:
    policy = jaxpg.Policy.from_file(path)
    kinds = policy.about["observation"].values()
    (obs,) = (np.linspace(-1, 1, int(np.prod(k["shape"]))).reshape(k["shape"]) for k in kinds)
    acts = [policy(obs), policy(obs, key=jax.random.key(3))]
    return {"about": policy.about, "weights": _digest(policy.weights), "acts": _digest(acts)}


def _plain(x):
    return np.asarray(x).tolist()


def _digest(*trees) -> str:
    """A digest of arrays, their names, shapes and dtypes."""
    total = hashlib.sha256()
    for name, x in jax.tree_util.tree_leaves_with_path(trees):
        if hasattr(x, "dtype") and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        value = np.frombuffer(x, np.uint8) if isinstance(x, bytes) else np.asarray(x)
        total.update(f"{jax.tree_util.keystr(name)} {value.dtype} {value.shape}".encode())
        total.update(value.tobytes())
    return total.hexdigest()
