"""The host loop: jitted chunks of iterations, with plain functions called between them."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Generic, NamedTuple

import jax
import numpy as np

from jaxpg.core.blocks import Blocks, block_ends, block_length
from jaxpg.core.env import Env
from jaxpg.core.machine import collector_paused
from jaxpg.core.metrics import nan_for_no_data
from jaxpg.core.parallel.devices import mesh_context, put_on_mesh
from jaxpg.core.parallel.lanes import ACTIVE
from jaxpg.core.parallel.processes import any_process, replicate
from jaxpg.core.plan import Plan, begin_run, plan_run, run_chunk
from jaxpg.core.types import Agent, C, Key, Tree

FINISH = "lane/finish"  # what a callback's measurements may hold, see `Callback`


class Event(NamedTuple):
    """A chunk of iterations that has just been run, as a callback sees it.

    >>> env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    >>> enough, key = lambda event: event.env_steps >= 300, jax.random.key(0)
    >>> result = jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=1000, callbacks=[enough])
    >>> result.stopped, result.env_steps
    ('callback', 300)
    """

    iteration: int  # iterations done, at the end of the chunk
    num_iters: int  # iterations of the whole run
    env_steps: int  # environment steps done, of each seed
    metrics: dict[str, Any]  # [chunk], or [seeds, chunk]; what callbacks measured: [] or [seeds]
    state: Tree | None  # on the device, until the next chunk takes it
    seconds: float  # since the first chunk was asked for


class Callback(NamedTuple):
    """Host code around the chunks; every part is optional.

    on_begin(event) runs once, when the run is judged and nothing is compiled yet: no metrics, no
    state, and the iteration that it goes on from.
    on_chunk(event) runs while the state is in hand, metrics still on the device. It may return a
    dict of measurements to add to the metrics; FINISH among them, [lanes] bool, says which lanes
    end here. Reading an array waits for the device.
    on_metrics(event) runs one chunk later, while the device works on the next one: metrics are
    NumPy arrays, the state is None.
    on_end(result) runs once, also when the run was interrupted or failed.

    If on_chunk or on_metrics returns True the run stops after the chunk in hand. A plain function
    given as a callback is an on_chunk.

    >>> env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    >>> steps = []
    >>> keep = jaxpg.Callback(on_metrics=lambda event: steps.append(event.env_steps))
    >>> key = jax.random.key(0)
    >>> result = jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=1000, callbacks=[keep])
    >>> len(steps)  # chunks
    10
    """

    on_chunk: Callable[[Event], Any] = lambda event: None
    on_metrics: Callable[[Event], Any] = lambda event: None
    on_end: Callable[["Result"], Any] = lambda result: None
    on_begin: Callable[[Event], Any] = lambda event: None


Callbacks = Iterable[Callback | Callable[[Event], Any]]  # what `run` takes


class Result(NamedTuple, Generic[C]):
    """A run, ended or stopped: what `run` returns and `load` restores.

    >>> env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    >>> result = jaxpg.run(jaxpg.q_learning, cfg, env, jax.random.key(0), total_steps=1000)
    >>> result.stopped, result.env_steps
    ('done', 1000)
    """

    agent: Agent[C]
    cfg: C
    env: Env
    state: Tree  # with a leading [seeds] if the key had one
    metrics: dict[str, np.ndarray]  # [rows], or [seeds, rows]: see `iterations`
    iteration: int
    num_iters: int
    stopped: str  # "done", "callback", "interrupt" or "error"
    seconds: float
    log_every: int = 1  # iterations of a row
    evaluations: Mapping[str, np.ndarray] = MappingProxyType({})  # of `jaxpg.run`: see there

    @property
    def env_steps(self) -> int:
        """Environment steps done, of each seed."""
        return self.iteration * self.agent.steps_per_iter(self.cfg)

    @property
    def iterations(self) -> np.ndarray:
        """Iterations at which the rows of the metrics end [rows]: all or, of a long run, those at
        the ends of blocks of `log_every`."""
        rows = max((x.shape[-1] for x in self.metrics.values()), default=0)
        begin = max(0, -(-self.iteration // self.log_every) - rows) * self.log_every
        return block_ends(begin, self.iteration, self.log_every)


def as_callbacks(callbacks: Callbacks) -> list[Callback]:
    """Makes every function a Callback. Raises ValueError for what is neither; a Callback alone,
    which is a tuple of functions, is no list of them."""
    listed = None if isinstance(callbacks, Callback) or not np.iterable(callbacks) else [*callbacks]
    if listed is None or not all(isinstance(c, Callback) or callable(c) for c in listed):
        raise ValueError(
            f"callbacks={callbacks!r}: allowed is a list of functions of an event, and of Callbacks"
        )
    return [c if isinstance(c, Callback) else Callback(on_chunk=c) for c in listed]


def _measured(event: Event, answer: dict[str, Any]) -> Event:
    """Adds to an event what a callback measured, and ends the lanes that it ends."""
    state: Any = event.state
    if FINISH in answer:
        state = state._replace(active=state.active & ~answer[FINISH])
    measured = replicate({name: x for name, x in answer.items() if name != FINISH})
    return event._replace(metrics=event.metrics | measured, state=state)


class _Interrupt:
    """Handler of Ctrl-C: the loop stops after the chunk in hand; a second one stops it at once."""

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


def run(
    agent: Agent[C],
    cfg: C,
    env: Env,
    key: Key,
    *,
    total_steps: int,
    callbacks: Callbacks = (),
    chunk: int | None = None,
    state: Tree | None = None,
    iteration: int = 0,
    data_parallel: bool = False,
    log_every: int | None = None,
) -> Result[C]:
    """Trains with host callbacks between jitted chunks of iterations.

    key: one key, or [seeds] of them: then all seeds are one vmapped program, laid over as many
    devices as divide their number, and every array gets a leading [seeds]. chunk: iterations
    between callbacks; the result does not depend on it, to the byte. state, iteration: go on
    from there (the state is donated). A config of lanes (see core/parallel/lanes.py) has one of its
    own, and one environment, for every key; the run ends when none of them is going. data_parallel:
    lay the environments of one key over all devices, which have to divide `num_envs`. log_every:
    iterations of a row of the result's metrics (see core/blocks.py); None is 1 or, for more than
    10,000 iterations, as few as give no more rows.

    Of several processes (see core/parallel/processes.py) each calls this with the same arguments.
    All callbacks run on each, and see the same metrics; if one stops the run, on any, all stop.

    Raises ValueError before anything compiles for a config, environment or key that cannot work.
    """
    callbacks = as_callbacks(callbacks)
    block_length(1, log_every)
    plan = plan_run(
        agent, cfg, env, key, total_steps=total_steps, chunk=chunk, data_parallel=data_parallel
    )
    blocks = Blocks(block_length(plan.num_iters, log_every), iteration)
    return run_plan(plan, callbacks, state, iteration, blocks)


def run_plan(
    plan: Plan,
    callbacks: Callbacks = (),
    state: Tree | None = None,
    iteration: int = 0,
    blocks: Blocks | None = None,
) -> Result:
    """Trains by a plan; callbacks, state and iteration are those of `run`. blocks: make the rows of
    the result's metrics; without them it has none."""
    callbacks = as_callbacks(callbacks)
    state = put_on_mesh(plan.mesh, state)
    begun, ending, stopped, history = time.perf_counter(), "done", "error", []
    late = None  # the event whose metrics are still on the device, and the names of a step's own

    try:
        with _Interrupt() as interrupt:
            done = iteration * plan.agent.steps_per_iter(plan.cfg)
            for c in callbacks:
                c.on_begin(Event(iteration, plan.num_iters, done, {}, None, 0.0))
            while iteration < plan.num_iters:
                state, metrics = _next_chunk(plan, state, iteration)
                iteration = min(iteration + plan.chunk, plan.num_iters)
                event = Event(
                    iteration, plan.num_iters, iteration * plan.agent.steps_per_iter(plan.cfg),
                    metrics, state, time.perf_counter() - begun,
                )  # fmt: skip
                event, stop = _call_on_chunk(callbacks, event)
                state = event.state
                # If a callback fails here nothing newer may be written: late is None meanwhile.
                waiting, late = late, None
                stop |= _call_on_metrics(callbacks, waiting, blocks, history)
                late = event, list(metrics)
                asked, stop = any_process(interrupt.asked, stop)
                if asked or stop:
                    ending = "interrupt" if asked else "callback"
                    break
            waiting, late = late, None
            _call_on_metrics(callbacks, waiting, blocks, history)
            jax.block_until_ready(state)
            stopped = ending
    except Exception:
        _call_on_metrics(callbacks, late, blocks, history)  # of the chunk before it
        raise
    finally:
        if blocks and blocks.every > 1 and history:
            _append(history, blocks.last()[1])
        metrics = _join(history) if history else {}
        agent, cfg, env, _, num_iters, _, _ = plan
        seconds, every = time.perf_counter() - begun, blocks.every if blocks else 1
        result = Result(
            agent, cfg, env, state, metrics, iteration, num_iters, stopped, seconds, every
        )
        for c in callbacks:
            c.on_end(result)
    return result


