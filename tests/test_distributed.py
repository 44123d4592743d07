"""Two processes on this machine, one device each, against one process."""

import contextlib
import filecmp
import json
import os
import pickle
import random
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.core.parallel.processes import _pack_error, agree_on_errors

pytestmark = pytest.mark.defaults

CODE = """
import os, pickle, shutil, signal, sys
from pathlib import Path
import jax, numpy as np
import jaxpg
process, processes, address, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
folder = Path(folder)
jaxpg.use_all_cores(2 // processes)
if processes > 1:
    jaxpg.distributed(address, processes, process)
from jaxpg import cli
from jaxpg.core.parallel.processes import agree_on_errors, broadcast_from_main, replicate
from jaxpg.experiment.files.lock import claim, hold
from jaxpg.experiment.files.rows import Rows

env, key = jaxpg.make("CartPole-v1"), jax.random.key(0)
cfg = jaxpg.ppo.Config(num_envs=4, num_steps=16, hidden=(8,), normalize_obs=True,
                       normalize_reward=True, learning_rate_schedule="constant")

one_run = jaxpg.ppo, cfg, env
many_runs = (jaxpg.q_learning, jaxpg.q_learning.Config(num_envs=4, num_steps=16),
             jaxpg.make("Cliff-jaxpg"))  # which compiles at once

def run(out, iterations=10, key=key, what=one_run, **options):
    options = {"chunk": 4, "evaluations": 2, "episodes": 4, "checkpoints": 2} | options
    return jaxpg.run(*what, key, total_steps=64 * iterations,
                     out=out and folder / out, **options)

found = {}
result = run("parallel", data_parallel=True)
found["params"] = jax.device_get(result.state.params)
# Many collectives, close together; it is stopped and goes on within a block of iterations.
result = run("seeds", 4, jax.random.split(key, 4), many_runs, chunk=1, log_every=3)
if processes > 1:
    def copy():
        short, gap = (shutil.copytree(folder / "seeds", folder / x) for x in ("short", "gap"))
        table = short / "process-1" / "metrics.csv"
        table.write_bytes(table.read_bytes()[:-1])
        # A kill came before process 1 wrote its rows; what it has on record is there.
        Rows(gap / "process-1", ("metrics.csv",), 0, "run")
    broadcast_from_main(copy)
result = jaxpg.resume(folder / "seeds", total_steps=64 * 10)
found["metrics"] = result.metrics
found["seeds"] = jax.device_get(replicate(result.state.params))

if processes > 1:  # what one of them does or meets, all know of
    def stop(event):
        return process == 1 and event.iteration >= 4

    def send(number):
        def interrupt(event):
            if process == 1 and event.iteration == 4:
                os.kill(os.getpid(), number)
        return interrupt

    ways = {"callback": stop, "interrupt": send(signal.SIGINT), "SIGTERM": send(signal.SIGTERM)}
    for name, callback in ways.items():
        result = run(None, key=key, data_parallel=True, callbacks=[callback])
        found[name] = result.stopped, result.iteration, result.signal
    for name, options in {
        "occupied": {"out": "seeds", "data_parallel": True},
        "one key": {"out": "new"},
        "3 seeds": {"out": "new", "key": jax.random.split(key, 3)},
    }.items():
        try:
            run(**options)
        except ValueError as error:
            found[name] = str(error)
    jaxpg.resume(folder / "gap", total_steps=64 * 10)

    def meet(name, f):
        try:
            f()
        except Exception as error:
            found[name] = f"{type(error).__name__} {error}"

    def boom(event=None):
        if process == 1:
            raise KeyError("boom")

    def boom_together():
        with agree_on_errors():
            boom()

    begin = {"callbacks": [jaxpg.Callback(on_begin=boom)], "data_parallel": True}
    meet("a short table", lambda: jaxpg.resume(folder / "short", total_steps=64 * 10))
    meet("a context", boom_together)
    meet("a callback", lambda: run(None, **begin))
    logged = {"out": "logged", "data_parallel": True, "log": ["tensorboard"]}
    run(**logged, callbacks=[stop])
    package = sys.modules.get("tensorboardX")
    for which in (0, 1):
        if process == which:
            sys.modules["tensorboardX"] = None
        meet(f"no package on {which}", lambda: run(**logged | {"out": "new"}))
        if which == 0:
            meet("no package to resume", lambda: jaxpg.resume(folder / "logged"))
            line = "train ppo CartPole-v1 --total-steps 64 --log tensorboard --data-parallel"
            line += f" --coordinator {address} --processes 2 --process {process} --out {folder}/new"
            found["command"] = cli.main(line.split())
        sys.modules.pop("tensorboardX", None)
        if package:
            sys.modules["tensorboardX"] = package
    found["nothing new"] = not (folder / "new").exists()
    with hold(folder / "held", new=True):
        try:
            hold(folder / "held").__enter__()
        except ValueError as error:
            found["held"] = str(error)
    with claim(folder / "claimed") as found["claimed"]:
        pass
    found["from first"] = broadcast_from_main(lambda: f"process {process}")
(folder / f"found-{process}").write_bytes(pickle.dumps(found))
"""


