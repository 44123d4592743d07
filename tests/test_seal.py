"""The files of a run folder are those of one run, to the byte, or a named error."""

import json
import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.core.run import Callback
from jaxpg.experiment.figures import measured
from jaxpg.experiment.files import rows
from jaxpg.experiment.files.atomic import CheckpointError, read_json, write_json
from jaxpg.experiment.run import checkpoint
from jaxpg.experiment.run.checkpoint import newest
from jaxpg.experiment.run.seal import read_rows

TABLES = ("metrics.csv", "metrics.jsonl", "evaluations.csv")
ITERATIONS = 12  # in chunks of 2; evaluations at 4, 8 and 12, checkpoints at 4, 6, 10 and 12


def train(out, seed=0, *callbacks, **asked):
    asked = {
        "total_steps": ITERATIONS * 100, "chunk": 2, "evaluations": 3, "episodes": 2,
        "checkpoints": 4, "keep": 3, "log": ["jsonl"],
    } | asked  # fmt: skip
    env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(seed)
    return jaxpg.run(jaxpg.q_learning, cfg, env, key, out=out, callbacks=callbacks, **asked)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of a run, of one with another seed, of one with another setting, and of the first as
    a kill would have left it after the rows of iteration 12."""
    root = tmp_path_factory.mktemp("made")

    def copy(event):
        if event.iteration == ITERATIONS:
            shutil.copytree(root / "done", root / "killed")

    train(root / "done", 0, Callback(on_metrics=copy))
    train(root / "seed", 1)
    train(root / "setting", 0, episodes=3)
    return SimpleNamespace(**{path.name: path for path in root.iterdir()})


@pytest.fixture
def done(made, tmp_path):
    return shutil.copytree(made.done, tmp_path / "done")


@pytest.fixture
def killed(made, tmp_path):
    """It has checkpoints 4, 6 and 10, and rows to 12."""
    return shutil.copytree(made.killed, tmp_path / "killed")


def is_key(x):
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def same_run(out, made):
    """The folder is that of the run that was never stopped."""
    for name in (*TABLES, "rows.jsonl"):
        assert (out / name).read_bytes() == (made.done / name).read_bytes(), name
    ours, theirs = jaxpg.load(out), jaxpg.load(made.done)
    assert (ours.stopped, ours.iteration) == ("done", ITERATIONS)
    for x, y in zip(jax.tree.leaves(ours.state), jax.tree.leaves(theirs.state), strict=True):
        np.testing.assert_array_equal(*map(jax.random.key_data, (x, y)) if is_key(x) else (x, y))


def replace(ours, theirs):
    """Puts a file, or a folder, in the place of another."""
    shutil.rmtree(ours) if ours.is_dir() else ours.unlink(missing_ok=True)
    (shutil.copytree if theirs.is_dir() else shutil.copy)(theirs, ours)


def make_old(folder):
    """Makes a folder as jaxpg wrote it before there was rows.jsonl."""
    (folder / "rows.jsonl").unlink()
    for path in [*folder.glob("*.json"), *folder.glob("checkpoints/*/manifest.json")]:
        content = read_json(path)
        write_json(path, {k: v for k, v in content.items() if k not in ("run", "rows")})


# A write that fails.


@pytest.fixture
def fail_once(monkeypatch):
    """Fails the nth time that a file is opened to append to it, after `half` was written."""

    def fail(name, nth, half=b""):
        real, seen = Path.open, []

        def opened(self, mode="r", *args, **kwargs):
            if self.name == name and mode[0] == "a":
                seen.append(mode)
                if len(seen) == nth:
                    with real(self, "ab") as file:
                        file.write(half)
                    raise OSError(28, "No space left on device", str(self))
            return real(self, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "open", opened)

    return fail


@pytest.mark.parametrize(
    ("name", "nth", "half"),
    [
        ("metrics.csv", 4, b""),
        ("metrics.csv", 4, b"0,7,70"),
        ("metrics.jsonl", 4, b'{"seed": 0, "iter'),
        ("metrics.csv", 3, b"0,5,500,1,2.0,3.0,4.0\n"),
        ("evaluations.csv", 2, b"0,8,8"),
    ],
)
def test_after_a_failed_write_nothing_newer_is_written(tmp_path, made, fail_once, name, nth, half):
    out, failed = tmp_path / "run", 2 * nth if name != "evaluations.csv" else 4 * nth
    fail_once(name, nth, half)
    with pytest.raises(OSError, match="No space left"):
        train(out)
    assert newest(out / "checkpoints") < failed
    iterations = [int(row.split(",")[1]) for row in (out / "metrics.csv").read_text().split()[1:-1]]
    assert max(iterations) <= failed
    loaded = jaxpg.load(out)
    assert (loaded.stopped, loaded.iteration) == ("error", newest(out / "checkpoints"))
    assert measured.read_run(out).steps[-1] <= 100 * failed
    assert jaxpg.resume(out).stopped == "done"
    same_run(out, made)


def test_after_a_callback_that_failed_nothing_newer_is_written(tmp_path, made):
    def fail(event):
        if event.iteration == 8:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        train(tmp_path / "run", 0, Callback(on_metrics=fail))
    assert newest(tmp_path / "run" / "checkpoints") == 6
    jaxpg.resume(tmp_path / "run")
    same_run(tmp_path / "run", made)


def test_after_a_checkpoint_that_failed_nothing_newer_is_written(tmp_path, made, monkeypatch):
    save = checkpoint.save

    def fail(folder, snap, iteration, *args):
        if iteration == 10:
            raise OSError("no space")
        save(folder, snap, iteration, *args)

    monkeypatch.setattr(checkpoint, "save", fail)
    with pytest.raises(OSError, match="no space"):
        train(tmp_path / "run")
    monkeypatch.setattr(checkpoint, "save", save)
    assert newest(tmp_path / "run" / "checkpoints") == 6
    assert jaxpg.load(tmp_path / "run").iteration == 6
    jaxpg.resume(tmp_path / "run")
    same_run(tmp_path / "run", made)


def test_a_failure_in_a_chunk_keeps_the_rows_of_the_one_before(tmp_path):
    def fail(event):
        if event.iteration == 6:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        train(tmp_path / "run", 0, fail)
    assert newest(tmp_path / "run" / "checkpoints") == 4
    assert jaxpg.load(tmp_path / "run").iteration == 4


def test_a_hole_in_the_rows_is_gone_on_from_before_it(killed, made):
    """As jaxpg left it until a failed write ended a run."""
    make_old(killed)
    lines = (killed / "metrics.csv").read_text().splitlines(keepends=True)
    (killed / "metrics.csv").write_text("".join(lines[:7] + lines[9:]))
    with pytest.raises(CheckpointError, match=r"metrics\.csv"):
        jaxpg.load(killed)
    with pytest.warns(UserWarning, match=r"goes on from iteration 6: .*metrics\.csv: found"):
        assert jaxpg.resume(killed).stopped == "done"
    for name in TABLES:
        assert (killed / name).read_bytes() == (made.done / name).read_bytes(), name
    assert jaxpg.load(killed).iteration == ITERATIONS


def test_rows_that_are_lost_are_trained_again(killed, made):
    for name in TABLES:
        text = (killed / name).read_bytes()
        (killed / name).write_bytes(text[: int(len(text) * 0.7)])
    with pytest.raises(CheckpointError, match=r"metrics\.csv"):
        jaxpg.load(killed)
    with pytest.warns(UserWarning, match=r"goes on from iteration 6: .*: found [\d,]+ bytes"):
        jaxpg.resume(killed)
    same_run(killed, made)


# Another run's files.


def raises_everywhere(folder, match, readers=(jaxpg.load, jaxpg.resume, measured.read_run)):
    for read in readers:
        with pytest.raises(CheckpointError, match=match):
            read(folder)


@pytest.mark.parametrize("other", ["seed", "setting"])
@pytest.mark.parametrize(
    ("names", "match"),
    [
        (
            ["checkpoints/12"],
            r"checkpoints.12.manifest\.json: found a file of run \w{12}, expected",
        ),
        (["metrics.csv"], r"metrics\.csv: found"),
        (["metrics.jsonl"], r"metrics\.jsonl: found"),
        (["evaluations.csv"], r"evaluations\.csv: found"),
        (["rows.jsonl"], r"rows\.jsonl: found a file of run"),
        (["rows.jsonl", *TABLES], r"rows\.jsonl: found a file of run|\.csv: found"),
        (["summary.json"], r"summary\.json: found a file of run"),
        (["run.json"], r"as .*run\.json has it"),
        (["run.json", "summary.json", "rows.jsonl"], r"\.csv: found|as .*run\.json has it"),
    ],
)
def test_a_file_of_another_run_is_named(done, made, other, names, match):
    same = other == "setting" and names[0].startswith("metrics")
    for name in names:
        replace(done / name, getattr(made, other) / name)
    if same:  # as many episodes as an evaluation has change no metric
        return
    of_tables = not names[0].startswith(("checkpoints", "run.json")) and "jsonl" not in names[0]
    readers = (jaxpg.load, jaxpg.resume, *[measured.read_run] * of_tables)
    raises_everywhere(done, match, readers)


def test_a_file_in_the_place_of_another_is_named(done):
    """Each is what jaxpg wrote, and of this run."""
    whole = {p.name: p.read_bytes() for p in done.iterdir() if p.is_file()}
    whole["manifest.json"] = (done / "checkpoints" / "12" / "manifest.json").read_bytes()
    places = [done / name for name in ("run.json", "rows.jsonl", "summary.json", *TABLES)]
    for path in [*places, done / "checkpoints" / "12" / "manifest.json"]:
        for name, content in whole.items():
            if name != path.name:
                path.write_bytes(content)
                raises_everywhere(done, path.name, (jaxpg.load, jaxpg.resume))
        path.write_bytes(whole[path.name])
    assert jaxpg.load(done).iteration == ITERATIONS


def test_another_seeds_checkpoint_is_not_gone_on_from(killed, made):
    replace(killed / "checkpoints" / "10", made.seed / "checkpoints" / "10")
    raises_everywhere(killed, r"checkpoints.10.manifest\.json", (jaxpg.load, jaxpg.resume))


def test_what_names_no_run_is_another_runs(done, made, tmp_path):
    old = shutil.copytree(made.seed, tmp_path / "old")
    make_old(old)
    replace(done / "checkpoints" / "12", old / "checkpoints" / "12")
    raises_everywhere(done, r"12.manifest\.json: found a file of run None", (jaxpg.load,))


def test_a_run_that_was_made_longer_has_one_seal(done):
    longer = jaxpg.resume(done, total_steps=16 * 100)
    assert longer.iteration == 16
    assert jaxpg.load(done).stopped == "done"
    assert newest(done / "checkpoints") == 16
    (done / "summary.json").unlink()
    shutil.rmtree(done / "checkpoints" / "16")  # what is left are checkpoints of before
    assert jaxpg.load(done).iteration == newest(done / "checkpoints")
    assert jaxpg.resume(done).stopped == "done"


# Bytes.


@pytest.mark.parametrize("name", TABLES)
def test_a_changed_byte_of_the_rows_is_found(done, name):
    whole = (done / name).read_bytes()
    readers = (jaxpg.load, measured.read_run) if name.endswith("csv") else (jaxpg.load,)
    for at in np.linspace(0, len(whole) - 1, 41).astype(int):
        for bit in (1, 128):  # another digit; no text
            data = bytearray(whole)
            data[at] ^= bit
            (done / name).write_bytes(data)
            raises_everywhere(done, name, readers)
    (done / name).write_bytes(whole)
    assert jaxpg.load(done).iteration == ITERATIONS


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("how", ["a row", "half", "half a row", "empty", "missing", "a row more"])
def test_a_cut_table_is_found(done, name, how):
    lines = (done / name).read_bytes().splitlines(keepends=True)
    cuts = {
        "a row": lines[:-1], "half": lines[: len(lines) // 2], "empty": [],
        "half a row": [*lines[:-1], lines[-1][:4]], "a row more": [*lines, lines[-1]],
    }  # fmt: skip
    if how == "missing":
        (done / name).unlink()
    else:
        (done / name).write_bytes(b"".join(cuts[how]))
    csv = name.endswith("csv")
    readers = (jaxpg.load, jaxpg.resume, *[measured.read_run] * csv)
    raises_everywhere(done, rf"{name}: found [\d,]+ bytes, expected", readers)


def test_what_a_kill_left_behind_the_rows_is_no_row(killed, made):
    for name, tail in {
        "metrics.csv": b"0,13,1300,9,9\n0,14",
        "evaluations.csv": b"\xff\xfe\n",
    }.items():
        with (killed / name).open("ab") as file:
            file.write(tail)
    assert measured.read_run(killed).steps[-1] == 100 * ITERATIONS
    assert jaxpg.load(killed).iteration == 10
    jaxpg.resume(killed)
    same_run(killed, made)


def test_the_last_whole_line_of_the_record_counts(killed, made):
    """It has one for every time that rows were written."""
    path = killed / "rows.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) > 6
    path.write_bytes(whole + lines[-1][:100])  # a kill in the middle of a line
    assert measured.read_run(killed).steps[-1] == 100 * ITERATIONS
    path.write_bytes(b"".join(lines[:-2]))  # two kills earlier: what is on record is there
    assert measured.read_run(killed).steps[-1] < 100 * ITERATIONS
    for at in (*range(-len(lines[-1]), 0, 7), -1):
        data = bytearray(whole)
        data[at] ^= 1
        path.write_bytes(data)
        raises_everywhere(killed, r"rows\.jsonl: found", (jaxpg.load, measured.read_run))
    path.write_bytes(whole)
    jaxpg.resume(killed)
    same_run(killed, made)
    assert path.read_bytes().count(b"\n") == 1


def test_a_record_does_not_grow_with_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LONG", 1000)
    files = rows.Rows(tmp_path, ("metrics.csv",), run="0" * 64)
    for i in range(50):
        files.append("metrics.csv", [f"0,{i},{i}\n"], "seed,iteration,env_steps\n")
        files.save()
        assert (tmp_path / "rows.jsonl").stat().st_size <= 1000
        assert read_rows(tmp_path / "metrics.csv").count("\n") == 2 + i


def test_rows_without_their_record_are_an_error(done, killed):
    for folder in (done, killed):
        (folder / "rows.jsonl").unlink()
        raises_everywhere(
            folder, r"rows\.jsonl: found no such file", (jaxpg.load, measured.read_run)
        )


def test_an_old_folder_is_read_as_before(done, killed, recwarn):
    make_old(done)
    assert jaxpg.load(done).stopped == "done"
    assert jaxpg.resume(done).iteration == ITERATIONS
    run = measured.read_run(done)
    assert (run.summary["stopped"], len(run.steps)) == ("done", ITERATIONS)
    make_old(killed)
    assert jaxpg.load(killed).iteration == 10
    assert jaxpg.resume(killed).stopped == "done"
    assert jaxpg.load(killed).iteration == ITERATIONS
    for name in TABLES:
        assert (killed / name).read_bytes() == (done / name).read_bytes(), name
    assert not [w for w in recwarn if "goes on" in str(w.message)]
    (done / "metrics.csv").write_bytes(b"seed,iteration\n0,\xff\n")
    raises_everywhere(done, r"metrics\.csv: .*utf-8")


# An older checkpoint.


@pytest.mark.parametrize("what", ["12/manifest.json", "12"])
def test_an_older_checkpoint_is_not_what_the_run_came_to(done, made, what):
    path = done / "checkpoints" / what
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    match = r"checkpoints: found 10 as the newest iteration, expected 12"
    raises_everywhere(done, match, (jaxpg.load, jaxpg.Policy.load))
    with pytest.warns(
        UserWarning, match="goes on from iteration 10: the checkpoint of iteration 12"
    ):
        assert jaxpg.resume(done).stopped == "done"
    same_run(done, made)


def test_a_killed_run_loads_what_it_has_and_says_error(killed):
    loaded = jaxpg.load(killed)
    assert (loaded.stopped, loaded.iteration) == ("error", 10)
    assert math.isnan(loaded.seconds)


# Files that go while a run goes on.


@pytest.mark.parametrize(
    ("name", "at", "match"),
    [
        ("metrics.csv", 6, r"metrics\.csv: found 0 bytes, expected the [\d,]+ that this run wrote"),
        ("metrics.jsonl", 6, r"metrics\.jsonl: found 0 bytes"),
        ("evaluations.csv", 6, r"evaluations\.csv: found 0 bytes"),
        ("metrics.csv", 12, r"metrics\.csv: found 0 bytes, expected"),
        ("evaluations.csv", 12, r"evaluations\.csv: found 0 bytes, expected"),
        ("run.json", 6, r"run\.json: found no such file"),
    ],
)
def test_a_file_that_is_removed_is_said(tmp_path, name, at, match):
    def remove(event):
        if event.iteration == at:
            (tmp_path / "run" / name).unlink()

    with pytest.raises(CheckpointError, match=match):
        train(tmp_path / "run", 0, Callback(on_metrics=remove))
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_file_that_someone_else_writes_is_said(tmp_path):
    def write(event):
        if event.iteration == 6:
            with (tmp_path / "run" / "metrics.csv").open("a") as file:
                file.write("0,7,700,1,1,1,1\n")

    with pytest.raises(CheckpointError, match=r"metrics\.csv: found [\d,]+ bytes, expected the"):
        train(tmp_path / "run", 0, Callback(on_metrics=write))
    assert jaxpg.load(tmp_path / "run").iteration == 6


# What was asked for.


def test_a_run_that_reached_its_target_stays_there(tmp_path):
    """At iteration 4, and it ends with the chunk after it, wherever it was killed."""

    def copy(event, kind):
        shutil.copytree(tmp_path / "run", tmp_path / f"{kind}{event.iteration}")

    kills = Callback(lambda e: copy(e, "chunk"), lambda e: copy(e, "rows"))
    whole = train(tmp_path / "run", 0, kills, target=-1e6)
    assert (whole.stopped, whole.iteration) == ("callback", 6)
    (tmp_path / "run").rename(tmp_path / "whole")
    copies = [path for path in tmp_path.iterdir() if path.name != "whole"]
    assert len(copies) == 6
    end = shutil.copytree(tmp_path / "whole", tmp_path / "end")
    (end / "summary.json").unlink()
    for out in [*copies, end]:
        found = jaxpg.resume(out)
        assert (found.stopped, found.iteration) == ("callback", 6), out.name
        for name in (*TABLES, "run.json", "rows.jsonl"):
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert jaxpg.load(out).stopped == "callback"
    before = {p: p.stat().st_mtime_ns for p in end.rglob("*")}
    assert jaxpg.resume(end).iteration == 6
    assert before == {p: p.stat().st_mtime_ns for p in end.rglob("*")}


def scores(at, other=-1e9):
    """A callback that puts these greedy returns, by iteration, in the place of those measured."""

    def measure(event):
        if "eval/greedy" in event.metrics:
            return {"eval/greedy": np.float32(at.get(event.iteration, other))}

    return measure


def test_a_target_that_was_reached_once_is_reached(tmp_path):
    """At 4, which ends the run with the chunk to 6, whose own evaluation is below it again."""

    def copy(event, kind):
        shutil.copytree(tmp_path / "run", tmp_path / f"{kind}{event.iteration}")

    measure = scores({4: 1.0})
    kills = Callback(lambda e: copy(e, "chunk"), lambda e: copy(e, "rows"))
    whole = train(tmp_path / "run", 0, measure, kills, target=0.0, evaluations=6, checkpoints=12)
    assert (whole.stopped, whole.iteration) == ("callback", 6)
    assert whole.evaluations["greedy"].tolist() == [-1e9, 1, -1e9]
    (tmp_path / "run").rename(tmp_path / "whole")
    (shutil.copytree(tmp_path / "whole", tmp_path / "end") / "summary.json").unlink()
    outs = sorted(path for path in tmp_path.iterdir())
    assert [path.name for path in outs if "chunk" not in path.name] == [
        "end", "rows2", "rows4", "rows6", "whole"
    ]  # fmt: skip
    for out in outs:
        found = jaxpg.resume(out, callbacks=[measure])
        assert (found.stopped, found.iteration) == ("callback", 6), out.name
        assert (out / "evaluations.csv").read_bytes() == (
            tmp_path / "whole" / "evaluations.csv"
        ).read_bytes()
    assert jaxpg.resume(tmp_path / "end", target=2.0, callbacks=[measure]).stopped == "done"


@pytest.mark.slow  # its quick twins: the run that reached its target, and the command's options
def test_a_run_that_ended_by_its_target_stays_so_when_it_is_made_longer(tmp_path):
    """By default a longer run has longer chunks: of 10 iterations here, and of 100 then."""
    asked = {"chunk": None, "evaluations": 30, "checkpoints": 30, "target": -1e9}
    out, killed = tmp_path / "run", tmp_path / "killed"

    def copy(event):
        if event.iteration == 20:  # its rows are there, its checkpoint is not
            shutil.copytree(out, killed)

    whole = train(out, 0, Callback(on_metrics=copy), total_steps=30_000, **asked)
    assert (whole.stopped, whole.iteration) == ("callback", 20)
    unsaid = shutil.copytree(out, tmp_path / "unsaid")
    (unsaid / "summary.json").unlink()  # killed at the very end
    for folder in (out, unsaid):
        for more in ({"total_steps": 300_000}, {}, {"total_steps": 400_000}):
            found = jaxpg.resume(folder, **more)
            assert (found.stopped, found.iteration) == ("callback", 20), folder.name
    assert newest(killed / "checkpoints") == 10
    for more in ({"total_steps": 300_000}, {}):
        found = jaxpg.resume(killed, **more)  # the chunk after 10 is one of 100
        assert (found.stopped, found.iteration) == ("callback", 100)


def test_a_target_out_of_reach_is_asked_for_again(tmp_path):
    out = tmp_path / "run"
    assert train(out, 0, lambda event: event.iteration == 2, target=1e6).iteration == 2
    assert json.loads((out / "run.json").read_text())["target"] == 1e6
    assert jaxpg.resume(out).stopped == "done"


def test_tensorboard_is_asked_for_again(tmp_path):
    pytest.importorskip("tensorboardX")
    from tests.test_logging import scalars

    out = tmp_path / "run"
    train(out, 0, lambda event: event.iteration == 2, tensorboard=True)
    before = set((out / "tensorboard" / "seed-0").iterdir())
    assert jaxpg.resume(out).stopped == "done"
    (new,) = set((out / "tensorboard" / "seed-0").iterdir()) - before
    (tmp_path / "new").mkdir()
    shutil.copy(new, tmp_path / "new")
    steps = [step for name, step, _ in scalars(tmp_path / "new") if name == "episode/count"]
    assert steps == [400, 600, 800, 1000, 1200]


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"target": math.nan}, "target=nan: allowed is a finite number"),
        ({"target": 1.0, "evaluations": 0}, "evaluations=0: with a target allowed is an integer"),
        (
            {"tensorboard": True, "out": None},
            r"log=\(.*'tensorboard'.*\): allowed only with a folder",
        ),
        ({"log": ("wand",)}, "unknown logger 'wand': did you mean 'wandb'"),
        ({"log": "wandb"}, "log='wandb': allowed is a list of names: jsonl, tensorboard"),
        ({"log": [3]}, "log=.3.: allowed is a list of names"),
        ({"target": 1.0, "out": None, "evaluations": 0}, "evaluations=0: with a target allowed"),
    ],
)
def test_what_cannot_be_asked_for_is_named(tmp_path, asked, match):
    out = asked.pop("out", tmp_path / "run")
    with pytest.raises(ValueError, match=match):
        train(out, **asked)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_command_takes_its_options_again(tmp_path, monkeypatch, capsys):
    """`jaxpg resume` of a run that reached its target trains nothing."""
    from jaxpg import cli
    from jaxpg.cli import common

    monkeypatch.setattr(common, "set_up", lambda *_: None)
    line = f"train q_learning Cliff-jaxpg --total-steps 1200 --target -1e6 --out {tmp_path / 'run'}"
    assert cli.main(line.split()) == 0
    record = read_json(tmp_path / "run" / "run.json")
    assert (record["target"], record["log"]) == (-1e6, [])
    ended = read_json(tmp_path / "run" / "summary.json")
    assert (ended["stopped"], ended["iteration"] < 12) == ("callback", True)
    for more in ("", " --total-steps 2400"):
        assert cli.main(f"resume {tmp_path / 'run'}{more}".split()) == 0
        assert "the target is reached" in capsys.readouterr().out
        assert read_json(tmp_path / "run" / "summary.json") == ended
    assert jaxpg.load(tmp_path / "run").stopped == "callback"
    assert cli.main(f"resume {tmp_path / 'run'} --target 1e6".split()) == 0
    assert read_json(tmp_path / "run" / "summary.json")["iteration"] == 24
    assert jaxpg.load(tmp_path / "run").stopped == "done"
    assert cli.main(f"resume {tmp_path / 'run'} --target nan".split()) == 2
    assert "target=nan: allowed is a finite number" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*was made with devices")
@pytest.mark.parametrize("why", ["a missing extra", "devices"])
def test_a_resume_that_is_refused_leaves_the_folder_as_it_was(why, tmp_path, monkeypatch):
    """To the byte: what a run needs is looked at before its summary and its newer files go."""
    pytest.importorskip("tensorboardX")
    out = tmp_path / "run"
    asked = {"log": ["jsonl", "tensorboard"], "data_parallel": True}
    train(out, 0, lambda event: event.iteration == 6, **asked)
    read = lambda: {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}  # noqa: E731
    before = read()
    if why == "devices":
        three = jax.devices() * 3
        monkeypatch.setattr(jax, "devices", lambda: three)
        error, words = ValueError, "num_envs=1: with data_parallel=True allowed is a multiple of 3"
    else:
        monkeypatch.setitem(sys.modules, "tensorboardX", None)
        error, words = ImportError, r"pip install 'jaxpg\[tensorboard\]'"
    for more in ({}, {"total_steps": 3000}, {"target": 1e6}):
        with pytest.raises(error, match=words):
            jaxpg.resume(out, **more)
        assert read() == before
    monkeypatch.undo()
    assert jaxpg.resume(out).stopped == "done"


# Sweeps.


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of two parts as a kill would have left it just before its tables were written."""
    out = tmp_path_factory.mktemp("swept") / "sweep"
    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    points = jaxpg.sweep.grid(learning_rate=[0.1, 0.5])
    jaxpg.sweep.run(
        jaxpg.q_learning, cfg, env, jax.random.key(0), points,
        total_steps=1000, seeds=2, lanes=2, episodes=2, out=out,
    )  # fmt: skip
    record = read_json(out / "sweep.json")
    write_json(out / "sweep.json", {k: v for k, v in record.items() if k != "digests"})
    for path in out.glob("*.csv"):
        path.rename(path.with_suffix(".whole"))
    return out


