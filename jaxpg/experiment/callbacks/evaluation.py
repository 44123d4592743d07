"""Evaluation of whole episodes between chunks, greedy and sampled."""

import functools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import signals
from jaxpg.core.env import Env
from jaxpg.core.episodes import LIMITS, episode_sums, step_limit
from jaxpg.core.machine import collector_paused
from jaxpg.core.metrics import no_data
from jaxpg.core.parallel.lanes import ACTIVE, Lanes, has_lanes
from jaxpg.core.plan import Plan
from jaxpg.core.run import FINISH, Callback, Event
from jaxpg.core.types import Agent, C, Key
from jaxpg.experiment.callbacks.metrics import append_table, metric_rows, split_metrics
from jaxpg.experiment.files.rows import EVALUATIONS, Rows
from jaxpg.experiment.text import warn

_EVALUATION = 0x5EED  # folded into the run's key: evaluation shares no key with training


def evaluation(
    agent: Agent[C],
    cfg: C,
    env: Env,
    key: Key,
    every: int,
    episodes: int = 128,
    folder: str | Path | Rows | None = None,
    iteration: int = 0,
    target: float | None = None,
) -> Callback:
    """Measures the return of whole episodes, with greedy and with sampled actions.

    That is done at the first end of a chunk at or after each multiple of `every` iterations, and
    after the last iteration. Adds `eval/greedy`, `eval/greedy_std` (over episodes), `eval/sampled`
    and `eval/sampled_std`, each [] or [seeds], and writes them to `evaluations.csv` in `folder`. Of
    a signal that is one number, such as `cost`, it adds the mean of its sums over the same
    episodes, `eval/greedy_cost` and `eval/sampled_cost`.
    They are NaN, an empty cell, where an episode did not end within the environment's
    `step_limit`; the first time there is a warning.

    key: the run's; evaluation folds a constant and the iteration into it. iteration: where the
    run goes on; rows after it are cut off from a file that is there. target: a lane whose greedy
    return reaches it ends there; lanes that have ended are not measured.

    >>> env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(0)
    >>> agent, seen = jaxpg.q_learning, []
    >>> measure = jaxpg.callbacks.evaluation(agent, cfg, env, key, every=10, episodes=4)
    >>> watch = [measure, jaxpg.Callback(on_metrics=seen.append)]
    >>> _ = jaxpg.run(agent, cfg, env, key, total_steps=1000, callbacks=watch)
    >>> seen[-1].metrics["eval/sampled"].shape
    ()
    """
    previous, compiled, files, warned = iteration, None, folder, False
    if folder is not None and not isinstance(folder, Rows):
        files = Rows(folder, (EVALUATIONS,), iteration)

    def measure(event: Event) -> dict[str, jax.Array] | None:
        nonlocal previous, compiled
        due = event.iteration // every > previous // every or event.iteration == event.num_iters
        due &= event.whole  # where a chunk is cut short the clock decides
        previous = event.iteration if event.whole else previous
        args = cfg, env, event.state, key, np.uint32(event.iteration)
        if compiled is None:  # while the first chunks run: XLA leaves Python alone meanwhile
            pool = ThreadPoolExecutor(1)
            with collector_paused():
                lowered = _evaluate.lower(agent, *args, episodes, step_limit(env))
                compiled = pool.submit(lowered.compile)
            pool.shutdown(wait=False)
        if not due:
            return None
        measured = compiled.result()(*args)
        return measured | ({} if target is None else {FINISH: measured["eval/greedy"] >= target})

    def write(event: Event) -> None:
        nonlocal warned
        if "eval/greedy" not in event.metrics:
            return
        if not warned and _lacks_numbers(event.metrics) and jax.process_index() == 0:
            warned = True
            warn_of_endless_episodes(env, step_limit(env))
        if isinstance(files, Rows):
            measured = {n: m[:, None] for n, m in split_metrics(event)[1].items() if _is_ours(n)}
            end, steps = np.array([event.iteration]), event.env_steps // event.iteration
            header, rows = metric_rows(end, measured, steps)
            header = [name.removeprefix("eval/") for name in header]
            header, rows = _as_before(files.folder / EVALUATIONS, header, rows)
            append_table(files, EVALUATIONS, header, rows)
            files.save()

    return Callback(on_chunk=measure, on_metrics=write)


MEASURES = ("eval/greedy", "eval/greedy_std", "eval/sampled", "eval/sampled_std")  # of returns


