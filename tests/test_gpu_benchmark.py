"""The benchmark of GPUs where there is none: bars, the order, going on, a trial."""

import itertools
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxpg import presets

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import gpu
import gpu_programs
import harness
from gpu_programs import PLAIN, ROWS, Setting

pytestmark = pytest.mark.defaults


def run_of(rate, compiled=10.0, kernels=1000.0):
    """What a process tells."""
    return {
        "steps/s": rate, "compile s": compiled, "memory MB": 900.0, "return": 500.0,
        "kernels": kernels, "kernels by kind": {"fusion": kernels}, "host MB": 1.0, "jax": "0.11.2",
    }  # fmt: skip


def runs_of(ratio, **figures):
    """Every row, with jaxpg so much faster than the faster peer."""
    peer = {"purejaxrl": [run_of(80.0, 12.0)], "rejax": [run_of(100.0)]}
    return {
        name: {"jaxpg": [run_of(100 * ratio, **figures)]}
        | {x: peer[x] for x in row.libraries if x in peer}
        for name, row in ROWS.items()
        if PLAIN not in row.libraries
    }


def words(runs):
    return [word for _, _, word in gpu.verdicts(runs)]


def test_bars_follow_the_measured_ratios():
    assert words({}) == ["open"] * len(gpu.BARS) == ["open"] * 10
    assert words(runs_of(1.8)) == ["pass"] * 10
    assert words(runs_of(1.5)) == ["shortfall", *["pass"] * 9]  # one seed needs 1.8
    assert words(runs_of(1.2)).count("shortfall") == 6
    # A cold compile is held against the peer that compiles in less time.
    slow = runs_of(2.0, compiled=11.5, kernels=1201.0)
    short = [bar for bar, _, word in gpu.verdicts(slow) if word == "shortfall"]
    assert [(x.row, x.figure) for x in short] == [
        ("one", "compile"), ("seeds", "compile"), ("envs", "compile"), ("one", "kernels"),
    ]  # fmt: skip


def test_a_bar_beside_peers_is_open_until_all_of_them_are_measured():
    runs = runs_of(2.0)
    del runs["one"]["rejax"]
    open_ = [bar for bar, _, word in gpu.verdicts(runs) if word == "open"]
    assert [(x.row, x.figure) for x in open_] == [("one", "speed"), ("one", "compile")]


def test_medians_are_of_all_rounds():
    runs = runs_of(2.0)
    runs["one"]["jaxpg"] = [run_of(x) for x in (100.0, 190.0, 900.0)]
    assert gpu.measured(gpu.BARS[0], runs) == pytest.approx(1.9)


def test_the_table_says_what_was_measured_and_what_is_short(capsys):
    gpu.show(runs_of(1.5))
    out = capsys.readouterr().out
    assert "PPO CartPole, 1 seed" in out
    assert "PureJaxRL" in out
    assert out.count("SHORTFALL") == 1
    lines = gpu.bar_lines(runs_of(1.5))
    assert lines[0].endswith(">= 1.8: shortfall, 1.50")
    assert lines[-1].endswith("kernels an iteration <= 1200: pass, 1000")


@pytest.fixture
def bench(monkeypatch):
    """The command with workers that take no time: `calls` are those asked for, `answer` makes what
    they tell, or raises."""
    made = SimpleNamespace(
        calls=[], environ={}, answer=lambda library, row: run_of(100.0), platform="gpu"
    )

    def worker(command, timeout, **environ):
        if "--device" in command:
            return {"platform": made.platform, "device": "none"}
        library, row = command[2:4]
        made.calls.append((row, library))
        made.environ[library] = environ
        return made.answer(library, row)

    def command(*words):
        made.calls.clear()
        places = ["--rejax", "/r", "--purejaxrl", "/p", "--purejaxrl-python", "/q"]
        monkeypatch.setattr(sys, "argv", ["gpu.py", *places, *map(str, words)])
        return gpu.main()

    monkeypatch.setattr(gpu, "worker", worker)
    made.command = command
    return made


ALL = [(name, library) for name, row in ROWS.items() for library in row.libraries]


def test_rows_by_importance_and_libraries_in_turn(bench, tmp_path):
    assert bench.command("--json", tmp_path / "x.json") == 1  # as fast as the peers is a shortfall
    assert bench.calls == ALL
    assert bench.calls[:4] == [
        ("one", "jaxpg"), ("one", "purejaxrl"), ("one", "rejax"), ("seeds", "jaxpg"),
    ]  # fmt: skip
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["runs"]["one"]["rejax"] == [run_of(100.0)]
    assert record["of"]["device"] == "none"
    assert record["date"].endswith("UTC")
    assert "python" in record["machine"]


def test_peers_do_not_see_what_jaxpg_is_given(bench, tmp_path):
    """Where packages are folders on PYTHONPATH: rejax needs another gymnax."""
    bench.command("--json", tmp_path / "x.json", "--dry")
    cpu = {"JAX_PLATFORMS": "cpu"}
    assert bench.environ["jaxpg"] == bench.environ[PLAIN] == cpu
    assert bench.environ["rejax"] == bench.environ["purejaxrl"] == cpu | {"PYTHONPATH": ""}


