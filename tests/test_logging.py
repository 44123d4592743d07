"""Callbacks: what they write, to the byte, and when they speak up."""

import json
import struct
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core.run import Callback, Event, run
from jaxpg.experiment.callbacks.evaluation import evaluation
from jaxpg.experiment.callbacks.guards import (
    NonFiniteError,
    early_stop,
    finite_leaves,
    nan_guard,
    stop_at,
)
from jaxpg.experiment.callbacks.metrics import metrics_files
from jaxpg.experiment.callbacks.progress import progress
from jaxpg.experiment.callbacks.series import Backend, Series, log_series
from jaxpg.experiment.callbacks.tensorboard import tensorboard
from jaxpg.experiment.text import format_count

NAN = np.nan
STEPS = 10  # environment steps of an iteration, in the made-up events


def event(iteration, num_iters=10, state=None, measured=None, **metrics):
    """An Event whose chunk ends at `iteration`; metrics are [chunk] or [seeds, chunk]."""
    metrics = {name.replace("_", "/"): np.array(m) for name, m in metrics.items()}
    return Event(iteration, num_iters, iteration * STEPS, metrics | (measured or {}), state, 0.0)


def episodes(iteration, returns, counts, **more):
    returns, counts = np.array(returns, np.float32), np.array(counts, np.int32)
    return event(iteration, episode_return=returns, episode_count=counts, **more)


