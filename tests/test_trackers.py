"""Loggers as their users see them: what was written is read back, and is what the run measured.

One run of two seeds, which fails after its checkpoint and goes on from it, is written by all.
"""

import doctest
import inspect
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.core.run import Callback

CHUNK, ITERATIONS, STEPS = 2, 12, 100  # STEPS: of an iteration
SEEDS = ("seed-0", "seed-1")
NAME = "a run? #1 %20"  # of the folder: any will do
LOGGERS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}

Points = dict[str, dict[int, float]]  # metric -> env_steps -> value


def train(out, *callbacks, **asked):
    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    return jaxpg.run(
        jaxpg.q_learning, cfg, env, jax.random.split(jax.random.key(0), 2),
        total_steps=ITERATIONS * STEPS, chunk=CHUNK, callbacks=callbacks, out=out, **asked,
    )  # fmt: skip


def train_one_seed(*callbacks):
    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    return jaxpg.run(
        jaxpg.q_learning, cfg, env, jax.random.key(0), total_steps=ITERATIONS * STEPS, chunk=CHUNK,
        callbacks=callbacks,
    )  # fmt: skip


class Written(NamedTuple):
    out: Path
    expected: list[Points]  # of each seed
    failed: str  # what MLflow said of the run when it had failed
    addresses: list  # that were looked up, or connected to


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run that failed at iteration 10, when the checkpoint was of 8, and was resumed."""
    for package in LOGGERS.values():
        pytest.importorskip(package)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        out, seen = tmp_path_factory.mktemp("logs") / NAME, []
        addresses = watch_network(patch)

        def fail(event):
            if event.iteration == 10:
                raise RuntimeError("planted")

        with pytest.raises(RuntimeError, match="planted"):
            train(
                out, Callback(on_metrics=fail), log=tuple(LOGGERS), evaluations=3, episodes=2,
                checkpoints=3, tags=["probe"],
            )  # fmt: skip
        failed = store(out).get_run(children(out)[0].info.run_id).info.status
        result = jaxpg.resume(out, callbacks=[Callback(on_metrics=seen.append)])
        assert (seen[0].iteration, result.stopped) == (10, "done")
    return Written(out, [expect(out, result, seed) for seed in range(2)], failed, addresses)


def watch_network(patch) -> list:
    """A list to which every address is added that this process looks up, or connects to."""
    found, look_up, connect = [], socket.getaddrinfo, socket.socket.connect

    def note(host, *args, **more):
        found.append(host)
        return look_up(host, *args, **more)

    def note_connect(self, address):
        found.extend([] if self.family == socket.AF_UNIX else [address])
        return connect(self, address)

    patch.setattr(socket, "getaddrinfo", note)
    patch.setattr(socket.socket, "connect", note_connect)
    return found


def expect(out, result, seed) -> Points:
    """Means over chunks, written out, and the evaluations of the table."""
    points: Points = {}
    count = result.metrics["episode/count"][seed]
    for name, values in result.metrics.items():
        for i in range(0, ITERATIONS, CHUNK):
            part, weight = values[seed, i : i + CHUNK].astype(float), np.ones(CHUNK)
            if name.startswith("episode/") and name != "episode/count":
                weight = count[i : i + CHUNK]
            there = ~np.isnan(part) & (weight > 0)
            if there.any():
                mean = (part[there] * weight[there]).sum() / weight[there].sum()
                points.setdefault(name, {})[(i + CHUNK) * STEPS] = mean
    table = np.genfromtxt(out / "evaluations.csv", delimiter=",", names=True)
    for row in table[table["seed"] == seed]:
        for kind in ("greedy", "greedy_std", "sampled", "sampled_std"):
            if not np.isnan(row[kind]):
                points.setdefault(f"eval/{kind}", {})[int(row["env_steps"])] = row[kind]
    return points


def assert_same(found: Points, expected: Points):
    assert {name: [*x] for name, x in found.items()} == {n: [*x] for n, x in expected.items()}
    for name, points in expected.items():
        np.testing.assert_allclose([*found[name].values()], [*points.values()], rtol=1e-6)


def gather(triples) -> Points:
    """Points from (metric, env_steps, value); the same twice is an error."""
    points: Points = {}
    for name, step, value in triples:
        assert step not in points.setdefault(name, {}), (name, step)
        points[name][step] = value
    return points


@pytest.mark.slow
def test_there_is_something_to_compare(written):
    one, other = written.expected
    assert one != other
    assert [*one["eval/greedy"]] == [400, 800, 1200] or not one.get("eval/greedy")
    assert [*one["episode/count"]] == [200, 400, 600, 800, 1000, 1200]
    assert 0 in other["episode/count"].values() or len(other["episode/return"]) == 6


# TensorBoard.


@pytest.mark.parametrize("seed", [0, 1])
def test_tensorboard_shows_a_series_for_each_seed(written, seed):
    from tensorboardX.proto.event_pb2 import Event as Record
    from tensorboardX.proto.event_pb2 import SessionLog
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    shown, plugin = {}, []
    for path in sorted((written.out / "tensorboard" / SEEDS[seed]).iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            record = Record.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            if record.session_log.status == SessionLog.START:  # hides what was from here on
                shown = {key: x for key, x in shown.items() if key[1] < record.step}
            for value in record.summary.value:
                if value.metadata.plugin_data.plugin_name == "hparams":
                    content = value.metadata.plugin_data.content
                    plugin.append(HParamsPluginData.FromString(content))
                elif value.WhichOneof("value") == "simple_value":
                    assert (value.tag, record.step) not in shown
                    shown[value.tag, record.step] = value.simple_value
    found = gather((name, step, x) for (name, step), x in sorted(shown.items()))
    assert_same(found, dict(sorted(written.expected[seed].items())))
    start = next(x.session_start_info for x in plugin if x.HasField("session_start_info"))
    assert start.hparams["config.gamma"].number_value == jaxpg.q_learning.Config().gamma
    assert start.hparams["environment.name"].string_value == "Cliff-jaxpg"
    assert start.hparams["seed"].number_value == seed
    ends = [x.session_end_info.status for x in plugin if x.HasField("session_end_info")]
    assert ends == [2, 1]  # a failure, then a success


# Weights & Biases.


def wandb_records(path):
    """The records of an offline file, which a process of its own closes a little later."""
    deadline = time.monotonic() + 60
    while True:
        records = list(read_records(path))
        if any(x.WhichOneof("record_type") == "exit" for x in records):
            return records
        assert time.monotonic() < deadline, path
        time.sleep(0.1)


def read_records(path):
    """The records of an offline file: protocol buffers in LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    assert data[:4] in (b":W&B", b"")
    at, whole = 7, b""
    while at + 7 <= len(data):
        if 2**15 - at % 2**15 < 7:  # no header fits into the rest of the block
            at += 2**15 - at % 2**15
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of a record, or its last part
            yield Record.FromString(whole)
            whole = b""