def _as_before(path: Path, header: list[str], rows: list[tuple[str, ...]]) -> tuple[list, list]:
    """Takes the columns that a file has: one that an older version began has no signals."""
    if not path.exists():
        return header, rows
    with path.open() as file:
        known = file.readline().strip().split(",")
    kept = [i for i, name in enumerate(header) if name in known]
    return [header[i] for i in kept], [tuple(row[i] for i in kept) for row in rows]


def _is_ours(name: str) -> bool:
    """True for what an evaluation measures, of returns and of signals."""
    return name.startswith(MEASURES[::2])


class EvaluationHistory:
    """Evaluations of a run so far, by name, as evaluations.csv has them: `iteration` and
    `env_steps` [k], and `greedy`, `greedy_std`, `sampled`, `sampled_std`, [k] or [seeds, k]; and
    `greedy_cost`, `sampled_cost` of a signal `cost`."""

    def __init__(self, before: Mapping[str, np.ndarray] = MappingProxyType({})):
        self.found = dict(before)

    def add(self, event: Event) -> None:
        """Adds what was measured in an event, if anything was; an `on_metrics` of a callback."""
        if "eval/greedy" not in event.metrics:
            return
        new = {"iteration": event.iteration, "env_steps": event.env_steps}
        ours = filter(_is_ours, event.metrics)
        new |= {name.removeprefix("eval/"): event.metrics[name] for name in ours}
        if self.found:  # of a run that an older version began there are no signals
            new = {name: x for name, x in new.items() if name in self.found}
        for name, x in new.items():
            x = np.asarray(x)[..., None]
            self.found[name] = np.append(self.found[name], x, -1) if name in self.found else x


def evaluations(
    plan: Plan, cfg: Any, key: Key, asked: Mapping[str, Any], kept: EvaluationHistory,
    files: Rows | None = None, iteration: int = 0,
) -> list[Callback]:  # fmt: skip
    """Callbacks that evaluate a run as often as is asked for, and keep what they measure.

    cfg, key: as the plan was made of them. asked: `evaluations`, `episodes` and `target` of it.
    """
    if not (times := asked["evaluations"]):
        return []
    every, episodes = -(-plan.num_iters // times), asked["episodes"]
    target = asked.get("target") if has_lanes(cfg) else None
    measure = evaluation(plan.agent, cfg, plan.env, key, every, episodes, files, iteration, target)
    return [measure, Callback(on_metrics=kept.add)]


def _lacks_numbers(metrics: dict[str, np.ndarray]) -> bool:
    """True if an evaluation is NaN, of a lane that still learns if there are lanes."""
    learns = metrics[ACTIVE][..., -1] > 0 if ACTIVE in metrics else True
    return any(np.any(np.isnan(metrics[name]) & learns) for name in MEASURES if name in metrics)


def warn_of_endless_episodes(env: Env, max_steps: int) -> None:
    """Warns that returns are NaN, and says how to mend that."""
    warn(
        f"{env.name}: an evaluation has no mean return, its cell is empty, for an episode did not "
        f"end within {max_steps:,} steps (or its reward is NaN). Let the environment truncate at "
        f"`max_steps_in_episode` of its parameters, allowed is an integer <= {LIMITS[1]:,} here",
        stacklevel=2,
    )


@functools.partial(jax.jit, static_argnames=("agent", "episodes", "max_steps"))
def _evaluate(agent, cfg, env, state, key, iteration, episodes, max_steps):
    """Evaluates greedy and sampled episodes; each measurement is [] or [seeds]."""

    def own(key):
        return jax.random.split(jax.random.fold_in(jax.random.fold_in(key, _EVALUATION), iteration))

    keys = jax.vmap(own)(key) if key.ndim else own(key)
    core = env.core  # its own parameters: those of `env` may have lanes
    known = [x for x in signals.scalars(core, core.default_params) if x != "std"]
    one = functools.partial(
        episode_sums, agent, cfg, env, state, max_steps=max_steps, names=("return", *known)
    )
    found = {}
    for i, kind in enumerate(("eval/greedy", "eval/sampled")):
        sums = one(keys[..., i], episodes, greedy=not i)  # [..., episodes, names]
        found |= {kind: sums[..., 0].mean(-1), f"{kind}_std": sums[..., 0].std(-1)}
        found |= {f"{kind}_{x}": sums[..., n].mean(-1) for n, x in enumerate(known, 1)}
    if isinstance(state, Lanes):
        found = {n: jnp.where(state.active, x, no_data(x.dtype)) for n, x in found.items()}
    return found
