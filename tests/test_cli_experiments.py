"""The commands about many runs: what they print, write and answer; the display while they go on."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxpg import cli
from jaxpg.cli import common
from jaxpg.core.parallel.lanes import ACTIVE
from jaxpg.core.run import Event, Result
from jaxpg.experiment.listing.entries import read_entry
from jaxpg.experiment.sweeps.watching import display
from tests.test_cli import TINY, elsewhere, jaxpg  # noqa: F401  fixtures

SWEEP = f"sweep ppo CartPole-v1 {TINY} --total-steps 64 --seeds 2 --episodes 4"
GRID = " --grid learning_rate=1e-3,1e-2 env.gravity=9.8,20"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep's folder."""
    folder = tmp_path_factory.mktemp("swept") / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "set_up", lambda *_: None)
        assert cli.main(f"{SWEEP}{GRID} --out {folder}".split()) == 0
    return folder


def test_a_sweep_of_which_nothing_is_finite_is_exit_code_1(jaxpg, tmp_path):  # noqa: F811
    """As a run is: in its line, in its state, and when it is resumed."""
    folder = tmp_path / "lost"
    why = "NonFiniteError: what all 8 seeds learnt is not finite"
    grid = "--grid learning_rate=2e38,3e38 env.gravity=9.8,20"
    for line in (f"{SWEEP} {grid} --out {folder}", f"resume {folder}"):
        code, _, err = jaxpg(line)
        assert code == 1
        assert err.splitlines()[-1] == f"jaxpg: error: {why}; its tables are in {folder}"
    for command in ("status", "show"):
        assert f"failed: {why}" in " ".join(jaxpg(f"{command} {folder}")[1].split())
    assert "failed" in jaxpg(f"runs {folder}")[1]