def offline_files(folder, series, count):
    """So many offline files of a series, which a process of its own makes a little later."""
    deadline = time.monotonic() + 60
    while (
        len(found := sorted(Path(folder, "wandb").glob(f"offline-run-*-{series}/*.wandb"))) < count
    ):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert len(found) == count
    return found


def test_wandb_shows_a_series_for_each_seed(written):
    for seed, expected in enumerate(written.expected):
        # Of the run that failed, and of the one that went on.
        files = offline_files(written.out, SEEDS[seed], 2)
        points, ids, exits, summary = [], set(), [], {}
        for path in files:
            for record in wandb_records(path):
                kind = record.WhichOneof("record_type")
                if kind == "run":
                    ids.add((record.run.run_id, record.run.run_group, record.run.project))
                    assert [*record.run.tags] == ["probe"]
                    named = {x.key: json.loads(x.value_json) for x in record.run.config.update}
                elif kind == "history":
                    items = {
                        x.key or ".".join(x.nested_key): json.loads(x.value_json)
                        for x in record.history.item
                    }
                    step = items.pop("_step")
                    points += [(n, step, x) for n, x in items.items() if not n.startswith("_")]
                elif kind == "exit":
                    exits.append(record.exit.exit_code)
                elif kind == "summary":
                    summary |= {
                        x.key or ".".join(x.nested_key): json.loads(x.value_json)
                        for x in record.summary.update
                    }
        found = {name: gather(points)[name] for name in sorted(gather(points))}
        assert_same(found, dict(sorted(expected.items())))
        ((run, group, project),) = ids
        assert (run.endswith(SEEDS[seed]), group, project) == (True, NAME, "jaxpg")
        assert exits == [1, 0]
        assert named["config"]["gamma"] == jaxpg.q_learning.Config().gamma
        assert (named["environment"]["name"], named["seed"]) == ("Cliff-jaxpg", seed)
        assert (summary["stopped"], summary["env_steps"]) == ("done", 1200)


