"""Evaluation of whole episodes between chunks, greedy and sampled."""

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.env import Env
from jaxpg.core.episodes import evaluate
from jaxpg.core.machine import collector_paused
from jaxpg.core.metrics import no_data
from jaxpg.core.parallel.lanes import Lanes
from jaxpg.core.run import FINISH, Callback, Event
from jaxpg.core.types import Agent, Key
from jaxpg.experiment.callbacks.metrics import (
    append_rows,
    metric_rows,
    split_metrics,
    truncate_rows,
)

_EVALUATION = 0x5EED  # folded into the run's key: evaluation shares no key with training


def evaluation(
    agent: Agent,
    cfg,
    env: Env,
    key: Key,
    every: int,
    episodes: int = 128,
    folder: str | Path | None = None,
    iteration: int = 0,
    target: float | None = None,
) -> Callback:
    """Measures the return of whole episodes, with greedy and with sampled actions.

    That is done at the first end of a chunk at or after each multiple of `every` iterations, and
    after the last iteration. Adds `eval/greedy`, `eval/greedy_std` (over episodes), `eval/sampled`
    and `eval/sampled_std`, each [] or [seeds], and writes them to `evaluations.csv` in `folder`.

    key: the run's; evaluation folds a constant and the iteration into it. iteration: where the
    run goes on; rows after it are cut off from a file that is there. target: a lane whose greedy
    return reaches it ends there; lanes that have ended are not measured.
    """
    previous, compiled, path = iteration, None, folder and Path(folder, "evaluations.csv")
    if path:
        truncate_rows(path, iteration)

    def measure(event: Event) -> dict[str, jax.Array] | None:
        nonlocal previous, compiled
        due = event.iteration // every > previous // every or event.iteration == event.num_iters
        previous = event.iteration
        args = cfg, env, event.state, key, np.int32(previous)
        if compiled is None:  # while the first chunks run: XLA leaves Python alone meanwhile
            pool = ThreadPoolExecutor(1)
            with collector_paused():
                compiled = pool.submit(_evaluate.lower(agent, *args, episodes).compile)
            pool.shutdown(wait=False)
        if not due:
            return None
        measured = compiled.result()(*args)
        return measured | ({} if target is None else {FINISH: measured["eval/greedy"] >= target})

    def write(event: Event) -> None:
        if path and "eval/greedy" in event.metrics:
            measured = {n: m[:, None] for n, m in split_metrics(event)[1].items() if n in MEASURES}
            header, rows = metric_rows(event, measured)
            append_rows(path, [name.removeprefix("eval/") for name in header], rows)

    return Callback(on_chunk=measure, on_metrics=write)


MEASURES = ("eval/greedy", "eval/greedy_std", "eval/sampled", "eval/sampled_std")


@functools.partial(jax.jit, static_argnames=("agent", "episodes"))
def _evaluate(agent, cfg, env, state, key, iteration, episodes):
    """Evaluates greedy and sampled episodes; each measurement is [] or [seeds]."""

    def own(key):
        return jax.random.split(jax.random.fold_in(jax.random.fold_in(key, _EVALUATION), iteration))

    keys = jax.vmap(own)(key) if key.ndim else own(key)
    greedy = evaluate(agent, cfg, env, state, keys[..., 0], episodes, greedy=True)
    sampled = evaluate(agent, cfg, env, state, keys[..., 1], episodes, greedy=False)
    values = greedy.mean(-1), greedy.std(-1), sampled.mean(-1), sampled.std(-1)
    if isinstance(state, Lanes):
        values = [jnp.where(state.active, x, no_data(x.dtype)) for x in values]
    return dict(zip(MEASURES, values, strict=True))
