"""The host loop: jitted chunks of iterations, with plain functions called between them."""

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Generic, NamedTuple

import jax
import numpy as np

from jaxpg.core.blocks import Blocks, History, block_ends, block_length
from jaxpg.core.env import Env
from jaxpg.core.interrupt import Interrupted, Signals, catch_signals
from jaxpg.core.metrics import nan_for_no_data
from jaxpg.core.parallel.devices import put_on_mesh
from jaxpg.core.parallel.lanes import ACTIVE
from jaxpg.core.parallel.processes import agree_on_errors, largest_of_processes, replicate
from jaxpg.core.pieces import LONG, Look, chunk_begin, next_chunk
from jaxpg.core.plan import Plan, plan_run
from jaxpg.core.single import host_errors
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
    whole: bool = True  # False if the chunk was cut short: by a signal, or for a callback's `due`
    begin: int | None = None  # iteration at which its chunk began; the metrics are of a rest of it
    # if it was cut before, or if the run was resumed within it


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
    due() is asked every few seconds while a chunk takes longer than that: if it returns True the
    chunk is cut short, so that on_chunk has the state.

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
    due: Callable[[], bool] = lambda: False


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
    signal: str | None = None  # "SIGTERM", ..., if one has ended it

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
    with agree_on_errors():
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
    this = _Loop(plan, callbacks, put_on_mesh(plan.mesh, state), iteration, History(blocks))
    begun, stopped = time.perf_counter(), "error"
    with host_errors(plan.env.core), catch_signals() as signals:
        try:
            with agree_on_errors():
                this.begin()
            ending = this.train(signals, begun)
            this.flush()
            jax.block_until_ready(this.state)
            stopped = ending
        except Exception:
            this.flush()  # of the chunk before the one that failed
            raise
        finally:
            agent, cfg, env, _, num_iters, _, _ = plan
            name = signal.Signals(signals.asked).name if stopped == "interrupt" else None
            result = Result(
                agent, cfg, env, this.state, this.history.join(), this.iteration, num_iters,
                stopped, time.perf_counter() - begun, blocks.every if blocks else 1, signal=name,
            )  # fmt: skip
            _call_on_end(callbacks, result)
    if signals.asked and stopped != "interrupt":  # it came after the last look
        raise Interrupted(signals.asked)
    return result


class _Loop:
    """Loop of a run, and how far it is."""

    def __init__(
        self, plan: Plan, callbacks: list[Callback], state: Tree | None, iteration: int,
        history: History,
    ):  # fmt: skip
        self.plan, self.callbacks, self.state, self.iteration = plan, callbacks, state, iteration
        self.history = history
        # The event whose metrics are still on the device, and the names of a step's own.
        self.late: tuple[Event, list[str]] | None = None
        self.stop = False  # whether a callback has asked to end the run

    def begin(self) -> None:
        """Calls the callbacks before anything is compiled."""
        done = self.iteration * self.plan.agent.steps_per_iter(self.plan.cfg)
        for c in self.callbacks:
            c.on_begin(Event(self.iteration, self.plan.num_iters, done, {}, None, 0.0))

    def train(self, signals: Signals, begun: float) -> str:
        """Trains until all is done, or something ends it; returns what."""
        plan, first, slow = self.plan, True, True
        steps = plan.agent.steps_per_iter(plan.cfg)

        def look(seconds: float) -> Look:
            self.flush()
            return self._look(signals, any(c.due() for c in self.callbacks), seconds)

        while self.iteration < plan.num_iters:
            now, begin = time.perf_counter(), chunk_begin(self.iteration, plan.chunk)
            chunk = next_chunk(plan, self.state, self.iteration, look, first, slow)
            self.state, metrics, self.iteration, whole = chunk
            if not metrics:
                return "interrupt"
            seconds = time.perf_counter() - begun
            event = Event(
                self.iteration, plan.num_iters, self.iteration * steps, metrics, self.state,
                seconds, whole, begin,
            )  # fmt: skip
            event, stop = _call_on_chunk(self.callbacks, event)
            self.state, self.stop = event.state, self.stop or stop
            self.flush()
            self.late = event, list(metrics)
            asked, _, seconds = self._look(signals, False, time.perf_counter() - now)
            if asked or (self.stop and whole):  # or where it ends would depend on the clock
                return "interrupt" if asked else "callback"
            first, slow = False, seconds > LONG
        return "done"

    def _look(self, signals: Signals, due: bool, seconds: float) -> Look:
        """Tells all processes what any of them has seen: a signal, or that a callback asks to
        end."""
        asked, stop, due_, longest = largest_of_processes(signals.asked, self.stop, due, seconds)
        # One that came here while the others were asked is told the next time.
        signals.asked, self.stop = signals.asked or int(asked), bool(stop)
        return Look(bool(asked), bool(due_), longest)

    def flush(self) -> None:
        """Brings the metrics of the newest event to the host, if they are not there yet."""
        # If a callback fails here nothing newer may be written: late is None meanwhile.
        waiting, self.late = self.late, None
        self.stop |= _call_on_metrics(self.callbacks, waiting, self.history)


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


def _call_on_end(callbacks: list[Callback], result: Result) -> None:
    """Calls all callbacks when a run has ended; then raises the first error of one of them."""
    errors = []
    for c in callbacks:
        try:
            c.on_end(result)
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _call_on_metrics(
    callbacks: list[Callback], late: tuple[Event, list[str]] | None, history: History
) -> bool:
    """Brings a chunk's metrics to the host, into the history and to the callbacks that wait for
    them there; returns whether the run is to stop."""
    if late is None:
        return False
    event, names = late
    # `device_get` may give views, each of which keeps a kilobyte of the device's buffer alive.
    metrics = nan_for_no_data(jax.tree.map(np.array, jax.device_get(event.metrics)))
    event = event._replace(metrics=metrics, state=None)
    history.add({name: metrics[name] for name in names})
    answers = [c.on_metrics(event) for c in callbacks]
    finished = ACTIVE in names and not metrics[ACTIVE].any()
    return finished or any(answer is True for answer in answers)
