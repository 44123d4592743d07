"""Runs that live for days: signals end them in good order, checkpoints come by the clock, and the
best evaluation is kept."""

import contextlib
import errno
import itertools
import json
import os
import pty
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg import sweep
from jaxpg.cli import common
from jaxpg.core import interrupt, pieces
from jaxpg.core.interrupt import AGAIN, SIGNALS, Interrupted, catch_signals, hand_on
from jaxpg.core.run import Callback
from jaxpg.experiment.callbacks import early_stop, progress, stop_at
from jaxpg.experiment.callbacks.evaluation import MEASURES
from jaxpg.experiment.files.atomic import CheckpointError
from jaxpg.experiment.run import checkpoint, saving
from tests.conftest import TINY, short_env, slow_of

pytestmark = pytest.mark.defaults

ITERATIONS, CHUNK, KEY = 12, 5, jax.random.key(3)
ASKED = {"chunk": CHUNK, "evaluations": 3, "episodes": 2, "checkpoints": 2, "keep": 2}
ROWS = ("metrics.csv", "evaluations.csv")


def train(out, *callbacks, key=KEY, **asked):
    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    asked = ASKED | {"total_steps": ITERATIONS * 100} | asked
    return jaxpg.run(jaxpg.q_learning, cfg, env, key, out=out, callbacks=callbacks, **asked)


def at(iteration, do):
    """A callback that does something at the end of the chunk of an iteration."""
    return lambda event: do() if event.iteration == iteration else None


def send(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    out = tmp_path_factory.mktemp("days") / "run"
    return train(out), out


def same_run(result, out, whole):
    """Rows, state and metrics are those of the run that was never stopped."""
    expected, folder = whole
    assert (result.stopped, result.iteration) == ("done", expected.iteration)
    for name in ROWS:
        assert (out / name).read_bytes() == (folder / name).read_bytes(), name
    same_state(result, whole)
    jax.tree.map(np.testing.assert_array_equal, result.metrics, expected.metrics)


def same_state(result, whole):
    jax.tree.map(same_bytes, result.state, whole[0].state)


def same_bytes(x, y):
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        x, y = jax.random.key_data(x), jax.random.key_data(y)
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture
def one_at_a_time(monkeypatch):
    """Every iteration takes long: chunks are run in pieces of one."""
    monkeypatch.setattr(pieces, "LONG", 0.0)
    monkeypatch.setattr("jaxpg.core.run.LONG", 0.0)


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_ends_a_run_in_good_order(number, whole, tmp_path, capsys):
    handlers = [signal.getsignal(x) for x in SIGNALS]
    out, name = tmp_path / "run", signal.Signals(number).name
    result = train(out, at(5, send(number)))
    assert (result.stopped, result.iteration, result.signal) == ("interrupt", 5, name)
    assert checkpoint.newest(out / "checkpoints") == 5
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["stopped"], summary["signal"]) == ("interrupt", name)
    assert f"{name}: stopping after this chunk; a second one stops" in capsys.readouterr().err
    assert handlers == [signal.getsignal(x) for x in SIGNALS]
    same_run(jaxpg.resume(out), out, whole)
    assert "signal" not in json.loads((out / "summary.json").read_text())


def test_a_signal_while_it_compiles_ends_a_run_before_its_first_iteration(
    whole, tmp_path, monkeypatch
):
    out, again, compile_ = tmp_path / "run", tmp_path / "again", pieces.run_chunk

    def slowly(*args):
        assert args[4] == 0, "nothing is trained any more"
        send(signal.SIGTERM)()
        return compile_(*args)

    with monkeypatch.context() as patched:
        patched.setattr(pieces, "run_chunk", slowly)
        result = train(out)
    assert (result.stopped, result.iteration, result.metrics) == ("interrupt", 0, {})
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        jaxpg.load(out)
    train(again, at(5, send(signal.SIGTERM)), log_every=2)
    rows = (again / "metrics.csv").read_bytes()  # the last is of iteration 5 alone
    with monkeypatch.context() as patched:
        patched.setattr(pieces, "run_chunk", slowly)
        result = jaxpg.resume(again)
    assert (result.stopped, result.iteration) == ("interrupt", 5)
    assert result.metrics["episode/return"].shape == (3,)
    assert (again / "metrics.csv").read_bytes() == rows
    same_state(jaxpg.resume(again), whole)
    same_run(jaxpg.resume(out), out, whole)