def read(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# Files.


def test_a_row_per_iteration_and_seed(tmp_path):
    write = metrics_files(tmp_path, formats=("csv", "jsonl")).on_metrics
    write(episodes(2, [[NAN, 0.1], [1e-5, 1e20]], [[0, 3], [1, 2]]))
    write(episodes(3, [[7], [np.inf]], [[1], [1]], measured={"eval/greedy": np.ones(2)}))
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header == "seed,iteration,env_steps,episode/count,episode/return"
    assert rows == [
        "0,1,10,0,", "1,1,10,1,1e-05", "0,2,20,3,0.1", "1,2,20,2,1e+20", "0,3,30,1,7.0",
        "1,3,30,1,inf",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "seed": 0, "iteration": 1, "env_steps": 10, "episode/count": 0, "episode/return": None,
    }  # fmt: skip
    assert [line["episode/return"] for line in lines[1:]] == [1e-5, 0.1, 1e20, 7, None]


def test_without_seeds_there_is_seed_0(tmp_path):
    metrics_files(tmp_path).on_metrics(episodes(2, [1, 2], [1, 1]))
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows[1:] == ["0,1,10,1,1.0", "0,2,20,1,2.0"]


def test_the_text_of_a_float_gives_it_again(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, 2000, np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    metrics_files(tmp_path).on_metrics(episodes(len(values), values, values * 0))
    rows = (tmp_path / "metrics.csv").read_text().splitlines()[1:]
    texts = [row.split(",")[-1] for row in rows]
    assert np.array_equal(np.array(texts, np.float32), values)
    assert max(map(len, texts)) == len("-1.23456789e-38")  # the digits that float32 needs


def test_files_do_not_depend_on_the_chunk(tmp_path):
    returns, counts = np.arange(8.0).reshape(2, 4), np.ones((2, 4))
    for chunks in ([4], [1, 3], [2, 1, 1]):
        folder, end = tmp_path / str(chunks), 0
        folder.mkdir()
        write = metrics_files(folder, formats=("csv", "jsonl")).on_metrics
        for chunk in chunks:
            end += chunk
            write(episodes(end, returns[:, end - chunk : end], counts[:, end - chunk : end]))
    assert len({str(read(folder)) for folder in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize(
    "torn", [b"", b"0,", b"0,5,50,1,1.", b"1,5,50,1,1.0\n", b'{"seed": 0, "it']
)
def test_a_run_goes_on_where_its_files_are_cut_off(tmp_path, torn):
    parts = [episodes(end, [[end, end], [1, NAN]], [[1, 1], [1, 0]]) for end in (2, 4, 6)]
    measured = {"eval/greedy": np.ones(2), "eval/greedy_std": np.zeros(2)}
    parts = [part._replace(metrics=part.metrics | measured) for part in parts]

    def write(parts, iteration):
        files = metrics_files(tmp_path, iteration, formats=("csv", "jsonl"))
        rows = evaluation(None, None, None, None, 2, folder=tmp_path, iteration=iteration)
        for part in parts:
            files.on_metrics(part)
            rows.on_metrics(part)

    write(parts, 0)
    whole = read(tmp_path)
    assert len(whole) == 3
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes() + torn)
    write(parts[1:], 2)
    assert read(tmp_path) == whole
    for path in tmp_path.iterdir():  # "0,1" was to be iteration 13
        path.unlink()
    write(parts[:1], 0)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes() + b"0,1")
    write(parts[1:], 2)
    assert read(tmp_path) == whole


def test_writing_is_cheap(tmp_path):
    import time

    wide = {f"loss_{i}": np.ones((16, 1000), np.float32) / 3 for i in range(10)}
    write = metrics_files(tmp_path, formats=("csv", "jsonl")).on_metrics
    begun = time.process_time()
    write(event(1000, num_iters=1000, **wide))
    assert time.process_time() - begun < 2  # measured: 0.25 s


# Evaluation.

CFG = jaxpg.ppo.Config(num_envs=2, num_steps=4, hidden=(4,), minibatches=1, num_epochs=1)
CHUNK = 3


def environment():
    return jaxpg.make("CartPole-v1", max_steps_in_episode=40)


def keys():
    return jax.random.split(jax.random.key(3), 2)


def go(*callbacks, cfg=CFG, iterations=13, **more):
    steps = iterations * 8
    return run(
        jaxpg.ppo, cfg, environment(), keys(),
        total_steps=steps, callbacks=callbacks, chunk=CHUNK, **more,
    )  # fmt: skip


def evaluations(folder, iteration=0, every=5):
    return evaluation(
        jaxpg.ppo, CFG, environment(), keys(), every, 64, folder, iteration
    )  # fmt: skip


def test_evaluations_are_due_by_absolute_iterations_and_a_resumed_run_has_the_same(tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    resumed.mkdir()
    plain = go()
    full = go(metrics_files(whole), evaluations(whole))
    table = np.genfromtxt(whole / "evaluations.csv", delimiter=",", names=True)
    assert table.dtype.names == (
        "seed", "iteration", "env_steps", "greedy", "greedy_std", "sampled", "sampled_std",
    )  # fmt: skip
    # Chunks end at 3, 6, 9, 12, 13: the first at or after 5 and 10, and the last.
    assert table["iteration"].tolist() == [6, 6, 12, 12, 13, 13]
    assert table["seed"].tolist() == [0, 1] * 3
    assert table["env_steps"].tolist() == (table["iteration"] * 8).tolist()
    assert len(np.unique(table["sampled"])) > 2  # keys differ between seeds and iterations

    for name, values in plain.metrics.items():  # evaluation takes no key from training
        np.testing.assert_array_equal(values, full.metrics[name])

    half = go(metrics_files(resumed), evaluations(resumed), lambda event: event.iteration == 6)
    assert half.iteration == 6
    later = metrics_files(resumed, 6), evaluations(resumed, 6)
    go(*later, state=half.state, iteration=6)
    assert read(resumed) == read(whole)


def test_greedy_and_sampled_are_what_they_say():
    seen = []
    result = go(evaluations(None, every=100), Callback(on_metrics=seen.append))
    last = seen[-1].metrics
    assert all("eval/greedy" not in e.metrics for e in seen[:-1])
    assert last["eval/greedy"].shape == last["eval/sampled_std"].shape == (2,)
    env, key = environment(), jax.random.split(jax.random.key(99), 2)
    greedy, sampled = (
        jaxpg.evaluate(jaxpg.ppo, CFG, env, result.state, key, 512, greedy)
        for greedy in (True, False)
    )
    assert (jnp.abs(sampled.mean(-1) - greedy.mean(-1)) > 8).all()  # so they can be told apart
    for kind, returns in (("greedy", greedy), ("sampled", sampled)):
        np.testing.assert_allclose(last[f"eval/{kind}"], returns.mean(-1), rtol=0.25)
        np.testing.assert_allclose(last[f"eval/{kind}_std"], returns.std(-1), rtol=0.4)


# Guards.


class State(NamedTuple):
    params: dict
    count: jax.Array
    key: jax.Array


def state_of(bad=(), seeds=3):
    w = jnp.zeros((seeds, 2, 2)).at[list(bad), 0, 1].set(NAN)
    key = jax.random.split(jax.random.key(0), seeds)
    return State({"b": jnp.ones(seeds), "w": w}, jnp.zeros(seeds, jnp.int32), key)


def test_nan_guard_names_the_leaf_the_seeds_and_the_iterations():
    look = nan_guard().on_chunk
    good = episodes(4, np.full((3, 2), NAN), np.zeros((3, 2)), state=state_of())
    look(good)  # no finished episode is no failure
    with pytest.raises(NonFiniteError, match=r"^params\['w'\] is .* in seed 1;.* 3-4$"):
        look(good._replace(state=state_of([1])))
    both = state_of([0, 2])
    both = both._replace(params={**both.params, "b": both.params["b"] / 0})
    with pytest.raises(FloatingPointError, match=r"^params\['b'\] and 1 other.* seeds 0, 1, 2;"):
        look(good._replace(state=both))
    one = jax.tree.map(lambda x: x[1], state_of([1]))
    with pytest.raises(NonFiniteError, match=r"^params\['w'\] is not finite; .* 4-4$"):
        look(episodes(4, [NAN], [0], state=one))


def test_nan_guard_compiles_once():
    look = nan_guard().on_chunk
    look(episodes(2, np.ones((5, 2)), np.ones((5, 2)), state=state_of(seeds=5)))
    before = finite_leaves._cache_size()
    for end in range(3, 6):
        look(episodes(end, np.ones((5, 1)), np.ones((5, 1)), state=state_of(seeds=5)))
    assert finite_leaves._cache_size() == before


def test_nan_guard_fires_when_the_learning_rate_is_absurd():
    absurd = CFG.__class__(**{**vars(CFG), "learning_rate": 1e30})
    with pytest.raises(NonFiniteError, match=r"params.*seeds 0, 1;.* iterations 1-3"):
        go(nan_guard(), cfg=absurd)
    assert go(nan_guard()).stopped == "done"


def test_stop_at_a_mean_over_the_episodes_of_a_chunk():
    chunk = episodes(3, [10, NAN, 2], [3, 0, 1])  # four episodes: 10, 10, 10, 2

    def stops(target):
        return stop_at(target, "episode/return").on_metrics(chunk)

    assert stops(8.0) is True
    assert stops(8.01) is False
    none = episodes(3, [NAN] * 3, [0] * 3)
    assert stop_at(-1e9, "episode/return").on_metrics(none) is False


def test_stop_at_in_all_seeds_or_any():
    seen = episodes(1, np.ones((2, 1)), np.ones((2, 1)), measured={"eval/greedy": np.array([5, 9])})
    assert stop_at(5).on_metrics(seen) is True
    assert stop_at(6).on_metrics(seen) is False
    assert stop_at(6, all_seeds=False).on_metrics(seen) is True
    assert stop_at(10, all_seeds=False).on_metrics(seen) is False
    assert stop_at(0).on_metrics(episodes(1, [1], [1])) is False  # nothing was measured
    with pytest.raises(ValueError, match="target=nan: allowed is a finite number"):
        stop_at(NAN)
    with pytest.raises(ValueError, match="did you mean 'episode/return'"):
        stop_at(6, "episode/returns").on_metrics(seen)


def test_stop_at_ends_a_run():
    result = go(stop_at(-1, "episode/return"), iterations=30)
    assert result.stopped == "callback"
    ended = result.metrics["episode/count"].reshape(2, -1, CHUNK).sum(-1)
    first = np.flatnonzero((ended > 0).all(0))[0]  # chunk with an episode in every seed
    assert result.iteration == (first + 2) * CHUNK  # it is seen when the next one is under way


def evaluated(*greedy):
    """An event with an evaluation of each seed; without one if none is given."""
    ones = np.ones((len(greedy) or 1, 1))
    return episodes(1, ones, ones, measured={"eval/greedy": np.array(greedy)} if greedy else None)


def stops_after(callback, *events):
    """How many of the events it takes to end the run; None if it goes on."""
    answers = [callback.on_metrics(event) for event in events]
    return answers.index(True) + 1 if True in answers else None


def test_early_stop_counts_evaluations_without_improvement():
    rising = [evaluated(x) for x in (1, 3, 3, 3.5, 3.4)]
    assert stops_after(early_stop(1), *rising) == 3  # equal is no improvement
    assert stops_after(early_stop(2), *rising) is None
    assert stops_after(early_stop(2, min_delta=0.6), *rising) == 4
    assert stops_after(early_stop(2, min_delta=0.4), *rising) is None
    falling = [evaluated(-x) for x in (1, 3, 3, 3.5)]
    assert stops_after(early_stop(1, maximize=False), *falling) == 3
    between = [evaluated(5), evaluated(), evaluated(), evaluated(NAN), evaluated(4), evaluated(3)]
    assert stops_after(early_stop(2), *between) == 6  # no data is no evaluation


def test_early_stop_counts_for_each_seed():
    seen = [evaluated(1, 1), evaluated(0, 2), evaluated(0, 3), evaluated(0, 2), evaluated(0, 1)]
    assert stops_after(early_stop(2), *seen) == 5
    assert stops_after(early_stop(2, all_seeds=False), *seen) == 3
    returns = [episodes(end, [[x], [x]], [[1], [1]]) for end, x in enumerate((3, 2, 1), 1)]
    assert stops_after(early_stop(2, "episode/return"), *returns) == 3


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"patience": 0}, "patience=0: allowed is an integer >= 1"),
        ({"min_delta": -1.0}, "min_delta=-1.0: allowed is a finite number >= 0"),
        ({"min_delta": NAN}, "min_delta=nan: allowed is a finite number"),
        ({"maximize": 1}, "maximize=1: allowed is True or False"),
    ],
)
def test_early_stop_names_what_is_wrong(asked, match):
    with pytest.raises(ValueError, match=match):
        early_stop(**asked)
    with pytest.raises(ValueError, match="did you mean 'eval/greedy'"):
        early_stop(metric="evl/greedy").on_metrics(evaluated(1))


