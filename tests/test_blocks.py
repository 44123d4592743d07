"""Rows of long runs: means over blocks of iterations, whatever chunks and stops lie between."""

import json
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.core.blocks import MOST, Blocks, block_length
from jaxpg.core.parallel.lanes import ACTIVE
from jaxpg.core.run import Callback
from jaxpg.core.run import run as core_run
from jaxpg.experiment.figures.measured import read_run
from jaxpg.experiment.files.rows import Rows, parse_cells
from jaxpg.experiment.run import folder
from jaxpg.experiment.run.record import RunFolder, Settings, warn_of_many_rows
from jaxpg.experiment.run.seal import checkpoint_ends, read_seal

pytestmark = pytest.mark.defaults

NAN = np.nan
EVERY, ITERATIONS, STEPS = 7, 300, 20


def series(seeds=3, length=100, seed=0):
    """Metrics [seeds, length] of every kind, with iterations in which no episode ended."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(0.7, (seeds, length)).astype(np.int32)
    count[0, :30] = 0  # a seed without data for several blocks
    loss = rng.normal(0, 1e3, (seeds, length)).astype(np.float32)
    return {
        "episode/count": count,
        "episode/return": np.where(count > 0, loss, NAN).astype(np.float32),
        "lane/active": (np.arange(length) < 77).astype(np.int32) * np.ones((seeds, 1), np.int32),
        "loss/value": np.where(rng.random((seeds, length)) < 0.2, NAN, loss).astype(np.float32),
        "update/odd": rng.random((seeds, length)) < 0.5,
        "update/epochs": rng.integers(1, 9, (seeds, length)).astype(np.int32),
    }


def by_definition(metrics, every):
    """The rows of blocks, by loops over seeds and blocks."""
    seeds, length = metrics["episode/count"].shape
    cuts = [slice(i, min(i + every, length)) for i in range(0, length, every)]
    rows = {name: np.full((seeds, len(cuts)), NAN) for name in metrics}
    for s in range(seeds):
        for b, cut in enumerate(cuts):
            count = metrics["episode/count"][s, cut]
            for name, values in metrics.items():
                x = values[s, cut].astype(float)
                if name in ("episode/count", "lane/active"):
                    rows[name][s, b] = x.sum()
                elif name.startswith("episode/"):
                    if count.sum():
                        rows[name][s, b] = np.average(x[count > 0], weights=count[count > 0])
                else:
                    learns = (
                        metrics["lane/active"][s, cut] > 0 if "lane/active" in metrics else True
                    )
                    x = x[learns & ~np.isnan(x)]
                    rows[name][s, b] = x.mean() if len(x) else NAN
    return [cut.stop for cut in cuts], rows


def in_chunks(metrics, every, cuts, keep=True):
    """The rows of blocks, of metrics that come in chunks; between two of them the block that is
    begun is JSON text, as in a checkpoint."""
    blocks, ends, found = Blocks(every), [], []
    for chunk in np.split(np.arange(metrics["episode/count"].shape[1]), cuts):
        if len(chunk):
            end, rows = blocks.add({name: x[:, chunk] for name, x in metrics.items()})
            ends, found = [*ends, *end], [*found, rows]
        if not keep:
            begun = json.loads(json.dumps(blocks.begun()))
            blocks = Blocks(every, blocks.iteration, begun, blocks.dtypes)
    end, rows = blocks.last()
    found += [rows] if rows else []
    return [*ends, *end], {name: np.concatenate([x[name] for x in found], -1) for name in metrics}


@pytest.mark.parametrize("every", [2, 7, 10, 100, 1000])
def test_a_row_is_the_mean_of_its_block_and_a_count_is_its_sum(every):
    metrics = series()
    ends, rows = in_chunks(metrics, every, [])
    expected_ends, expected = by_definition(metrics, every)
    assert ends == expected_ends
    for name, values in expected.items():
        np.testing.assert_allclose(rows[name], values, rtol=3e-7, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(rows["episode/count"], expected["episode/count"])
    kinds = {name: x.dtype.name for name, x in rows.items()}
    assert kinds == {
        "episode/count": "int64", "episode/return": "float32", "lane/active": "int64",
        "loss/value": "float32", "update/odd": "float64", "update/epochs": "float64",
    }  # fmt: skip


@pytest.mark.parametrize("every", [1, 2, 7, 30, 1000])
def test_blocks_do_not_depend_on_chunks_to_the_byte(every):
    metrics = series(seed=1)
    metrics["loss/value"][1, :40] = -0.0
    rng = np.random.default_rng(2)  # float64, whose sums are others in another order
    metrics["loss/wide"] = rng.normal(size=(3, 100)) * 10 ** rng.uniform(-8, 8, (3, 100))
    ends, rows = in_chunks(metrics, every, [])
    for i in range(12):
        cuts = np.sort(np.random.default_rng(i).choice(100, i, replace=False))
        for keep in (True, False):
            other_ends, others = in_chunks(metrics, every, cuts, keep)
            assert other_ends == ends
            assert {n: x.tobytes() for n, x in others.items()} == {
                n: x.tobytes() for n, x in rows.items()
            }


def test_sums_of_long_blocks_are_exact():
    """In float32 this mean would be 0.0999, and the count no integer from 2^24 on."""
    tenth, many = np.full((1, 10**5), 0.1, np.float32), np.full((1, 10**5), 2**31 - 1, np.int32)
    blocks = Blocks(5 * 10**5)
    for _ in range(4):
        assert not len(blocks.add({"loss": tenth, "episode/count": many})[0])
    ends, rows = blocks.add({"loss": tenth, "episode/count": many})
    assert ends.tolist() == [5 * 10**5]
    assert rows["loss"] == np.float32(0.1)
    assert rows["episode/count"] == 5 * 10**5 * (2**31 - 1)


def test_blocks_are_as_long_as_gives_ten_thousand_rows():
    assert [block_length(n) for n in (1, MOST, MOST + 1, 2 * MOST, 10**6)] == [1, 1, 2, 2, 100]
    assert [block_length(n, 1) for n in (1, 10**9)] == [1, 1]
    for bad in (0, -1, 1.5, "all", True):
        with pytest.raises(ValueError, match=r"log_every=.*allowed is an integer >= 1"):
            block_length(10, bad)


def test_empty_cells_are_nan():
    cells = parse_cells("1,,,2.5\n,3,,\n4,5e-1,-inf,nan\n".replace("\n,", "\n0,"))
    rows = [1, NAN, NAN, 2.5], [0, 3, NAN, NAN], [4, 0.5, -np.inf, NAN]
    np.testing.assert_array_equal(cells, rows)
    np.testing.assert_array_equal(parse_cells("1,,3\n4,5,\n", [0, 2], 1), [[1, 3]])


# Runs.

CFG = jaxpg.q_learning.Config(num_envs=1, num_steps=STEPS)


def keys(seeds=2):
    return jax.random.split(jax.random.key(5), seeds)


def train(out, *callbacks, chunk=40, key=None, **asked):
    settings = Settings(chunk, evaluations=0, checkpoints=3, **{"log_every": EVERY} | asked)
    key = keys() if key is None else key
    return folder.run(
        out, jaxpg.q_learning, CFG, jaxpg.make("Cliff-jaxpg"), key, ITERATIONS * STEPS,
        settings, callbacks,
    )  # fmt: skip


@pytest.fixture(scope="module")
def full():
    """The metrics of all iterations."""
    asked = {"total_steps": ITERATIONS * STEPS, "chunk": 40}
    return core_run(jaxpg.q_learning, CFG, jaxpg.make("Cliff-jaxpg"), keys(), **asked).metrics


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("blocks") / "run"
    return train(out), out


def same(result, other):
    assert result.metrics.keys() == other.metrics.keys()
    for name, x in result.metrics.items():
        np.testing.assert_array_equal(x, other.metrics[name], strict=True)
    assert result.iterations.tolist() == other.iterations.tolist()


def test_a_run_keeps_the_blocks_of_its_full_rows(full, whole):
    result, out = whole
    ends, expected = by_definition(full, EVERY)
    assert result.iterations.tolist() == ends == [*range(7, 300, 7), 300]
    assert result.log_every == json.loads((out / "run.json").read_text())["log_every"] == EVERY
    for name, values in expected.items():
        np.testing.assert_allclose(result.metrics[name], values, rtol=3e-7, err_msg=name)
    assert full["episode/count"].sum() == result.metrics["episode/count"].sum() > 0

    header, *rows = (out / "metrics.csv").read_text().splitlines()
    assert len(rows) == 2 * len(ends)
    assert header.startswith("seed,iteration,env_steps,episode/count,")
    assert [row.split(",")[:3] for row in rows[-2:]] == [["0", "300", "6000"], ["1", "300", "6000"]]
    assert not (out / "metrics.jsonl").exists()
    seen = read_run(out)
    assert seen.steps.tolist() == [end * STEPS for end in ends]
    np.testing.assert_array_equal(seen.metric("episode/count"), result.metrics["episode/count"])
    np.testing.assert_array_equal(read_run(result).steps, seen.steps)


def test_a_run_is_loaded_as_it_was(whole):
    result, out = whole
    same(jaxpg.load(out), result)


def test_a_run_without_a_folder_has_the_same_rows(whole):
    asked = {"total_steps": ITERATIONS * STEPS, "chunk": 40, "log_every": EVERY}
    result = core_run(jaxpg.q_learning, CFG, jaxpg.make("Cliff-jaxpg"), keys(), **asked)
    same(result, whole[0])


@pytest.mark.parametrize(
    "chunk", [13, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 300))]
)
def test_files_do_not_depend_on_the_chunk(whole, tmp_path, chunk):
    result = train(tmp_path / "run", chunk=chunk)
    same(result, whole[0])
    expected = (whole[1] / "metrics.csv").read_bytes()
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == expected


def test_a_run_that_was_stopped_or_killed_in_a_block_goes_on_to_the_byte(whole, full, tmp_path):
    out, copies = tmp_path / "run", []

    def kill(event):
        copies.append(tmp_path / f"killed{event.iteration}")
        shutil.copytree(out, copies[-1])

    stopped = train(out, Callback(kill), lambda event: event.iteration == 200)
    assert stopped.iterations[-2:].tolist() == [196, 200]  # a block of its own, while it stands
    last = (out / "metrics.csv").read_text().splitlines()[-1]
    assert last.startswith("1,200,4000,")
    same(jaxpg.load(out), stopped)
    for there in (out, *copies):
        if there in copies[4:]:  # the first with a checkpoint
            loaded = jaxpg.load(there)
            assert loaded.iterations[-1] == loaded.iteration == 120
            counts = loaded.metrics["episode/count"]
            np.testing.assert_array_equal(counts.sum(1), full["episode/count"][:, :120].sum(1))
        same(folder.resume(there), whole[0])
        expected = (whole[1] / "metrics.csv").read_bytes()
        assert (there / "metrics.csv").read_bytes() == expected


def test_a_run_that_is_made_longer_has_the_rows_of_one_that_was_so_long(whole, tmp_path):
    """No field of its config is annealed. Its last block was not whole."""
    short = folder.run(
        tmp_path / "run", jaxpg.q_learning, CFG, jaxpg.make("Cliff-jaxpg"), keys(), 100 * STEPS,
        Settings(40, evaluations=0, log_every=EVERY),
    )  # fmt: skip
    assert short.iterations[-2:].tolist() == [98, 100]
    same(folder.resume(tmp_path / "run", total_steps=ITERATIONS * STEPS), whole[0])
    expected = (whole[1] / "metrics.csv").read_bytes()
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == expected


def rows_before_the_last(out):
    """The record of rows as it stood before the last row."""
    files = Rows(
        shutil.copytree(out, out.with_name("copy")),
        run=read_seal(out).digests[0],
        ends=checkpoint_ends(out, ITERATIONS),
    )
    return (files.folder / "rows.jsonl").read_bytes()


def test_many_rows_of_a_run_that_is_made_longer_are_warned_of():
    cfg, key = jaxpg.q_learning.Config(), jax.random.key(0)
    this = RunFolder(Path("x"), jaxpg.q_learning, cfg, None, key, {"total_steps": 100 * 10**5}, "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_many_rows(this)
    longer = this._replace(record={"total_steps": 100 * 10**6, "log_every": 9})
    with pytest.warns(UserWarning, match=r"x: it goes on with log_every=9, .* 111,112 rows a seed"):
        warn_of_many_rows(longer)


def test_a_run_of_before_rows_could_be_blocks_goes_on_as_it_began():
    this = RunFolder(Path("x"), jaxpg.q_learning, CFG, None, keys(), {"total_steps": 9}, "")
    assert (this.log_every, this.formats) == (1, ("csv", "jsonl"))
    now = this._replace(record={"total_steps": 9, "log_every": 2, "log": []})
    assert (now.log_every, now.formats) == (2, ("csv",))


def test_the_last_row_of_a_run_killed_at_its_very_end_is_written(whole, tmp_path):
    result, out = whole
    there = shutil.copytree(out, tmp_path / "run")
    (there / "summary.json").unlink()
    rows = (out / "metrics.csv").read_text().splitlines(keepends=True)
    (there / "metrics.csv").write_text("".join(rows[:-2]))
    (there / "rows.jsonl").write_bytes(rows_before_the_last(out))
    same(folder.resume(there), result)
    assert (there / "metrics.csv").read_bytes() == (out / "metrics.csv").read_bytes()


def test_one_key_has_no_axis_of_seeds(tmp_path):
    out = tmp_path / "run"
    stopped = train(out, lambda event: event.iteration == 80, key=keys()[0])
    assert stopped.metrics["episode/count"].shape == stopped.iterations.shape == (12,)
    same(jaxpg.load(out), stopped)
    assert folder.resume(out).metrics["episode/count"].shape == (43,)


def test_a_run_that_fails_has_the_rows_up_to_there(tmp_path):
    def fail(event):
        if event.iteration == 80:
            raise RuntimeError("over")

    with pytest.raises(RuntimeError, match="over"):
        train(tmp_path / "run", fail)
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert rows[-1].startswith("1,40,800,")  # of the chunk before
    assert rows[-3].startswith("1,35,700,")


def test_a_lane_that_has_ended_does_not_count_in_its_last_block():
    """Its whole numbers are 0 from then on, where others are NaN."""
    metrics = {
        ACTIVE: np.array([[1, 1, 0, 0]]),
        "update/epochs": np.array([[4, 2, 0, 0]]),
        "loss/policy": np.array([[1.0, 3.0, np.nan, np.nan]]),
    }
    _, rows = Blocks(4).add(metrics)
    assert rows["update/epochs"] == 3
    assert rows["loss/policy"] == 2
    assert rows[ACTIVE] == 2