def test_wandb_never_writes_over_a_run_of_the_same_second(tmp_path):
    """A run that goes on at once has the id of the one before it, and perhaps its folder's name."""
    pytest.importorskip("wandb")
    for second in range(2):
        name = time.strftime("offline-run-%Y%m%d_%H%M%S-mine", time.localtime(time.time() + second))
        folder = tmp_path / "wandb" / name
        folder.mkdir(parents=True)
        (folder / "run-mine.wandb").write_text("what was written before")
    train_one_seed(jaxpg.callbacks.wandb(tmp_path, id="mine"))
    *before, own = offline_files(tmp_path, "mine", 3)
    assert [path.read_text() for path in before] == ["what was written before"] * 2
    assert any(x.WhichOneof("record_type") == "history" for x in wandb_records(own))


# MLflow.


def store(out):
    from mlflow import MlflowClient
    from sqlalchemy import URL

    url = URL.create("sqlite+pysqlite", database=str(out / "mlflow" / "mlflow.db"))
    return MlflowClient(tracking_uri=url.render_as_string())


def children(out):
    client = store(out)
    home = client.get_experiment_by_name("jaxpg").experiment_id
    return sorted(
        (run for run in client.search_runs([home]) if "mlflow.parentRunId" in run.data.tags),
        key=lambda run: run.info.run_name,
    )


def test_mlflow_shows_a_series_for_each_seed(written):
    client = store(written.out)
    runs = children(written.out)
    assert [run.info.run_name for run in runs] == [*SEEDS]
    for run, expected in zip(runs, written.expected, strict=True):
        found = gather(
            (name, point.step, point.value)
            for name in sorted(run.data.metrics)
            for point in client.get_metric_history(run.info.run_id, name)
        )
        assert_same(found, dict(sorted(expected.items())))
        assert run.info.status == "FINISHED"
        assert float(run.data.params["config.gamma"]) == jaxpg.q_learning.Config().gamma
        assert run.data.params["environment.name"] == "Cliff-jaxpg"
        assert run.data.tags["jaxpg.stopped"] == "done"
        assert json.loads(run.data.params["tags"]) == ["probe"]
    assert [run.data.params["seed"] for run in runs] == ["0", "1"]
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in runs}
    parent = client.get_run(parent)
    assert (parent.info.run_name, parent.info.status) == (NAME, "FINISHED")
    last = [expected["eval/sampled"][1200] for expected in written.expected]
    assert parent.data.metrics["eval/sampled"] == pytest.approx(np.mean(last))
    assert written.failed == "FAILED"


def test_the_record_has_the_names_and_nothing_lies_beside_the_folder(written):
    assert [path.name for path in written.out.parent.iterdir()] == [NAME]
    record = json.loads((written.out / "run.json").read_text())
    assert record["log"] == [*LOGGERS]
    assert len(record["log_id"]) == 16


# Both.


def test_nothing_leaves_the_machine(written):
    assert written.addresses == []
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"  # which pytest has switched off anyway
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"


@pytest.mark.slow
def test_nothing_leaves_the_machine_of_a_user(tmp_path):
    """In a process that does not look like a test; by the system's own account, if it gives one."""
    code = """
import pytest, time
from tests.test_trackers import LOGGERS, train, watch_network
found = watch_network(pytest.MonkeyPatch())
train("run", log=tuple(LOGGERS))
time.sleep(5)
print(found)
"""
    hidden = ("CI", "PYTEST", "WANDB", "MLFLOW", "GITHUB")
    env = {name: x for name, x in os.environ.items() if not name.startswith(hidden)}
    trace, command = tmp_path / "trace", [sys.executable, "-c", code]
    if shutil.which("strace"):
        command = ["strace", "-f", "-qq", "-e", "trace=connect", "-o", str(trace), *command]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=500,
        env=env | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    said = trace.read_text().splitlines() if trace.exists() else []
    assert [line for line in said if "AF_INET" in line] == []


@pytest.mark.parametrize("mode", ["onlne", "dryrun"])
def test_a_mode_that_there_is_not_is_refused(tmp_path, monkeypatch, mode):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(ValueError, match=f"mode='{mode}' .or WANDB_MODE.: allowed is one"):
        train(tmp_path / "run", log=["wandb"])
    assert not (tmp_path / "run").exists()