@pytest.fixture
def sweep_folder(swept, tmp_path):
    return shutil.copytree(swept, tmp_path / "sweep")


@pytest.mark.slow
def test_a_sweep_that_was_killed_before_its_tables_writes_the_same(sweep_folder):
    assert len(jaxpg.load(sweep_folder).table) == 40
    jaxpg.resume(sweep_folder)
    for path in sweep_folder.glob("*.whole"):
        assert path.read_bytes() == path.with_suffix(".csv").read_bytes()


@pytest.mark.parametrize("name", ["metrics.csv", "evaluations.csv"])
@pytest.mark.parametrize("bit", [1, 128])
def test_a_changed_byte_of_a_part_is_found(sweep_folder, name, bit):
    path = sweep_folder / "parts" / "1" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= bit
    path.write_bytes(data)
    raises_everywhere(sweep_folder, rf"parts.1.{name}: found", (jaxpg.load, jaxpg.resume))


def test_a_part_of_another_sweep_is_named(sweep_folder):
    zero, one = (sweep_folder / "parts" / i for i in "01")
    zero.rename(sweep_folder / "parts" / "2")
    one.rename(zero)
    (sweep_folder / "parts" / "2").rename(one)  # of equal seeds, and another learning rate
    readers = (jaxpg.load, jaxpg.resume, lambda out: jaxpg.sweep.result(out, 0))
    raises_everywhere(
        sweep_folder, r"sweep\.json: found a file of run .*parts.0.run\.json", readers
    )
    shutil.rmtree(zero)
    raises_everywhere(sweep_folder, r"parts.0.run\.json: found no such file", readers)


@pytest.mark.parametrize("name", ["results", "evaluations", "scores"])
def test_a_table_of_a_sweep_that_is_no_text_is_named(sweep_folder, name):
    jaxpg.resume(sweep_folder)
    path = sweep_folder / f"{name}.csv"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 128
    path.write_bytes(data)
    raises_everywhere(sweep_folder, rf"{name}\.csv: found", (jaxpg.load, jaxpg.resume))