@pytest.mark.parametrize("stops", slow_of([(3, 11), range(1, ITERATIONS)], range(1, ITERATIONS)))
def test_a_signal_in_the_middle_of_a_long_chunk(stops, whole, tmp_path, one_at_a_time, monkeypatch):
    """It ends at an iteration that ends no chunk, and evaluations stay where they are."""
    for stop in stops:
        out, go, calls = tmp_path / f"run{stop}", pieces.run_chunk, itertools.count()

        def counted(*args, go=go, calls=calls, stop=stop):
            if next(calls) == stop:
                send(signal.SIGTERM)()
            return go(*args)

        with monkeypatch.context() as patched:
            patched.setattr(pieces, "run_chunk", counted)
            result = train(out)
        assert (result.stopped, result.iteration) == ("interrupt", stop)
        same_run(jaxpg.resume(out), out, whole)


def test_a_run_in_pieces_is_that_of_whole_chunks(whole, tmp_path, one_at_a_time):
    ends = []
    result = train(tmp_path / "run", lambda event: ends.append((event.iteration, event.whole)))
    assert ends == [(5, True), (10, True), (12, True)]
    same_run(result, tmp_path / "run", whole)


def test_chunks_end_where_they_would_have_after_one_that_was_cut(tmp_path, one_at_a_time):
    """A run with a target ends with the chunk after the one that reaches it, though a checkpoint by
    the clock has cut that."""
    wanted = iter([False, False, True])
    cut = Callback(due=lambda: next(wanted, False))
    ends = []
    see = lambda event: ends.append((event.iteration, event.whole))  # noqa: E731
    result = train(tmp_path / "run", cut, see, target=-1e9)
    assert ends == [(2, False), (5, True), (10, True)]
    assert (result.stopped, result.iteration) == ("callback", 10)


@pytest.mark.parametrize("guard", [stop_at, early_stop])
def test_what_ends_a_run_does_not_depend_on_the_pieces_of_a_chunk(guard, tmp_path, one_at_a_time):
    """The mean over a chunk is that of all its iterations, also where the clock has cut it."""
    values = np.arange(40.0)  # of iterations 1, 2, ...
    values[1::5] = 100.0  # the second of each chunk: it alone, or without it, decides otherwise
    values[25:] = 0.0

    def go(due):
        env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
        given = {"metric": "mine", "all_seeds": True}
        watch = guard(30.0, **given) if guard is stop_at else guard(1, **given)

        def mine(event):
            end, count = event.iteration, event.metrics["episode/count"].shape[-1]
            series = event.metrics | {"mine": values[end - count : end]}
            return watch.on_metrics(event._replace(metrics=series))

        callbacks = [Callback(on_metrics=mine, due=due)]
        result = jaxpg.core.run.run(
            jaxpg.q_learning, cfg, env, KEY, total_steps=4000, chunk=CHUNK, callbacks=callbacks
        )
        return result.stopped, result.iteration

    whole = go(lambda: False)
    assert whole[0] == "callback"
    rng = random.Random(0)
    for _ in range(4):
        assert go(lambda: rng.random() < 0.5) == whole


def test_of_a_chunk_in_which_a_run_was_resumed_no_mean_is_judged(tmp_path, one_at_a_time):
    """The iterations before are not there; a resumed run at the end of a chunk has all."""
    ends = {}
    for begun in (3, 5):
        out = tmp_path / str(begun)
        stop = lambda event, begun=begun: event.iteration == begun and send(signal.SIGTERM)()  # noqa: E731
        cut = Callback(on_chunk=stop, due=lambda: True)
        assert train(out, cut, total_steps=4000, checkpoints=40).iteration == begun
        stop = stop_at(0, "episode/count")
        ends[begun] = jaxpg.resume(out, callbacks=[stop]).iteration
    assert ends == {3: 15, 5: 15}


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_of_a_kind_stops_at_once(second, monkeypatch):
    """But not one that a launcher has handed on twice, nor another kind."""
    clock = itertools.count(0, 0.6 * AGAIN)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with catch_signals() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), second)
        os.kill(os.getpid(), second)
        assert signals.asked == signal.SIGUSR1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)