def test_early_stop_ends_a_run():
    result = go(early_stop(2, "episode/return", min_delta=1e9), iterations=30)
    assert (result.stopped, result.iteration < 30) == ("callback", True)


# Series, of which loggers show one for each seed.


def logged(events, series=None, points=1000, ends=True):
    """What a logger is told: (env_steps, rows) of every point, and the newest rows at the end."""
    said, last = [], []
    backend = Backend(
        lambda *args: said.append(args),
        lambda *args: said.append(args),
        lambda _, x: last.append(x),
    )
    callback = log_series(backend, series, points)
    for one in events:
        callback.on_metrics(one)
    if ends:
        callback.on_end(None)
    return said, last


def test_a_point_is_the_mean_of_a_chunk_and_no_data_is_left_out():
    first = episodes(2, [[10, 20], [NAN, NAN]], [[3, 1], [0, 0]])
    second = episodes(3, [[1], [2]], [[1], [1]], measured={"eval/greedy": np.array([7, NAN])})
    said, last = logged([first, second])
    assert said[0] == ([Series("seed-0", {"seed": 0}), Series("seed-1", {"seed": 1})], 0)
    assert said[1] == (20, [{"episode/count": 2, "episode/return": 12.5}, {"episode/count": 0}])
    one = {"episode/count": 1, "episode/return": 1, "eval/greedy": 7}
    assert said[2:] == [(30, [one, {"episode/count": 1, "episode/return": 2}])]
    assert last == [said[2][1]]