def test_a_comparison_has_a_name_and_tags(jaxpg):  # noqa: F811
    line = "compare q_learning sarsa --env Cliff-jaxpg --total-steps 200 --seeds 1 --episodes 2"
    code, _, err = jaxpg(f"{line} --name tables --tag one --tag two")
    assert code == 0, err
    entry = read_entry(Path("comparisons/tables"))
    assert (entry.given, entry.tags, entry.kind) == ("tables", ("one", "two"), "comparison")
    assert "tables" in jaxpg("runs --tag two")[1]
    code, out, err = jaxpg(f"{line} --tag a/b")
    assert (code, out) == (2, "")
    assert "tags=" in err
    assert len(list(Path("comparisons").iterdir())) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (SWEEP, "no field is swept: give --grid, --random or --search"),
        (SWEEP + " --grid gama=0.9", "unknown field of a sweep 'gama': did you mean 'gamma'?"),
        (SWEEP + " --grid gravity=1", "'gravity': did you mean 'env.gravity'?"),
        (SWEEP + " --grid gamma=", "gamma=[]: allowed is a list of values, at least one"),
        (SWEEP + " --grid gamma", "'gamma': allowed is FIELD=VALUE,VALUE ... or FIELD=LOW:HIGH"),
        (SWEEP + " --grid gamma=0.9,1.5", "gamma=1.5: allowed is a finite number >= 0 and <= 1"),
        (SWEEP + " --grid gamma=0.9:1", "gamma=0.9 .. 1: a range can be drawn from or searched"),
        (SWEEP + " --grid minibatches=1,5", "minibatches=5: allowed is a divisor of the batch"),
        (
            SWEEP + " --random num_envs=2:8 --count 2",
            "it is static, a part of the compiled program",
        ),
        (SWEEP + " --random gamma=0.9:1 --count 0", "count=0: allowed is an integer >= 1"),
        (SWEEP + " --random gamma=1:0.9", "range 1.0 .. 0.9"),
        (SWEEP + " --grid gamma=1 --search gamma=0.9:1", "--search stands alone"),
        (SWEEP + GRID + " --out occupied", "out='occupied': holds files"),
        ("sweep ppo", "no ENV is given"),
        ("compare --env CartPole-v1", "no AGENT is given"),
        ("compare pppo --env CartPole-v1", "unknown agent 'pppo': did you mean 'ppo'?"),
        ("compare ppo --env CartPol-v1", "did you mean 'CartPole-v1'?"),
        ("compare ppo ddpg --env CartPole-v1", "ddpg.Config on CartPole-v1"),
        ("report", "no RUN is given"),
        ("report occupied", "allowed is the folder of a run, a sweep or a comparison"),
        ("report occupied --out page.pdf", "out='page.pdf': allowed is an .html file"),
        ("render occupied --out x.gif", "occupied: found no run.json"),
        ("render occupied --out x.png", "out='x.png': allowed are the endings .gif and .mp4"),
        ("render occupied --out x.gif --config 3", "config=3: allowed is None"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(jaxpg, tmp_path, line, words):  # noqa: F811
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.txt").write_text("dear")
    code, out, err = jaxpg(line)
    assert (code, out) == (2, "")
    assert err.startswith("jaxpg: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["occupied", "thesis.txt"]


@pytest.mark.parametrize("line", ["sweep --help", "compare --help", "report --help"])
def test_help(jaxpg, line):  # noqa: F811
    code, out, _ = jaxpg(line)
    assert code == 0
    assert out.startswith("usage: jaxpg")


def test_values_on_the_command_line():
    from jaxpg.cli.options import parse_values

    assert parse_values("a=1e-4,3") == ("a", [1e-4, 3])
    assert parse_values("hidden=[64],[64,64],[]") == ("hidden", [[64], [64, 64], []])
    assert parse_values("a=tanh,relu") == ("a", ["tanh", "relu"])
    assert parse_values("a=True,false,None") == ("a", [True, False, None])
    assert parse_values("net=jaxpg.nets.networks:CNN") == ("net", ["jaxpg.nets.networks:CNN"])
    assert parse_values("a=1:2")[1] == (1.0, 2.0, False)
    assert parse_values("a=1e-4:1e-2:log")[1] == (1e-4, 1e-2, True)


def test_a_sweep_ends_with_its_best_configs(jaxpg, swept):  # noqa: F811
    code, out, _ = jaxpg(f"{SWEEP}{GRID}")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "4 configs x 2 seeds, 1 part of 8, " in out
    assert "interquartile mean of 2 seeds" in out
    rows = [line.split() for line in out.splitlines()]
    for rate in ("0.001", "0.01"):
        for gravity in ("9.8", "20"):
            assert sum(row[:2] == [rate, gravity] for row in rows) == 1
    assert "8 runs, 512 env steps in" in out
    folder = Path("sweeps/ppo-CartPole-v1")
    for name in ("results", "evaluations", "scores"):
        ours, theirs = (f / f"{name}.csv" for f in (folder, swept))
        assert ours.read_bytes() == theirs.read_bytes()
    code, out, _ = jaxpg(f"resume {folder}")
    assert code == 0
    assert "interquartile mean of 2 seeds" in out
    code, _, err = jaxpg(f"resume {folder} --total-steps 128")
    assert code == 2
    assert "total_steps=128: allowed is None for a sweep" in err


def test_a_random_sweep_goes_with_a_grid(jaxpg):  # noqa: F811
    line = f"{SWEEP} --grid learning_rate=1e-3,1e-2 --random gamma=0.9:0.99 --count 2 --out s"
    code, _, _ = jaxpg(line)
    assert code == 0
    rows = Path("s/scores.csv").read_text().splitlines()
    assert rows[0].startswith("config,learning_rate,gamma,seed,")
    assert len(rows) == 1 + 2 * 2 * 2  # as many as in the sweep above: one program


@pytest.mark.slow
def test_report_and_render_of_a_sweep(jaxpg, swept):  # noqa: F811
    code, out, _ = jaxpg(f"report {swept} --out page.html")
    assert code == 0
    assert out.startswith("page.html  ")
    assert Path("page.html").read_text().startswith("<!DOCTYPE html>")
    code, out, _ = jaxpg(f"render {swept} --config 3 --policy 1 --out x.gif")
    assert code == 0
    assert out.startswith("episode 1: return ")
    assert Path("x.gif").read_bytes().startswith(b"GIF89a")
    code, _, err = jaxpg(f"render {swept} --out y.gif")
    assert code == 2
    assert "holds many configs, say which: --config 0, 1, ..." in err


# The display.


def event(iteration, going, greedy=None, num_iters=10):
    metrics = {ACTIVE: np.array(going)}
    if greedy is not None:
        metrics["eval/greedy"] = np.array(greedy, float)
    return Event(iteration, num_iters, 0, metrics, None, 0.0)


def lines(capsys):
    return [line.strip().split("  ") for line in capsys.readouterr().err.splitlines()]


def test_the_display_counts_what_was_done(capsys, monkeypatch):
    """Two parts of two configs with two seeds, ten iterations of 100 steps; a second a chunk."""
    clock = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    lanes = lambda first: [[p, s] for p in (first, first + 1) for s in (0, 1)]  # noqa: E731
    part = {"iterations": 10, "env_steps": 100, "over": False}
    show = display([part | {"lanes": lanes(0)}, part | {"lanes": lanes(2)}])
    first, on = show(0), [[1] * 5] * 4
    first.on_metrics(event(5, on))  # its compilation is in the clock that is not counted
    first.on_metrics(event(10, on, [1, 3, 10, 20]))
    first.on_end(Result(*[None] * 7, "done", 0.0))
    # Nothing has been timed after the first chunk: a quarter is done, no rate is known.
    assert lines(capsys) == [
        ["25%", "0/4 configs, 2 running"],
        ["50%", "2/4 configs, 0 running", "2k steps/s", "best 15", "ETA 0:00:02"],
    ]
    second = show(1)
    second.on_metrics(event(5, on))
    # Both seeds of config 2 end at their target: no work is left of them, and no steps are lived.
    second.on_metrics(event(7, [[1, 0], [1, 0], [1, 1], [1, 1]], [30, 40, np.nan, np.nan]))
    found = lines(capsys)
    assert found[0] == ["75%", "2/4 configs, 2 running", "2k steps/s", "best 15", "ETA 0:00:01"]
    # 5 + 2 + 2 + 5 ... of 80 lane-iterations: 40 + 10 + 10 + 7 + 7 = 74.
    rate = (2000 + 600) / 2
    assert found[1] == [
        "92%", "3/4 configs, 1 running", "1.3k steps/s", "best 35",
        f"ETA 0:00:0{round(0.075 * 8000 / rate)}",
    ]  # fmt: skip


def test_experiments_can_be_imported_before_the_devices_are_chosen():
    """`use_all_cores` has to come before anything of JAX, and after the imports of a script."""
    program = """if True:
        import jaxpg
        from jaxpg import compare, pictures, render, report, search, statistics, sweep
        jaxpg.use_all_cores(3)
        import jax
        assert jax.device_count() == 3"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