def test_a_signal_for_which_nobody_waits_ends_what_is_done():
    with catch_signals(wait=False) as outer:
        with catch_signals() as inner:
            assert inner is outer
            os.kill(os.getpid(), signal.SIGTERM)
        assert outer.asked == signal.SIGTERM
        with pytest.raises(Interrupted, match="SIGUSR1") as caught:
            os.kill(os.getpid(), signal.SIGUSR1)
    assert caught.value.number == signal.SIGUSR1
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_that_gets_lost_ends_the_next_run(number):
    """An exception in what Python calls itself, as while it collects garbage, goes nowhere."""
    lost = []

    class Object:
        def __del__(self):
            os.kill(os.getpid(), number)

    with catch_signals(wait=False) as outer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda told: lost.append(told.exc_type))
        Object()
        assert issubclass(lost[0], KeyboardInterrupt)
        with catch_signals() as inner:
            assert inner.asked == outer.asked == number


def test_a_handler_of_the_program_is_left_alone_or_called_afterwards():
    """As submitit has them for its jobs."""
    called = []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append("own"))
    try:
        with catch_signals() as signals:
            os.kill(os.getpid(), signal.SIGTERM)
        assert (called, signals.asked) == (["own"], 0)
        with hand_on([signal.SIGTERM]):
            with catch_signals() as signals:
                os.kill(os.getpid(), signal.SIGTERM)
                assert (called, signals.asked) == (["own"], signal.SIGTERM)
            assert len(called) == 1
        assert called == ["own", "own"]
        with hand_on([signal.SIGTERM]):
            os.kill(os.getpid(), signal.SIGTERM)
            assert len(called) == 3
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_than_the_main_one_catch_no_signals():
    seen, before = [], [signal.getsignal(x) for x in SIGNALS]

    def look():
        with catch_signals() as signals:
            seen.append((signals.asked, [signal.getsignal(x) for x in SIGNALS]))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(0, before)]
    assert interrupt._active is None


def test_a_signal_that_comes_after_the_last_look_is_not_lost(tmp_path):
    late = Callback(on_end=lambda result: send(signal.SIGTERM)())
    with pytest.raises(Interrupted, match="SIGTERM"):
        train(tmp_path / "run", late)
    assert jaxpg.resume(tmp_path / "run").stopped == "done"


class Gone:
    """Standard error of a terminal that was closed."""

    encoding = "utf-8"

    def __init__(self, terminal=True):
        self.isatty, self.tried = lambda: terminal, 0

    def write(self, text):
        self.tried += 1
        raise OSError(errno.EIO, "Input/output error")

    flush = write


@pytest.mark.parametrize("terminal", [False, True])
def test_a_closed_terminal_does_not_keep_a_run_from_its_end(terminal, tmp_path, monkeypatch):
    out, gone = tmp_path / "run", Gone(terminal)

    def close():
        monkeypatch.setattr(sys, "stderr", gone)
        send(signal.SIGHUP)()

    monkeypatch.setattr(threading, "excepthook", lambda args: None)  # the bar has a thread
    result = train(out, progress(), at(5, close))
    common.say("interrupted")
    monkeypatch.undo()
    assert gone.tried > 1
    assert (result.stopped, result.iteration, result.signal) == ("interrupt", 5, "SIGHUP")
    assert checkpoint.newest(out / "checkpoints") == 5
    with pytest.raises(OSError, match="No space"), common.lost_terminal():
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_run_that_ignores_hang_ups_goes_on(tmp_path):
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert train(tmp_path / "run", at(5, send(signal.SIGHUP))).stopped == "done"
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# A session of its own gets the terminal that it opens first.
IN_TERMINAL = """
import os, sys
os.open(sys.argv[1], os.O_RDWR)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.slow  # its quick twins send the signal, and fail to write, in this process
@pytest.mark.parametrize("nohup", [False, True])
def test_a_run_outlives_its_terminal(nohup, tmp_path):
    """It ends with a checkpoint when the terminal is closed, or goes on under `nohup`."""
    steps = 100 * (4000 if nohup else 10**7)
    line = f"-m jaxpg train q_learning Cliff-jaxpg --total-steps {steps} --chunk 20 --out run"
    command = [*["nohup"][:nohup], sys.executable, *line.split()]
    screen, terminal = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", IN_TERMINAL, os.ttyname(terminal), *command], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}, start_new_session=True,
        stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    rows, deadline = tmp_path / "run" / "metrics.csv", time.monotonic() + 200
    while not (rows.exists() and rows.stat().st_size) and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # `nohup` writes to a file
            if select.select([screen], [], [], 0.05)[0]:
                os.read(screen, 4096)
    os.close(screen)
    ended = child.wait(200)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    if nohup:
        assert (ended, summary["stopped"]) == (0, "done")
    else:
        assert (ended, summary["stopped"], summary["signal"]) == (129, "interrupt", "SIGHUP")
    assert checkpoint.newest(tmp_path / "run" / "checkpoints") == summary["iteration"]


def test_a_sweep_ends_in_good_order_too(tmp_path):
    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    points = sweep.grid(gamma=[0.9, 0.99])

    def go(out, *callbacks):
        return sweep.run(
            jaxpg.q_learning, cfg, env, KEY, points, total_steps=600, seeds=1, episodes=2, out=out,
            callbacks=callbacks, chunk=2, checkpoint_minutes=None, lanes=1,
        )  # fmt: skip

    expected = go(tmp_path / "whole")
    found = go(tmp_path / "run", at(2, send(signal.SIGTERM)))
    assert [part["over"] for part in found.about["parts"]] == [False, False]
    assert not (tmp_path / "run" / "parts" / "1").exists()
    found = sweep.resume(tmp_path / "run")
    for name in ("results.csv", "evaluations.csv", "scores.csv"):
        same = [(tmp_path / x / name).read_bytes() for x in ("whole", "run")]
        assert same[0] == same[1], name
    assert found.about["chunk"] == expected.about["chunk"] == 2
    part = json.loads((tmp_path / "run" / "parts" / "0" / "run.json").read_text())
    assert (part["chunk"], part["checkpoint_minutes"]) == (2, None)


# Checkpoints by the clock.


class Time:
    """A clock that goes on when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(saving.time, "monotonic", lambda: self.now)

    def wait(self, seconds):
        self.now += seconds