def go(process, processes, address, folder) -> subprocess.CompletedProcess:
    arguments = [str(process), str(processes), address, str(folder)]
    command = [sys.executable, "-c", CODE, *arguments]  # a timeout kills: SIGTERM may be ignored
    return subprocess.run(command, timeout=600, capture_output=True, text=True)


def free_port(first: int = 0, count: int = 1) -> int:
    """One of `count` ports from `first` on; any at all of port 0."""
    for port in random.sample(range(first, first + count), count):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    raise OSError(f"none of {count} ports from {first} on is free")


# They start three processes. The quick twin is two devices of one process, in test_devices.py.
joined = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What one process with two devices wrote, and two with one each."""
    pytest.importorskip("tensorboardX")
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    address = f"127.0.0.1:{free_port()}"
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(go, i, 2, address, two) for i in (0, 1)]
        jobs += [pool.submit(go, 0, 1, address, one)]
        for job in jobs:
            done = job.result()
            assert done.returncode == 0, done.stderr[-3000:]
    return one, two


@pytest.fixture(scope="module")
def found(folders):
    """Of one process, and of both of two."""
    one, two = folders
    paths = one / "found-0", two / "found-0", two / "found-1"
    return [pickle.loads(path.read_bytes()) for path in paths]


@joined
@pytest.mark.parametrize("what", ["params", "seeds", "metrics"])
def test_two_processes_have_the_same_and_what_one_has(what, found):
    one, first, second = (jax.tree.leaves(f[what]) for f in found)
    for x, y, z in zip(one, first, second, strict=True):
        np.testing.assert_array_equal(y, z)
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


@joined
def test_the_run_folder_is_that_of_one_process(folders):
    """With seeds over the devices nothing is added up across them: to the byte."""
    one, two = (folder / "seeds" for folder in folders)
    files = ("run.json", "metrics.csv", "evaluations.csv")
    assert filecmp.cmpfiles(one, two, files, shallow=False) == (list(files), [], [])
    assert json.loads((two / "summary.json").read_text())["iteration"] == 10
    a, b = jaxpg.load(one), jaxpg.load(two)  # in this one process, with one device
    assert a.iteration == b.iteration == 10
    for x, y in zip(jax.tree.leaves(a.state.params), jax.tree.leaves(b.state.params), strict=True):
        np.testing.assert_array_equal(x, y)
    assert not any((two / "parallel").glob("process-*"))  # every process has all of it


@joined
def test_each_process_writes_the_metrics_of_its_own_seeds(folders):
    two = folders[1] / "seeds"
    header, *rows = (two / "metrics.csv").read_text().splitlines()
    for process, seeds in enumerate((("0", "1"), ("2", "3"))):
        own = (two / f"process-{process}" / "metrics.csv").read_text().splitlines()
        assert own == [header, *(row for row in rows if row.split(",")[0] in seeds)]
        assert [int(row.split(",")[1]) for row in own[1::2]] == [3, 6, 9, 10]


@joined
@pytest.mark.parametrize(
    ("how", "stopped", "signal"),
    [
        ("callback", "callback", None),
        ("interrupt", "interrupt", "SIGINT"),
        ("SIGTERM", "interrupt", "SIGTERM"),
    ],
)
def test_processes_stop_together(how, stopped, signal, found):
    """Though only the second one was told to."""
    assert found[1][how] == found[2][how]
    assert found[1][how] == (stopped, 4, signal)


@joined
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("a short table", r"RowsError process 1: \S*short/process-1/metrics\.csv: found .* expect"),
        ("a context", "KeyError 'process 1: boom'"),
        ("a callback", "KeyError 'process 1: boom'"),
        ("no package on 0", r"ImportError process 0: TensorBoard needs .*jaxpg\[tensorboard\]"),
        ("no package on 1", r"ImportError process 1: TensorBoard needs .*jaxpg\[tensorboard\]"),
        ("no package to resume", r"ImportError process 0: TensorBoard needs .*\[tensorboard\]"),
    ],
)
def test_what_one_process_meets_before_the_loop_all_raise(case, words, found):
    """So none waits for another that is gone. The sentence says which it was."""
    assert re.match(words, found[1][case]), found[1][case]
    assert found[1][case] == found[2][case]
    assert found[1]["command"] == found[2]["command"] == 2
    assert found[1]["nothing new"]


@joined
def test_a_gap_in_the_table_of_a_process_is_filled(folders):
    """From the table of all seeds, by the process that goes on."""
    for process in (0, 1):
        whole, gap = (folders[1] / x / f"process-{process}" for x in ("seeds", "gap"))
        assert (gap / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


class Odd(Exception):
    """An error that can be pickled and not read again."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def test_an_error_that_cannot_be_sent_is_sent_in_words():
    sent = pickle.loads(_pack_error(Odd(1, 2)))
    assert (type(sent), str(sent)) == (RuntimeError, "Odd: 1 and 2")
    assert str(pickle.loads(_pack_error(OSError(2, "none", "here")))) == "[Errno 2] none: 'here'"
    with pytest.raises(Odd, match="1 and 2"), agree_on_errors():
        raise Odd(1, 2)