def test_a_second_call_measures_what_is_missing(bench, tmp_path):
    file = tmp_path / "x.json"

    def cut(library, row):
        if (row, library) == ("envs", "rejax"):
            raise KeyboardInterrupt
        return run_of(100.0)

    bench.answer = cut
    with pytest.raises(KeyboardInterrupt):
        bench.command("--json", file)
    done = ALL.index(("envs", "rejax"))
    bench.answer = lambda library, row: run_of(200.0 if library == "jaxpg" else 100.0)
    bench.command("--json", file)
    assert bench.calls == ALL[done:]
    bench.command("--json", file)
    assert bench.calls == []
    bench.command("--json", file, "--rounds", 2)
    assert bench.calls == ALL
    bench.command("--json", file, "--again")
    assert bench.calls == ALL


def test_other_sources_begin_anew(bench, tmp_path, monkeypatch, capsys):
    bench.command("--json", tmp_path / "x.json")
    monkeypatch.setattr(gpu, "sources", lambda: "other")
    bench.command("--json", tmp_path / "x.json")
    assert bench.calls == ALL
    assert "is of other sources" in capsys.readouterr().out


def test_what_failed_is_told_and_tried_again_by_the_next_call(bench, tmp_path, capsys):
    file = tmp_path / "x.json"

    def fail(library, row):
        if (row, library) == ("seeds", "purejaxrl"):
            raise harness.Failed("out of memory")
        return run_of(1000.0 if library == "jaxpg" else 100.0)

    bench.answer = fail
    assert bench.command("--json", file, "--rounds", 2) == 1
    assert bench.calls.count(("seeds", "purejaxrl")) == 1
    assert "seeds purejaxrl failed: out of memory" in capsys.readouterr().out
    assert json.loads(file.read_text())["failed"] == {"seeds purejaxrl": "out of memory"}
    bench.answer = lambda library, row: run_of(100.0)
    assert bench.command("--json", file) == 0
    assert bench.calls == [("seeds", "purejaxrl")]


def test_nothing_is_begun_that_would_not_end_in_time(bench, tmp_path, monkeypatch, capsys):
    """A clock of a minute for each process: of three minutes two are spent when a third begins."""
    clock = itertools.count(0, 60)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    bench.command("--json", tmp_path / "x.json", "--minutes", 3)
    assert bench.calls == ALL[:2]
    assert "one rejax is left to the next call: 0 s are left" in capsys.readouterr().out


def test_without_a_gpu_it_says_so_and_ends(bench, tmp_path, capsys):
    bench.platform = "cpu"
    assert bench.command("--json", tmp_path / "x.json") == 0
    assert capsys.readouterr().out == (
        "no GPU: JAX sees a CPU alone; --dry tries the command there\n"
    )
    assert not bench.calls
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("name", ROWS)
def test_a_trial_is_a_thousandth(name):
    row = ROWS[name]
    small = gpu_programs.thousandth(row)
    whole = gpu_programs.iteration(small) or 1
    assert small.steps % whole == 0
    assert row.steps * row.seeds / 1000 <= small.steps * small.seeds
    assert small.steps * small.seeds < row.steps * row.seeds / 1000 + whole * small.seeds


def test_rows_of_presets_are_as_long_as_the_presets():
    for row in ROWS.values():
        if row.make is gpu_programs.preset:
            agent, env = row.settings
            total = presets.table(agent)[env]["total_steps"]
            assert total <= row.steps < total + 64 * 128
        elif isinstance(row.settings, Setting):
            assert row.steps % gpu_programs.iteration(row) == 0


def trial(library, name, *more):
    command = harness.own("gpu_programs.py", library, name, "--dry", *more)
    return harness.worker(command, 300, JAX_PLATFORMS="cpu")


@pytest.mark.slow
def test_a_row_in_a_process_of_its_own():
    """The quick twin of the trial of all rows."""
    row = trial("jaxpg", "one")
    assert row["steps/s"] > 0
    assert row["compile s"] > 0
    assert row["memory MB"] is None
    assert 8 <= row["return"] <= 500
    assert row["kernels"] == pytest.approx(sum(row["kernels by kind"].values()), abs=0.2)


@pytest.mark.slow
def test_the_whole_command_on_a_cpu(tmp_path):
    """jaxpg alone, a process for each of its rows."""
    words = ["--dry", "--minutes", "30", "--json", tmp_path / "x.json"]
    out = harness.fresh(harness.own("gpu.py", *words), 1800, XDG_CACHE_HOME=str(tmp_path))
    assert "0 pass" in out or "1 pass" in out  # the kernels need no peer
    record = json.loads((tmp_path / "x.json").read_text())
    assert not record["failed"]
    expected = [pair for pair in ALL if pair[1] in ("jaxpg", PLAIN)]
    found = [(name, library) for name, row in record["runs"].items() for library in row]
    assert found == expected