def test_when_a_checkpoint_is_due(monkeypatch):
    now = Time(monkeypatch)
    clock = saving._Clock(10)
    now.wait(59)
    assert not clock.due()
    now.wait(1)
    assert clock.due(), "one early"
    clock.take()
    now.wait(30)
    clock.written(clock.taken, 1)
    for _ in range(2):
        now.wait(570 - (now.now - clock.taken) - 1)
        assert not clock.due()
        now.wait(1)
        assert clock.due(), "sooner by as long as the last one was not on the disk"
        clock.take()
    clock = saving._Clock(0.1)
    now.wait(6)
    assert clock.due()
    clock.take()
    now.wait(60)  # it takes longer to write than is between two
    clock.written(clock.taken, 60)
    now.wait(59)
    assert not clock.due()
    now.wait(1)
    assert clock.due()
    assert not saving._Clock(None).due()


@pytest.mark.parametrize(("chunk", "write"), [(60, 2), (60, 40), (7, 40)])
def test_a_chunk_that_is_longer_than_the_interval_has_a_checkpoint(chunk, write, monkeypatch):
    """It waits a chunk for its rows, in which the run goes on: that is no time which it takes. What
    it does take is at most half of the run's."""
    now, clock, pending, taken, wrote, begun = Time(monkeypatch), saving._Clock(0.1), None, [], 0, 0
    for i in range(100):
        if i == 10:  # it knows by now how long one takes
            wrote, begun = 0, now.now
        now.wait(chunk)
        if clock.due():
            clock.take()
            taken.append(i)
        if pending is not None:  # the rows of the chunk before are there
            now.wait(write)
            wrote += write
            clock.written(pending, write)
        pending = clock.taken if taken[-1:] == [i] else None
    assert (taken == list(range(100))) == (chunk >= write)
    assert wrote / (now.now - begun) <= 0.5


def test_checkpoints_by_the_clock(whole, tmp_path, monkeypatch):
    now, kept = Time(monkeypatch), []
    folder = tmp_path / "run" / "checkpoints"

    def look(event):
        kept.append((event.iteration, checkpoint.finished(folder)))
        now.wait(40)

    see = Callback(on_metrics=look)
    result = train(tmp_path / "run", see, chunk=1, keep=9, checkpoints=1, evaluations=0)
    # A chunk takes 40 seconds, and metrics come one chunk late.
    assert checkpoint.finished(folder) == [12, 4], "after a minute one, at the end one"
    assert kept[4] == (5, [4])
    same_state(result, whole)
    again = tmp_path / "again"
    train(again, see, chunk=1, keep=9, checkpoints=1, evaluations=0, checkpoint_minutes=2)
    # On the disk 80 seconds after it was asked for: 40 seconds later it is time for the next.
    assert checkpoint.finished(again / "checkpoints") == [12, 11, 10, 9, 8, 7, 6, 4]
    train(tmp_path / "none", see, chunk=1, keep=9, checkpoints=1, checkpoint_minutes=None)
    assert checkpoint.finished(tmp_path / "none" / "checkpoints") == [12]


