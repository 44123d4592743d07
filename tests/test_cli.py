"""The command line: what it writes, says and answers, and that bad input costs one line."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
import tokenize
from pathlib import Path

import pytest

from jaxpg import cli
from jaxpg.cli import common
from jaxpg.core.interrupt import SIGNALS
from jaxpg.core.machine import count_cores
from jaxpg.experiment.files.atomic import read_json
from tests.conftest import slow_of

TINY = (
    "--config.num-envs 2 --config.num-steps 8 --config.hidden 4 --config.minibatches 1 "
    "--config.num-epochs 1 --param max_steps_in_episode=8"
)
TRAIN = f"train ppo CartPole-v1 {TINY} --total-steps 64"
JAXPG = [sys.executable, "-m", "jaxpg.cli"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in, with JAX's own settings left as the other tests have them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(common, "set_up", lambda *_: None)


@pytest.fixture
def jaxpg(capsys):
    """Runs a command line; gives its exit code, stdout and stderr."""

    def run(line):
        try:
            code = cli.main(line.split())
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


# Bad input.


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("trian", "unknown command 'trian': did you mean 'train'?"),
        ("train pppo CartPole-v1", "unknown agent 'pppo': did you mean 'ppo'?"),
        ("train ppo CartPol-v1", "unknown environment 'CartPol-v1': did you mean 'CartPole-v1'?"),
        ("train ppo", "no ENV is given"),
        ("train ppo MNISTBandit-bsuite", "'MNISTBandit-bsuite' needs a download"),
        (TRAIN + " --config.gamma 1.5", "gamma=1.5: allowed is a finite number >= 0 and <= 1"),
        (TRAIN + " --config.gamma nan", "gamma=nan: allowed is a finite number"),
        (TRAIN + " --config.num-envs 0", "num_envs=0: allowed is an integer >= 1"),
        (TRAIN + " --config.minibatches 3", "minibatches=3: allowed is a divisor of the batch"),
        (TRAIN + " --config.net nowhere:Net", "net='nowhere:Net': cannot import it"),
        ("train ppo Pendulum-v1 --config.head categorical", "whose actions are continuous"),
        ("train ppo CartPole-v1 --config.head gaussian", "whose actions are discrete"),
        (TRAIN + " --param masspol=1", "parameter 'masspol': did you mean 'masspole'?"),
        (TRAIN + " --param masspole", "param='masspole': allowed is NAME=VALUE"),
        (TRAIN + " --param masspole=inf", "param='masspole=inf': allowed is NAME=VALUE"),
        (TRAIN + " --total-steps 0", "total_steps=0: allowed is an integer >= 1"),
        (TRAIN + " --evaluations -1", "evaluations=-1: allowed is an integer >= 0"),
        (TRAIN + " --seeds 0", "seeds=0: allowed is an integer >= 1"),
        (TRAIN + " --seed -1", "seed=-1: allowed is an integer >= 0"),
        (TRAIN + " --target nan", "target=nan: allowed is a finite number"),
        (TRAIN + " --target 9 --evaluations 0", "evaluations=0: with a target"),
        (TRAIN + " --out occupied", "out='occupied': holds files"),
        (TRAIN + " --out occupied/thesis.txt/run", "is none"),
        ("resume nowhere", "nowhere/run.json: found no such file"),
        ("resume occupied", "occupied/run.json: found no such file"),
        ("eval nowhere", "nowhere/run.json: found no such file"),
        ("eval nowhere --episodes 0", "episodes=0: allowed is an integer >= 1"),
        ("plot", "no RUN is given"),
        ("plot nowhere", "nowhere/metrics.csv: found no rows"),
        ("plot nowhere --window 0", "window=0: allowed is an integer >= 1"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(jaxpg, tmp_path, line, words):
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.txt").write_text("dear")
    begun = time.process_time()
    code, out, err = jaxpg(line)
    assert code == 2
    assert out == ""  # not even that it begins
    assert err.startswith("jaxpg: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["occupied", "thesis.txt"]
    assert time.process_time() - begun < 8  # imports, but no compilation


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (TRAIN + " --config.gama 1", "--config.gamma"),
        (TRAIN + " --config.gamma high", "--config.gamma=high: allowed is a number"),
        (TRAIN + " --config.head mlp", "'categorical'"),
        ("eval", "run"),
    ],
)
def test_what_cannot_be_parsed_is_exit_code_2_too(jaxpg, line, words):
    code, _, err = jaxpg(line)
    assert code == 2
    assert words.lower() in err.lower()


# Help.


def test_help_of_an_agent_shows_its_config_as_it_is_tuned(jaxpg):
    import dataclasses

    import jaxpg as library

    code, out, _ = jaxpg("train ppo CartPole-v1 --help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 88
    tuned = library.preset("ppo", "CartPole-v1")
    assert tuned.learning_rate != library.ppo.Config().learning_rate
    words = " ".join(out.replace("│", " ").split())
    for field in dataclasses.fields(tuned):
        if field.name != "total_steps":  # of the run, not of the config
            assert f"--config.{field.name.replace('_', '-')}" in words
            assert field.metadata["help"] in words
    assert "--config.total-steps" not in words
    rate = f"FLOAT Learning rate of the network. (default: {tuned.learning_rate})"
    assert f"--config.learning-rate {rate}" in words
    assert "--config.target-kl {None}|FLOAT" in words
    assert "{auto,categorical," in words


def test_help_needs_no_source(jaxpg, monkeypatch):
    """So that it is the same from a zip or a frozen program."""
    _, out, _ = jaxpg("train ppo CartPole-v1 --help")
    missing = lambda *_: pytest.fail("the source is read")  # noqa: E731
    monkeypatch.setattr(inspect, "getsource", missing)
    monkeypatch.setattr(inspect, "findsource", missing)
    monkeypatch.setattr(tokenize, "tokenize", missing)
    assert jaxpg("train ppo CartPole-v1 --help") == (0, out, "")
    assert jaxpg("sweep sac Pendulum-v1 --help")[0] == 0
    assert jaxpg("render --help")[0] == 0


def test_usage_lists_every_command(jaxpg):
    _, out, _ = jaxpg("--help")
    rows = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert rows == list(cli.COMMANDS)
    assert max(map(len, out.splitlines())) <= 88


@pytest.mark.parametrize("line", ["--help", "train --help", "resume --help", "list --help"])
def test_help(jaxpg, line):
    code, out, _ = jaxpg(line)
    assert code == 0
    assert out.startswith("usage: jaxpg")


def test_help_is_quick():
    heavy = ["jax", "numpy", "gymnax", "distrax", "flax", "optax", "orbax"]
    heavy += ["matplotlib", "tensorboardX"]
    program = f"""if True:
        import sys
        from jaxpg import cli
        cli.main(["--help"])
        cli.main(["train"])
        assert not [m for m in {heavy} if m in sys.modules]"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_list_says_what_goes_together(jaxpg):
    code, out, _ = jaxpg("list")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    agents, envs = out.split("ENVIRONMENTS", 1)
    for name in ("a2c", "ppo", "reinforce", "MountainCarContinuous-v0"):
        assert name in agents
    discrete, continuous = envs.split("continuous")
    assert "Catch-bsuite" in discrete
    assert "Pendulum-v1" in continuous
    assert "Pendulum-v1" not in discrete
    continuous, games = continuous.split("GAMES  several players")
    assert "Portfolio-jaxpg" in continuous
    assert {"Kuhn-jaxpg,", "LiquidationGame-jaxpg,"} <= set(games.split())