def test_points_are_bounded_and_evaluations_stay():
    events = [episodes(end, [[end]], [[1]], num_iters=100) for end in range(1, 101)]
    events[6].metrics["eval/greedy"] = np.array([9])
    said, _ = logged(events, points=10)
    assert [steps for steps, _ in said[1:]] == [70, *range(100, 1001, 100)]
    assert said[1] == (70, [{"eval/greedy": 9}])
    assert said[2] == (100, [{"episode/count": 1, "episode/return": 5.5}])
    said, last = logged(events[:25], points=10)  # a run that ends within a block
    assert said[-1] == (250, [{"episode/count": 1, "episode/return": 23}])
    assert last == [[{"episode/count": 1, "episode/return": 23, "eval/greedy": 9}]]
    resumed, _ = logged(events[25:], points=10)
    assert (resumed[0][1], resumed[1][0]) == (250, 300)  # where it goes on, and blocks as before
    assert logged([]) == ([], [])  # of a run that failed before its first chunk


def test_a_chunk_that_is_cut_short_is_no_point_of_its_own():
    cut = episodes(3, [[1, 2, 3]], [[1, 1, 1]])._replace(whole=False)
    said, _ = logged([cut, episodes(4, [[4]], [[1]])], points=4)
    assert said[1:] == [(40, [{"episode/count": 1, "episode/return": 2.5}])]


def test_a_lane_that_has_ended_has_no_more_points():
    active = {"lane_active": [[1, 1], [1, 0], [0, 0]]}
    chunk = episodes(2, np.arange(1.0, 7).reshape(3, 2), np.ones((3, 2)), **active)
    said, _ = logged([chunk], series=[Series("a"), Series("b"), Series("c")])
    rows = [
        {"episode/count": 1, "episode/return": 1.5},
        {"episode/count": 0.5, "episode/return": 3},
    ]
    assert said[1] == (20, [*rows, {}])
    said, _ = logged([chunk], series=[Series("a")])  # lanes behind these only fill the program
    assert said[1] == (20, rows[:1])