def test_a_long_chunk_is_cut_for_a_checkpoint(whole, tmp_path, one_at_a_time, monkeypatch):
    """And one that was killed then goes on to the byte."""
    now, go, ends = Time(monkeypatch), pieces.run_chunk, []

    def slow(*args):
        now.wait(35)
        return go(*args)

    monkeypatch.setattr(pieces, "run_chunk", slow)

    def die(event):
        ends.append((event.iteration, event.whole))
        if event.iteration == 5:
            raise MemoryError

    with pytest.raises(MemoryError):
        train(tmp_path / "run", die, checkpoint_minutes=1)
    # A minute from one to the next, of which its rows take 35 seconds.
    assert ends == [(1, False), (2, False), (3, False), (4, False), (5, True)]
    assert checkpoint.newest(tmp_path / "run" / "checkpoints") == 4
    assert jaxpg.load(tmp_path / "run").iteration == 4
    same_run(jaxpg.resume(tmp_path / "run"), tmp_path / "run", whole)


# The best evaluation.


@pytest.fixture
def best_at_five(monkeypatch):
    """Evaluations of two seeds whose mean is the highest at iteration 5."""
    values = {5: [-10.0, 4.0], 10: [-3.0, -4.0], 12: [3.0, -9.0]}

    def measure(event):
        return dict.fromkeys(MEASURES, np.zeros(2, np.float32)) | {
            "eval/greedy": np.float32(values[event.iteration])
        }

    return measure


def test_the_best_evaluation_is_kept_beside_the_newest(tmp_path, best_at_five):
    """By the mean of the seeds."""
    out, keys = tmp_path / "run", jax.random.split(KEY)
    result = train(
        out, best_at_five, key=keys, keep_best=True, keep=1, checkpoints=1, evaluations=1
    )
    assert checkpoint.finished(out / "checkpoints") == [12, 5]
    assert json.loads((out / "summary.json").read_text())["best"] == {"iteration": 5, "greedy": -3}
    best = jaxpg.load(out, best=True)
    assert (best.iteration, best.stopped, best.metrics["episode/count"].shape[-1]) == (5, "done", 5)
    assert jaxpg.load(out).iteration == result.iteration == 12
    assert jaxpg.Policy.load(out, best=True, seed=1).about["iteration"] == 5
    (out / "checkpoints" / "5" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="found none kept as the best, expected iteration 5"):
        jaxpg.load(out, best=True)


def test_which_is_the_best_is_known_after_a_stop(tmp_path, best_at_five):
    out, keys = tmp_path / "run", jax.random.split(KEY)
    asked = {"key": keys, "keep_best": True, "keep": 1, "checkpoints": 1, "evaluations": 1}
    train(out, best_at_five, at(10, send(signal.SIGTERM)), **asked)
    assert checkpoint.finished(out / "checkpoints") == [10, 5]
    assert jaxpg.load(out, best=True).iteration == 5
    jaxpg.resume(out, callbacks=[best_at_five])
    assert checkpoint.finished(out / "checkpoints") == [12, 5]


def test_without_it_no_checkpoint_is_the_best(whole):
    with pytest.raises(CheckpointError, match="found none kept as the best, expected a run with"):
        jaxpg.load(whole[1], best=True)


# What is long: processes that are sent signals, and killed, at any moment.

SECONDS = 0.04  # of a chunk, at least
PROGRAM = "from tests.test_days import serve; serve()"


def serve():
    """Trains what the lines of stdin say, and answers each when that has ended."""
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            with catch_signals(wait=False):
                long_run(*line.split())
                answer = "ended"
        except KeyboardInterrupt:  # outside of a run
            answer = "interrupted"
        print(answer, flush=True)