# Runs.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder of two seeds."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "set_up", lambda *_: None)
        line = f"{TRAIN} --seeds 2 --evaluations 2 --config.target-kl 0.5 --out {folder}"
        assert cli.main(line.split()) == 0
    return folder


def test_train_writes_a_run_folder_and_a_table(jaxpg, tmp_path):
    asked = "--seeds 2 --evaluations 2 --config.target-kl 0.5"
    code, out, _ = jaxpg(f"{TRAIN} {asked} --log tensorboard")
    assert code == 0
    assert "no preset" not in out
    assert max(map(len, out.splitlines())) <= 80
    folder = Path("runs/ppo-CartPole-v1")
    rows = [line.split() for line in out.splitlines()]
    evaluation = read_json(folder / "summary.json")["evaluation"]
    for seed in (0, 1):
        cells = [f"{evaluation[kind][seed]:.4g}" for kind in ("greedy", "sampled")]
        assert [str(seed), *cells] in rows
    assert ["run", "folder", str(folder)] in rows
    assert "2 x 64 env steps in" in out
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in (folder / "tensorboard").iterdir()) == ["seed-0", "seed-1"]
    assert ["tensorboard", str(folder / "tensorboard")] in rows
    record = json.loads((folder / "run.json").read_text())
    assert record["config"]["target_kl"] == 0.5
    assert record["config"]["total_steps"] is None
    assert record["environment"]["max_steps_in_episode"] == 8

    assert jaxpg(f"{TRAIN} {asked}")[0] == 0
    again = Path("runs/ppo-CartPole-v1-2")
    assert (again / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()
    assert not (again / "tensorboard").exists()  # it was not asked for
    code, _, err = jaxpg(f"{TRAIN} --out {again}")
    assert code == 2
    assert "holds a run" in err


def test_without_a_preset_it_says_so(jaxpg):
    code, out, _ = jaxpg("train q_learning ShortCorridor-jaxpg --total-steps 200 --evaluations 0")
    assert code == 0
    assert "no preset of q_learning for ShortCorridor-jaxpg" in out
    assert "compiling ..." in out


def test_target_stops_a_run(jaxpg):
    code, out, _ = jaxpg(
        f"{TRAIN} --seeds 2 --evaluations 2 --config.target-kl 0.5 --target 1 --total-steps 640"
    )
    assert code == 0
    assert read_json("runs/ppo-CartPole-v1/summary.json")["stopped"] == "callback"
    assert "the target is reached" in out


def test_eval_measures_greedy_or_sampled(jaxpg, trained):
    code, out, _ = jaxpg(f"eval {trained} --episodes 5")
    assert code == 0
    assert "return of 5 greedy episodes at 64 env steps" in out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()}
    assert all(1 <= float(rows[seed][0]) <= 8 for seed in ("0", "1", "mean"))
    code, out, _ = jaxpg(f"eval {trained} --episodes 5 --sampled")
    assert code == 0
    assert "5 sampled episodes" in out


