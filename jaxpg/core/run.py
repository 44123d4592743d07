"""The host loop: jitted chunks of iterations, with plain functions called between them."""

import functools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxpg.core.config import validate
from jaxpg.core.env import Env
from jaxpg.core.seeds import over_seeds, seed_mesh
from jaxpg.core.train import iterate, iterations, start, with_horizon
from jaxpg.core.types import Agent, Key, Tree


class Event(NamedTuple):
    """What a callback sees of a chunk of iterations that has just been run."""

    iteration: int  # iterations done, at the end of the chunk
    num_iters: int  # iterations of the whole run
    env_steps: int  # environment steps done, of each seed
    metrics: dict[str, Any]  # [chunk], or [seeds, chunk]; what callbacks measured: [] or [seeds]
    state: Tree | None  # on the device, until the next chunk takes it
    seconds: float  # since the first chunk was asked for


class Callback(NamedTuple):
    """Host code around the chunks; every part is optional.

    on_chunk(event) runs while the state is in hand, metrics still on the device. It may return a
    dict of measurements to add to the metrics. Reading an array waits for the device.
    on_metrics(event) runs one chunk later, while the device works on the next one: metrics are
    NumPy arrays, the state is None.
    on_end(result) runs once, also when the run was interrupted or failed.

    If one of the first two returns True the run stops after the chunk in hand. A plain function
    given as a callback is an on_chunk.
    """

    on_chunk: Callable[[Event], Any] = lambda event: None
    on_metrics: Callable[[Event], Any] = lambda event: None
    on_end: Callable[["Result"], Any] = lambda result: None


class Result(NamedTuple):
    """A run, ended or stopped: what `run` returns and `load` restores."""

    agent: Agent
    cfg: Any
    env: Env
    state: Tree  # with a leading [seeds] if the key had one
    metrics: dict[str, np.ndarray]  # [iterations], or [seeds, iterations]
    iteration: int
    num_iters: int
    stopped: str  # "done", "callback", "interrupt" or "error"
    seconds: float

    @property
    def env_steps(self) -> int:
        """Environment steps done, of each seed."""
        return self.iteration * self.agent.steps_per_iter(self.cfg)


@functools.partial(jax.jit, static_argnames=("agent", "mesh"))
def _start(agent, cfg, env, key, mesh):
    if mesh is None:
        return start(agent, cfg, env, key)
    return over_seeds(functools.partial(start, agent), mesh)((cfg, env), key)


@functools.partial(jax.jit, static_argnames=("agent", "length", "mesh"), donate_argnames=("state",))
def _chunk(agent, cfg, env, state, count, length, mesh):
    def one(cfg, env, count, state):
        return iterate(agent, cfg, env, state, length, count)

    if mesh is None:
        return one(cfg, env, count, state)
    return over_seeds(one, mesh)((cfg, env, count), state)


class _Interrupt:
    """Ctrl-C asks the loop to stop after the chunk in hand; a second one stops it at once."""

    asked = False

    def __enter__(self):
        self.previous = None
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, self.ask)
        return self

    def ask(self, signum, frame):
        self.asked = True
        print("\nstopping after this chunk; Ctrl-C again stops at once", file=sys.stderr)
        signal.signal(signal.SIGINT, self.previous)

    def __exit__(self, *_):
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)


def check(agent: Agent, cfg, env: Env, key: Key, total_steps: int) -> int:
    """Raises ValueError for what cannot work, before anything compiles; returns the iterations."""
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise ValueError(f"key={key!r}: allowed is jax.random.key(seed), or an array of them")
    if key.ndim > 1:
        raise ValueError(f"key of shape {key.shape}: allowed is one key, or [seeds] of them")
    validate(cfg)
    num_iters = iterations(agent, cfg, total_steps)
    # Closed over, config and environment are no tracers, so `init` can judge their numbers too.
    one = key if key.ndim == 0 else key[0]
    jax.eval_shape(lambda k: agent.init(cfg, env, k), one)
    return num_iters


def run(
    agent: Agent,
    cfg,
    env: Env,
    key: Key,
    *,
    total_steps: int,
    callbacks: Iterable[Callback | Callable] = (),
    chunk: int | None = None,
    state: Tree | None = None,
    iteration: int = 0,
) -> Result:
    """Trains with host callbacks between jitted chunks of iterations.

    key: one key, or [seeds] of them: then all seeds are one vmapped program, laid over as many
    devices as divide their number, and every array gets a leading [seeds]. chunk: iterations
    between callbacks; the result does not depend on it, to the byte. state, iteration: go on
    from there (the state is donated).

    Raises ValueError before anything compiles for a config, environment or key that cannot work.
    """
    num_iters = check(agent, cfg, env, key, total_steps)
    if chunk is not None and (type(chunk) is not int or chunk < 1):
        raise ValueError(f"chunk={chunk!r}: allowed is an integer >= 1")
    cfg = with_horizon(cfg, total_steps)
    chunk = chunk or max(1, min(100, num_iters // 50))
    callbacks = [c if isinstance(c, Callback) else Callback(on_chunk=c) for c in callbacks]
    mesh = seed_mesh(len(key)) if key.ndim else None
    if mesh is not None:
        sharding = NamedSharding(mesh, PartitionSpec("seed"))
        key = jax.device_put(key, sharding)
        state = None if state is None else jax.device_put(state, sharding)

    begun, ending, stopped, late, history = time.perf_counter(), "done", "error", None, []

    def hand_over(event: Event | None) -> bool:
        """Brings a chunk's metrics to the host and to the callbacks that wait for them there."""
        if event is None:
            return False
        event = event._replace(metrics=jax.device_get(event.metrics), state=None)
        history.append({name: event.metrics[name] for name in names})
        answers = [c.on_metrics(event) for c in callbacks]
        return any(answer is True for answer in answers)

    try:
        with _Interrupt() as interrupt:
            if state is None:
                state = _start(agent, cfg, env, key, mesh)
            while iteration < num_iters:
                count = min(chunk, num_iters - iteration)
                state, metrics = _chunk(agent, cfg, env, state, np.int32(count), chunk, mesh)
                if count < chunk:
                    metrics = {name: m[..., :count] for name, m in metrics.items()}
                names, iteration = list(metrics), iteration + count
                event = Event(
                    iteration, num_iters, iteration * agent.steps_per_iter(cfg),
                    metrics, state, time.perf_counter() - begun,
                )  # fmt: skip
                answers = [c.on_chunk(event) for c in callbacks]
                for answer in answers:
                    if isinstance(answer, dict):
                        metrics |= answer
                waiting, late = late, event
                stop = hand_over(waiting) or any(answer is True for answer in answers)
                if interrupt.asked or stop:
                    ending = "interrupt" if interrupt.asked else "callback"
                    break
            waiting, late = late, None
            hand_over(waiting)
            jax.block_until_ready(state)
            stopped = ending
    except Exception:
        hand_over(late)  # the chunk before the one that failed: its rows are good
        raise
    finally:
        metrics = (
            {k: np.concatenate([h[k] for h in history], -1) for k in history[0]} if history else {}
        )
        seconds = time.perf_counter() - begun
        result = Result(agent, cfg, env, state, metrics, iteration, num_iters, stopped, seconds)
        for c in callbacks:
            c.on_end(result)
    return result