def long_run(what, folder, minutes="10"):
    """Trains `what` into a folder, slowly, in seconds."""
    asked = {
        "callbacks": [lambda event: time.sleep(SECONDS)], "out": folder,
        "checkpoint_minutes": float(minutes), "evaluations": 5, "episodes": 2, "checkpoints": 1,
    }  # fmt: skip
    if what == "sweep":
        cfg, points = jaxpg.q_learning.Config(), sweep.grid(gamma=[0.9, 0.99], num_envs=[1, 2])
        env = jaxpg.make("Cliff-jaxpg")
        sweep.run(
            jaxpg.q_learning, cfg, env, KEY, points, total_steps=3000, seeds=2, chunk=2, **asked
        )
    else:
        agent = getattr(jaxpg, what)
        cfg = agent.Config(**TINY[what])
        steps = 100 * agent.steps_per_iter(cfg)
        jaxpg.run(agent, cfg, short_env(agent, cfg), KEY, total_steps=steps, chunk=3, **asked)


class Child:
    """A process that serves, and is begun again if it has died."""

    process = None

    def ask(self, *words):
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[1], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            assert self.process.stdout.readline() == "ready\n"
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self):
        """Its answer, "" if it has died."""
        return self.process.stdout.readline().strip()

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def child():
    found = Child()
    yield found
    found.end()


def files(folder):
    """Bytes of all tables, and of the arrays in the newest checkpoints."""
    found = {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*.csv"))}
    for steps in folder.rglob("checkpoints"):
        newest = checkpoint.newest(steps)
        kept = checkpoint.arrays.read(steps / str(newest))
        arrays = [(name, np.asarray(x).tobytes()) for name, x in sorted(kept.items())]
        found[steps.relative_to(folder)] = newest, arrays
    return found


def is_begun(folder):
    return any((folder / name).exists() for name in ("run.json", "sweep.json"))


@pytest.mark.slow  # its quick twins send signals to this process
@pytest.mark.parametrize("what", ["ppo", "sac", "sweep"])
def test_sigterm_at_any_moment(what, child, tmp_path):
    """Ten of ten go on to the byte. The first comes while it compiles, or before."""
    rng, took, cut = random.Random(what), 3.0, 0
    long_run(what, tmp_path / "whole")
    expected = files(tmp_path / "whole")
    for i in range(10):
        if i == 1:  # how long it takes once it is compiled
            child.end()  # an import that was broken off is not made up for
            for again in ("compiled", "timed"):
                begun = time.monotonic()
                child.ask(what, tmp_path / again)
                assert child.answer() == "ended"
                took = 0.9 * (time.monotonic() - begun)
        folder = tmp_path / str(i)
        child.ask(what, folder)
        time.sleep(rng.uniform(0, took))
        child.process.terminate()
        child.answer()
        if not is_begun(folder):
            assert not folder.exists(), "nothing is left"
            continue
        ended = [json.loads(p.read_text())["stopped"] for p in folder.rglob("summary.json")]
        cut += "interrupt" in ended
        jaxpg.resume(folder)
        assert files(folder) == expected, i
    assert cut > 2, "some came while it was training"


@pytest.mark.slow  # its quick twin has a clock of its own
@pytest.mark.parametrize("seconds", [1, 2])
def test_sigkill_loses_no_more_than_the_interval(seconds, child, tmp_path):
    for i in range(3):
        folder = tmp_path / str(i)
        child.ask("ppo", folder, seconds / 60)
        rows, deadline = folder / "metrics.csv", time.monotonic() + 200
        while checkpoint.newest(folder / "checkpoints") is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(random.Random(i).uniform(0.2, 1) * seconds)
        child.end()
        assert child.process.returncode == -signal.SIGKILL
        done = checkpoint.newest(folder / "checkpoints")
        whole = rows.read_text().rpartition("\n")[0]
        reached = int(whole.splitlines()[-1].split(",")[1])
        # Three iterations take SECONDS at least; what is lost is what was done since.
        assert 0 <= (reached - done) / 3 * SECONDS <= seconds, (reached, done)
        written = (folder / "checkpoints" / str(done)).stat().st_mtime
        assert rows.stat().st_mtime - written <= seconds + 1
        assert jaxpg.resume(folder).stopped == "done"


def test_the_checkpoint_is_there_before_others_end(tmp_path):
    """A logger may wait for a network when it closes; a scheduler does not wait for it."""
    folder, seen = tmp_path / "run", []
    stop = Callback(
        on_chunk=lambda event: event.iteration == 5,
        on_end=lambda result: seen.append(checkpoint.newest(folder / "checkpoints")),
    )
    assert train(folder, stop, checkpoints=1, evaluations=0).stopped == "callback"
    assert seen == [5]