@pytest.mark.parametrize("shape", slow_of([(), (1,)], (1,)))
def test_eval_of_one_seed(jaxpg, shape):
    import jax

    import jaxpg as library

    cfg = library.ppo.Config(num_envs=2, num_steps=8, hidden=(4,), minibatches=1, num_epochs=1)
    env = library.make("CartPole-v1", max_steps_in_episode=8)
    key = jax.random.split(jax.random.key(0), shape)
    library.run(library.ppo, cfg, env, key, total_steps=32, out="run", evaluations=0)
    code, out, _ = jaxpg("eval run --episodes 3")
    assert code == 0
    rows = [line.split()[0] for line in out.splitlines()[1:] if line.split()]
    assert rows[0] == "seed"
    assert rows[-1] == "0"  # of one seed there is nothing to sum up


def test_resume_makes_a_run_longer(jaxpg, trained, tmp_path):
    import shutil

    shutil.copytree(trained, "copy")
    before = Path("copy/metrics.csv").read_bytes()
    code, out, _ = jaxpg("resume copy --total-steps 96")
    assert code == 0
    assert "2 x 96 env steps" in out
    assert Path("copy/metrics.csv").read_bytes().startswith(before)
    assert len(Path("copy/metrics.csv").read_text().splitlines()) == 1 + 2 * 6
    assert "target" not in out
    code, out, _ = jaxpg("resume copy")  # nothing is left to do
    assert code == 0
    assert "2 x 96 env steps" in out


def test_plot_draws_runs_into_one_figure(jaxpg, trained):
    code, out, _ = jaxpg(f"plot {trained} {trained} --out both.png")
    assert code == 0
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")
    assert out == "both.png\n"


def test_a_run_that_diverges_is_exit_code_1(jaxpg):
    code, _, err = jaxpg(TRAIN + " --seeds 2 --config.target-kl 0.5 --config.learning-rate 1e30")
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("jaxpg: error: params")
    assert "not finite in seeds 0, 1" in last
    assert "last good checkpoint is" in last


@pytest.mark.parametrize(
    ("name", "code"),
    [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 128 + signal.SIGUSR1), ("SIGHUP", 129)],
)
def test_a_signal_outside_the_loop_says_how_to_go_on_too(jaxpg, monkeypatch, name, code):
    """Where there is something to go on with; else nothing is left."""
    import jaxpg as library

    number = getattr(signal, name)
    begun, handlers = [False], [signal.getsignal(x) for x in SIGNALS]

    def interrupted(*args, out, **kwargs):
        if begun[0]:
            (out / "run.json").write_text("{}")
        os.kill(os.getpid(), number)
        time.sleep(1)

    monkeypatch.setattr(library, "run", interrupted)
    found, _, err = jaxpg(f"{TRAIN} --out here/there")
    assert (found, err) == (code, "jaxpg: interrupted; nothing was trained yet\n")
    assert not Path("here").exists()
    begun[0] = True
    found, _, err = jaxpg(f"{TRAIN} --out here/there")
    assert (found, err) == (code, "jaxpg: interrupted; go on with: jaxpg resume here/there\n")
    assert handlers == [signal.getsignal(x) for x in SIGNALS]


def test_ctrl_c_says_how_to_go_on_and_the_cache_is_used(tmp_path):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    del env["JAX_COMPILATION_CACHE_DIR"]  # the tests' own
    line = f"{TRAIN} --seeds 2 --total-steps 100000000 --evaluations 0 --out run"
    run = subprocess.Popen(
        [*JAXPG, *line.split()], env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        rows = tmp_path / "run" / "metrics.csv"
        for _ in range(600):
            if rows.exists() or run.poll() is not None:
                break
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 130, err
    assert err.splitlines()[-1].endswith("env steps; go on with: jaxpg resume run")
    assert list((tmp_path / "run" / "checkpoints").glob("*/manifest.json"))
    assert list((tmp_path / "cache" / "jaxpg").iterdir())
    devices = min(2, count_cores())
    assert read_json("run/run.json")["made_with"]["devices"].startswith(f"{devices} x ")


def test_a_parameter_is_also_a_word_of_python():
    from jaxpg.cli.options import parse_parameter

    assert [parse_parameter(f"a={x}")[1] for x in ("True", "true", "False", "false", "1")] == [
        True, True, False, False, 1
    ]  # fmt: skip