@joined
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("occupied", "holds a run"),
        ("held", "is held by process "),
        ("one key", "one key on 2 processes: allowed is data_parallel=True"),
        ("3 seeds", "3 seeds: allowed is a multiple of 2, the processes"),
    ],
)
def test_processes_fail_together(case, words, found):
    assert words in found[1][case]
    assert found[1][case] == found[2][case]


@joined
def test_what_the_first_says_all_hear(found):
    assert found[1]["from first"] == found[2]["from first"] == "process 0"
    assert found[1]["claimed"].name == found[2]["claimed"].name == "claimed"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("127.0.0.1", 2, 0), "coordinator='127.0.0.1': allowed is HOST:PORT"),
        ((None, 2, 0), "coordinator=None: allowed is HOST:PORT"),
        (("127.0.0.1:1", 0, 0), "processes=0: allowed is an integer >= 1"),
        (("127.0.0.1:1", None, 0), "processes=None: allowed is an integer >= 1"),
        (("127.0.0.1:1", 2, 2), "process=2: allowed is an integer >= 0 and < 2"),
        (("127.0.0.1:1", 2, None), "process=None: allowed is an integer >= 0 and < 2"),
    ],
)
def test_what_cannot_be_joined(arguments, words):
    with pytest.raises(ValueError, match=words):
        jaxpg.distributed(*arguments)


JOIN = """
import jax, jaxpg
jaxpg.distributed()
print(jax.process_index(), jax.process_count(), len(jax.devices()), flush=True)
jax.distributed.shutdown()
"""


def test_slurm_says_who_takes_part():
    """JAX makes the coordinator's port of the job's number: one of the 4096 from 61440 on."""
    job = {"JOB_ID": free_port(61440, 4096) - 61440, "STEP_NODELIST": "localhost", "NTASKS": 2}

    def task(process: int) -> str:
        own = job | {"PROCID": process, "LOCALID": process}
        env = os.environ | {f"SLURM_{name}": str(value) for name, value in own.items()}
        command = [sys.executable, "-c", JOIN]
        done = subprocess.run(command, env=env, timeout=120, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.splitlines()[-1]

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(task, range(2))) == ["0 2 2", "1 2 2"]


def test_experiments_that_share_nothing(tmp_path):
    """Each in a process of its own, in order; a failure does not keep the others from ending."""
    pytest.importorskip("submitit")
    done = tmp_path / "done"
    done.mkdir()

    def square(x: int) -> int:
        if x == 2:
            raise ValueError("two is not liked")
        (done / str(x)).touch()
        return x * x

    options = {"cluster": "local", "timeout_min": 5, "at_once": 2}
    assert jaxpg.fan_out(square, [3, 1], tmp_path / "good", **options) == [9, 1]
    with pytest.raises(RuntimeError, match=r"1 of 3 jobs failed.*2: ValueError: two is not liked"):
        jaxpg.fan_out(square, [1, 2, 4], tmp_path / "bad", **options)
    assert {path.name for path in done.iterdir()} == {"1", "3", "4"}


@pytest.mark.slow  # its quick twin hands a signal on in one process
def test_a_job_that_makes_room_is_queued_again_and_goes_on(tmp_path):
    """Its run ends at submitit's signal, and submitit's own handler is called then."""
    pytest.importorskip("submitit")

    def train(out) -> tuple[int, str]:
        if (out / "run.json").exists():
            before = jaxpg.load(out)
            return before.iteration, before.stopped, jaxpg.resume(out).iteration

        def make_room(event):
            if event.iteration == 4:
                os.kill(os.getpid(), signal.SIGUSR2)

        env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
        jaxpg.run(
            jaxpg.q_learning, cfg, env, jax.random.key(0), total_steps=1000, chunk=2, out=out,
            callbacks=[make_room], evaluations=0,
        )  # fmt: skip

    found = jaxpg.fan_out(train, [tmp_path / "run"], tmp_path / "jobs", cluster="local")
    assert found == [(4, "interrupt", 10)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cluster": "slrum"}, "cluster='slrum': allowed is one of"),
        ({"at_once": 0}, "at_once=0: allowed is an integer >= 1"),
    ],
)
def test_what_cannot_be_fanned_out(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        jaxpg.fan_out(abs, [1], tmp_path, **options)
