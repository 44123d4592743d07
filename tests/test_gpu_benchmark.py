"""The benchmark of GPUs where there is none: kernels, bars, the order, going on, a trial."""

import itertools
import json
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jaxpg import presets

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import gpu
import gpu_programs
import harness
from gpu_programs import PLAIN, ROWS, Setting
from kernel_count import count_kernels

# As XLA prints a program for a GPU, with a command buffer, two nested loops, a loop whose trips it
# does not know, and a choice.
PROGRAM = """HloModule jit_train, is_scheduled=true, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%fused_add (param_0: f32[4]) -> f32[4] {
  %param_0 = f32[4]{0} parameter(0)
  ROOT %add.1 = f32[4]{0} add(%param_0, %param_0)
}

%command_buffer (p.1: f32[4]) -> (f32[4], f32[4]) {
  %p.1 = f32[4]{0} parameter(0)
  %loop_add_fusion.1 = f32[4]{0} fusion(%p.1), kind=kLoop, calls=%fused_add
  %loop_add_fusion.2 = f32[4]{0} fusion(%p.1), kind=kLoop, calls=%fused_add
  ROOT %tuple.1 = (f32[4]{0}, f32[4]{0}) tuple(%loop_add_fusion.1, %loop_add_fusion.2)
}

%less (a: f32[], b: f32[]) -> pred[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %lt = pred[] compare(%a, %b), direction=LT
}

%short (p.2: f32[4]) -> f32[4] {
  %p.2 = f32[4]{0} parameter(0)
  ROOT %loop_add_fusion.3 = f32[4]{0} fusion(%p.2), kind=kLoop, calls=%fused_add
}

%long (p.3: f32[4]) -> f32[4] {
  %p.3 = f32[4]{0} parameter(0)
  %loop_add_fusion.4 = f32[4]{0} fusion(%p.3), kind=kLoop, calls=%fused_add
  ROOT %sort.1 = f32[4]{0} sort(%loop_add_fusion.4), dimensions={0}, to_apply=%less
}

%inner_body (p.4: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.4 = (s32[], f32[4]{0}) parameter(0)
  %i.4 = s32[] get-tuple-element(%p.4), index=0
  %x.4 = f32[4]{0} get-tuple-element(%p.4), index=1
  %gemm = (f32[2,2]{1,0}, s8[4194304]{0}) custom-call(%x.4), custom_call_target="__cublas$gemm"
  %y.4 = f32[2,2]{1,0} get-tuple-element(%gemm), index=0
  %input_fusion.4 = f32[4]{0} fusion(%y.4), kind=kInput, calls=%fused_add
  ROOT %tuple.4 = (s32[], f32[4]{0}) tuple(%i.4, %input_fusion.4)
}

%never (p.5: (s32[], f32[4])) -> pred[] {
  %p.5 = (s32[], f32[4]{0}) parameter(0)
  ROOT %wrapped_compare = pred[] fusion(%p.5), kind=kLoop, calls=%fused_add
}

%outer_body (p.6: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.6 = (s32[], f32[4]{0}) parameter(0)
  %i.6 = s32[] get-tuple-element(%p.6), index=0
  %x.6 = f32[4]{0} get-tuple-element(%p.6), index=1
  %call.6 = (f32[4]{0}, f32[4]{0}) call(%x.6), to_apply=%command_buffer
  %copy-start.6 = (f32[4]{0}, f32[4]{0}, u32[]) copy-start(%x.6)
  %copy-done.6 = f32[4]{0} copy-done(%copy-start.6)
  %while.6 = (s32[], f32[4]{0}) while(%p.6), condition=%never, body=%inner_body, backend_config={"known_trip_count":{"n":"3"}}
  %y.6 = f32[4]{0} conditional(%i.6, %x.6, %x.6), branch_computations={%short, %long}
  ROOT %tuple.6 = (s32[], f32[4]{0}) tuple(%i.6, %y.6)
}

%free_body (p.7: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.7 = (s32[], f32[4]{0}) parameter(0)
  %i.7 = s32[] get-tuple-element(%p.7), index=0
  %x.7 = f32[4]{0} get-tuple-element(%p.7), index=1
  %copy.7 = f32[4]{0} copy(%x.7)
  ROOT %tuple.7 = (s32[], f32[4]{0}) tuple(%i.7, %copy.7)
}

ENTRY %main.9 (Arg_0.1: f32[4]) -> f32[4] {
  %Arg_0.1 = f32[4]{0} parameter(0), metadata={op_name="x"}
  %zero = s32[] constant(0)
  %copy.9 = f32[4]{0:T(4)} copy(%Arg_0.1)
  %tuple.9 = (s32[], f32[4]{0}) tuple(%zero, %copy.9)
  %while.9 = (s32[], /*index=1*/f32[4]{0}) while(%tuple.9), condition=%never, body=%outer_body, metadata={op_name="jit(train)/while"}, backend_config={"known_trip_count":{"n":"5"},"known_init_step":{"init":"0","step":"1"}}
  %while.10 = (s32[], f32[4]{0}) while(%while.9), condition=%never, body=%free_body
  ROOT %out = f32[4]{0} get-tuple-element(%while.10), index=1
}
"""  # noqa: E501


def test_kernels_of_a_gpu_program_are_counted_with_the_trips_of_their_loops():
    """By hand. A trip of the outer loop: a call of 2 fusions, a copy, 3 trips of a product and a
    fusion, and the longer branch, a fusion and a sort; it makes 5. Beside it a copy, and a loop of
    one copy whose condition, a fusion, is asked."""
    trip = Counter({"fusion": 2 + 3 + 1, "copy-start": 1, "custom-call": 3, "sort": 1})
    whole = Counter({kind: 5 * n for kind, n in trip.items()})
    whole.update({"copy": 2, "fusion": 1})
    assert count_kernels(PROGRAM) == whole
    assert count_kernels(PROGRAM).total() == 5 * 11 + 3


def test_a_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="text='HloModule x': allowed is a compiled program's"):
        count_kernels("HloModule x")


def nested(outer, inner):
    """Sorts in `outer` trips: one, and `inner` trips of two; each needs the one before it."""

    def sorted_(x):
        return jax.lax.sort(x * 1.1 - x[0])

    def trip(x, _):
        x = jax.lax.scan(lambda x, _: (sorted_(sorted_(x)), None), sorted_(x), length=inner)[0]
        return x, None

    x = jnp.arange(8.0)
    return jax.jit(lambda x: jax.lax.scan(trip, x, length=outer)[0]).lower(x).compile().as_text()


def test_kernels_of_a_compiled_program_are_counted_with_the_trips_of_nested_scans():
    """What XLA makes of the products between sorts is its own; a sort is one operation."""
    assert count_kernels(nested(5, 7))["sort"] == 5 * (1 + 7 * 2)
    three, six = (count_kernels(nested(n, 7)).total() for n in (3, 6))
    once = three - (six - three)  # beside the loop
    assert 0 <= once < 10
    assert count_kernels(nested(9, 7)).total() == once + 3 * (six - three)


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