def _next_chunk(plan: Plan, state: Tree | None, iteration: int) -> tuple[Tree, dict[str, Any]]:
    """Runs one chunk more, from the initial state if there is none; metrics as every process has
    them."""
    agent, cfg, env, key, num_iters, chunk, mesh = plan
    count = min(chunk, num_iters - iteration)
    with mesh_context(mesh), collector_paused():
        if state is None:
            state = begin_run(agent, cfg, env, key, mesh)
        state, metrics = run_chunk(agent, cfg, env, state, np.int32(count), chunk, mesh)
    if count < chunk:
        metrics = {name: m[..., :count] for name, m in metrics.items()}
    return state, replicate(metrics)


def _call_on_chunk(callbacks: list[Callback], event: Event) -> tuple[Event, bool]:
    """Calls the callbacks, of which each sees what those before it measured; returns the event with
    all of that, and whether one of them asks to stop."""
    stop = False
    for c in callbacks:
        answer = c.on_chunk(event)
        stop |= answer is True
        if isinstance(answer, dict):
            event = _measured(event, answer)
    return event, stop


def _call_on_metrics(
    callbacks: list[Callback], late: tuple[Event, list[str]] | None, blocks: Blocks | None,
    history: list[dict],
) -> bool:  # fmt: skip
    """Brings a chunk's metrics to the host, as blocks into the history and as they are to the
    callbacks that wait for them there; returns whether the run is to stop."""
    if late is None:
        return False
    event, names = late
    # `device_get` may give views, each of which keeps a kilobyte of the device's buffer alive.
    metrics = nan_for_no_data(jax.tree.map(np.array, jax.device_get(event.metrics)))
    event = event._replace(metrics=metrics, state=None)
    if blocks:
        _append(history, blocks.add({name: metrics[name] for name in names})[1])
    answers = [c.on_metrics(event) for c in callbacks]
    finished = ACTIVE in names and not metrics[ACTIVE].any()
    return finished or any(answer is True for answer in answers)


def _append(history: list[dict], metrics: dict[str, np.ndarray]) -> None:
    """Appends the metrics of a chunk. An array costs more than the few numbers in it, so blocks of
    like length are joined: of n chunks there are log2(n) blocks at most."""
    history.append(metrics)
    while len(history) > 1 and _length(history[-2]) <= _length(history[-1]):
        history[-2:] = [_join(history[-2:])]


def _length(block: dict[str, np.ndarray]) -> int:
    return max((x.shape[-1] for x in block.values()), default=0)


def _join(blocks: list[dict]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([block[name] for block in blocks], -1) for name in blocks[0]}