def test_an_error_of_the_store_is_a_warning(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    (tmp_path / "mlflow").write_text("a file where the store's folder was to be")
    log = jaxpg.callbacks.mlflow(tmp_path)
    with pytest.warns(UserWarning, match="MLflow: points are not logged: FileExistsError") as said:
        assert train(None, log).stopped == "done"
    assert len(said) == 1


def test_an_interrupted_run_is_one_there_too(tmp_path, monkeypatch):
    """And the environment's words count."""
    wandb = pytest.importorskip("wandb")
    import signal

    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_MODE", "offline")

    def interrupt(event):
        if event.iteration == 4:
            signal.raise_signal(signal.SIGINT)

    log = jaxpg.callbacks.wandb(tmp_path, name="one", config={"a": 1})
    result = train_one_seed(log, interrupt)
    assert (result.stopped, wandb.run) == ("interrupt", None)
    (path,) = Path(tmp_path, "wandb").glob("offline-run-*/*.wandb")
    records = wandb_records(path)
    runs = [x.run for x in records if x.WhichOneof("record_type") == "run"]
    assert {(x.display_name, x.project, x.run_group) for x in runs} == {("one", "mine", "")}
    exits = [x.exit.exit_code for x in records if x.WhichOneof("record_type") == "exit"]
    assert exits == [130]


@pytest.mark.slow
def test_a_sweep_shows_a_series_for_every_config_and_seed(tmp_path, monkeypatch):
    """In two parts, the second of which is stopped and goes on."""
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out, calls = tmp_path / "sweep", []

    def stop(event):
        calls.append(event.iteration)
        if calls.count(6) == 2:
            raise RuntimeError("planted")

    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    points = jaxpg.sweep.grid(learning_rate=[0.1, 0.5])
    with pytest.raises(RuntimeError, match="planted"):
        jaxpg.sweep.run(
            jaxpg.q_learning, cfg, env, jax.random.key(0), points, total_steps=ITERATIONS * STEPS,
            seeds=2, lanes=2, episodes=2, out=out, loggers=tuple(LOGGERS), callbacks=[stop],
        )  # fmt: skip
    found = jaxpg.sweep.resume(out)
    names = [f"config-{c}-seed-{s}" for c in range(2) for s in range(2)]
    assert sorted(path.name for path in (out / "tensorboard").iterdir()) == names
    runs = children(out)
    assert [run.info.run_name for run in runs] == names
    rates = [float(run.data.params["config.learning_rate"]) for run in runs]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.5, 0.5], rtol=1e-6)
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs}) == 1
    for i, name in enumerate(names):
        table = found.table.query(f"config == {i // 2} and seed == {i % 2}")
        counts = dict(zip(table["env_steps"], table["episode/count"], strict=True))
        history = store(out).get_metric_history(runs[i].info.run_id, "episode/count")
        assert [point.step for point in history] == [*counts]  # once, and all of them
        assert [point.value for point in history] == [*counts.values()]
        steps, rate = [], None
        for path in offline_files(out, name, 1 + i // 2):  # the second part went on
            for record in wandb_records(path):
                if record.WhichOneof("record_type") == "history":
                    steps.append(record.history.step.num)
                elif record.WhichOneof("record_type") == "run":
                    assert record.run.run_group == "sweep"
                    named = {x.key: json.loads(x.value_json) for x in record.run.config.update}
                    rate = named["config"]["learning_rate"]
        assert steps == [*counts]
        assert rate == pytest.approx(rates[i])


def test_loggers_of_a_sweep_need_a_folder_and_have_names():
    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    points, key = jaxpg.sweep.grid(learning_rate=[0.1]), jax.random.key(0)
    asked = {"total_steps": 100, "seeds": 1}
    with pytest.raises(ValueError, match=r"loggers=.*: allowed only with a folder"):
        jaxpg.sweep.run(
            jaxpg.q_learning, cfg, env, key, points, loggers=["tensorboard"], **asked
        )  # fmt: skip
    with pytest.raises(ValueError, match="unknown logger 'wb'"):
        jaxpg.sweep.run(jaxpg.q_learning, cfg, env, key, points, loggers=["wb"], **asked)


# MLflow makes a store for it, which takes seconds.
SLOW = {"mlflow": pytest.mark.slow}
FACE = [pytest.param(x, marks=SLOW.get(x, ())) for x in jaxpg.callbacks.__all__]


@pytest.mark.parametrize("name", FACE)
def test_every_callback_has_types_and_an_example_that_runs(name, tmp_path, monkeypatch):
    value = getattr(jaxpg.callbacks, name)
    if not inspect.isclass(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is jaxpg.Callback
        assert all(p.annotation is not p.empty for p in signature.parameters.values())
    if name in LOGGERS:
        pytest.importorskip(LOGGERS[name])
    monkeypatch.chdir(tmp_path)
    said, known = [], {"jax": jax, "jaxpg": jaxpg, "os": os}
    test = doctest.DocTestParser().get_doctest(value.__doc__, known, name, None, 0)
    assert test.examples or inspect.isclass(value)
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    assert said == []