def test_a_number_for_all_seeds_is_a_point_of_each():
    said, _ = logged([episodes(1, [[1], [2]], [[1], [1]], measured={"own/number": np.array(3)})])
    assert [row["own/number"] for row in said[1][1]] == [3, 3]


# Progress.


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setenv("COLUMNS", "80")
    return now


def show(bar, clock, seeds, iterations=20):
    for end in range(1, iterations + 1):
        returns, counts = np.full((seeds, 1), NAN), np.zeros((seeds, 1))
        returns[0], counts[0] = 100, 3  # three episodes in the first seed,
        returns[-1], counts[-1] = 20, 1  # one in the last
        measured = {"eval/greedy": np.linspace(0, 10, seeds)} if end >= 4 else None
        bar.on_metrics(
            episodes(end, returns, counts, measured=measured)._replace(num_iters=iterations)
        )
        clock[0] += 0.5
    bar.on_end(None)


def test_progress_adds_the_seeds_up(clock, capsys):
    show(progress("ppo"), clock, seeds=16)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == [f"{p}%" for p in range(10, 101, 10)]
    # 10 steps an iteration and seed, 2 iterations a second: 320 steps/s, from the first chunk on.
    assert lines[0] == "ppo   10%  320 steps/s  return 80  ETA 0:00:09"
    assert lines[4] == "ppo   50%  320 steps/s  return 80  eval 5  ETA 0:00:05"


def test_progress_counts_from_where_a_run_goes_on(clock, capsys):
    bar = progress()
    for end in (15, 16, 17, 18):
        bar.on_metrics(episodes(end, [NAN], [0])._replace(num_iters=20))
        clock[0] += 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "90%  10 steps/s  return -  ETA 0:00:02"
    bar.on_metrics(episodes(19, [7.0], [1])._replace(num_iters=20))
    bar.on_metrics(episodes(20, [NAN], [0])._replace(num_iters=20))
    assert "return 7" in capsys.readouterr().err  # the last there was, where no episode ended


def test_progress_bar_fits_80_columns(clock, capsys, monkeypatch):
    import re

    monkeypatch.setenv("FORCE_COLOR", "1")
    show(progress("reinforce on a long name"), clock, seeds=16)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err).replace("\r", "\n")
    last = [line for line in lines.splitlines() if line.strip()][-1]
    assert "100%  320 steps/s  return 80  eval 5  ETA 0:00:00" in last
    assert len(last) <= 80


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (1500, "1.5k"), (999_999, "1M"), (123_456, "123k"), (5e9, "5G")],
)
def test_short(number, text):
    assert format_count(number) == text


# TensorBoard.


def scalars(folder):
    """(tag, step, value) of every scalar in an event file."""
    from tensorboardX.proto.event_pb2 import Event as Record

    (path,) = folder.iterdir()
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        record = Record.FromString(data[at + 12 : at + 12 + length])
        yield from ((v.tag, record.step, v.simple_value) for v in record.summary.value)
        at += 16 + length


def test_tensorboard_has_a_point_per_chunk_and_seed(tmp_path):
    pytest.importorskip("tensorboardX")
    write = tensorboard(tmp_path)
    write.on_metrics(episodes(2, [[10, 20], [NAN, NAN]], [[3, 1], [0, 0]]))
    write.on_metrics(
        episodes(3, [[1], [2]], [[1], [1]], measured={"eval/greedy": np.array([7, 8])})
    )
    write.on_end(None)
    assert set(scalars(tmp_path / "seed-0")) == {
        ("episode/return", 20, 12.5), ("episode/count", 20, 2), ("episode/return", 30, 1),
        ("episode/count", 30, 1), ("eval/greedy", 30, 7),
    }  # fmt: skip
    assert ("eval/greedy", 30, 8) in set(scalars(tmp_path / "seed-1"))
    assert ("episode/return", 20) not in {s[:2] for s in scalars(tmp_path / "seed-1")}


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb"), ("mlflow", "mlflow")]
)
def test_without_its_package_a_logger_says_how_to_get_it(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'jaxpg\[{name}\]'"):
        getattr(jaxpg.callbacks, name)(tmp_path)
    env, cfg = environment(), CFG
    with pytest.raises(ImportError, match=rf"pip install 'jaxpg\[{name}\]'"):
        jaxpg.run(jaxpg.ppo, cfg, env, keys(), total_steps=8, out=tmp_path / "run", log=[name])
    assert not (tmp_path / "run").exists()


def test_points_have_to_be_some(tmp_path):
    with pytest.raises(ValueError, match="points=0: allowed is an integer >= 1"):
        tensorboard(tmp_path, points=0)
