"""Tunings: the space, the design, the budget; held-out seeds; presets and back; killed, gone on."""

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import jaxpg
from jaxpg.cli.common import resumable
from jaxpg.cli.tune import _sum_up as sum_up
from jaxpg.core.config import to_dict
from jaxpg.experiment.files.atomic import read_json
from jaxpg.experiment.report.tuning import tuning_sections, verdict_table
from jaxpg.experiment.sweeps import Sweep
from jaxpg.experiment.sweeps.points import Range
from jaxpg.experiment.tuning import Tuned, budget, design, judge
from jaxpg.experiment.tuning.budget import Asked, Clock, require_asked
from jaxpg.experiment.tuning.space import STANDARD, make_space, standard_space
from jaxpg.experiment.tuning.tune import make_check, preset_fields
from jaxpg.presets.file import format_file, read_file
from tests.conftest import INSTALLED, TINY, short_env, slow_of
from tests.test_cli import elsewhere  # noqa: F401  a fixture
from tests.test_cli import jaxpg as command  # noqa: F401

# Q-learning that learns nothing in so few steps at its rate, and does at a higher one.
SLOW = {"learning_rate": 1e-4, "num_steps": 20}
SPACE = {"learning_rate": [1e-4, 0.5], "gamma": [1.0], "epsilon": [0.1]}
SPACE |= {"learning_rate_schedule": ["constant"]}
OWN = {name: [getattr(jaxpg.q_learning.Config(**SLOW), name)] for name in SPACE}
FEW = {"total_steps": 4000, "budget_steps": 60_000, "held_out": 4, "finalists": 1, "episodes": 8}


@pytest.fixture(scope="module")
def cliff():
    return jaxpg.make("Cliff-jaxpg")


@pytest.fixture(scope="module")
def cfg():
    return jaxpg.q_learning.Config(**SLOW)


def go(cfg, cliff, key=0, **settings):
    settings = {"space": SPACE} | FEW | settings
    return jaxpg.tune("q_learning", cfg, cliff, jax.random.key(key), **settings)


@pytest.fixture(scope="module")
def found(cfg, cliff, tmp_path_factory):
    return go(cfg, cliff, out=tmp_path_factory.mktemp("tuned") / "t")


# The space.


@pytest.mark.parametrize("name", slow_of(INSTALLED, *{*INSTALLED} - {"dqn", "cem", "q_learning"}))
def test_every_agent_has_a_space_and_may_have_its_ends(name):
    """Numbers at the ends of their ranges are allowed, and so is the config's own program."""
    agent = jaxpg.agents.get(name)
    tiny = agent.Config(**TINY[name])
    env, space = short_env(agent, tiny), standard_space(tiny)
    assert space
    check = make_check(agent, tiny, env, jax.random.key(0))
    for field, values in space.items():
        own = getattr(tiny, field)
        if isinstance(values, Range):
            check({field: values.low})
            check({field: values.high})
            assert values.low <= own <= values.high
        else:
            assert own in values
    chosen = design.choose_programs(tiny, space, 2, check)
    assert chosen[0] == {name: getattr(tiny, name) for name in chosen[0]}


def test_every_row_is_of_some_agent():
    fields = {f for name in INSTALLED for f in standard_space(jaxpg.agents.get(name).Config())}
    assert fields >= STANDARD.keys()


def test_values_follow_from_the_config_and_its_limits():
    space = standard_space(jaxpg.ppo.Config(learning_rate=1e-3, num_envs=4, num_steps=128))
    assert space["learning_rate"] == pytest.approx((3e-4, 3e-2, True))
    assert space["num_envs"] == [4, 16]
    assert space["num_steps"] == [128, 16, 32]
    assert space["normalize_obs"] == [False, True]
    assert space["gamma"][0] == 0.99
    assert "buffer_size" not in space
    assert standard_space(jaxpg.sac.Config(tau=0.5))["tau"] == (0.25, 1.0, True)
    assert "tau" not in standard_space(jaxpg.dqn.Config(tau=1.0))  # at its limit: a hard update
    assert "num_envs" not in standard_space(jaxpg.dqn.Config())


def test_given_values_take_the_place_of_a_row(cliff, cfg):
    space = make_space(cfg, cliff, {"learning_rate": [0.3], "decay": [0.0, 0.5]})
    assert space["learning_rate"] == [0.3]
    assert space["decay"] == [0.0, 0.5]
    assert space["gamma"][0] == 0.99


# The design.


def test_programs_begin_with_the_config_and_differ_as_much_as_they_can():
    cfg = jaxpg.ppo.Config()
    space = {"normalize_obs": [False, True], "normalize_reward": [False, True], "gamma": [0.9]}
    space |= {"num_epochs": [4, 10]}
    chosen = design.choose_programs(cfg, space, 3, lambda point: None)
    assert chosen[0] == {"normalize_obs": False, "normalize_reward": False, "num_epochs": 4}
    assert chosen[1] == {"normalize_obs": True, "normalize_reward": True, "num_epochs": 10}
    assert len({str(x) for x in design.choose_programs(cfg, space, 99, lambda p: None)}) == 8

    def refuse(point):
        if point["normalize_obs"]:
            raise ValueError("no")

    chosen = design.choose_programs(cfg, space, 99, refuse)
    assert len(chosen) == 4
    with pytest.raises(ValueError, match="no"):
        design.choose_programs(cfg, {"normalize_obs": [True]}, 1, refuse)
    assert not any(point["normalize_obs"] for point in chosen)
    assert design.choose_programs(cfg, {"gamma": [0.9]}, 4, lambda p: None) == [{}]


def test_points_are_a_latin_hypercube():
    space = {"a": Range(1e-4, 1.0, True), "b": Range(0.0, 8.0), "c": ["x", "y"]}
    points = design.spread_points(space, 8, [1, 2])
    exponents = np.sort(np.log10([p["a"] for p in points]))
    assert (np.floor((exponents + 4) / 4 * 8) == np.arange(8)).all()
    assert sorted(int(p["b"]) for p in points) == list(range(8))
    assert sorted(p["c"] for p in points) == ["x"] * 4 + ["y"] * 4
    assert points == design.spread_points(space, 8, [1, 2])
    assert points != design.spread_points(space, 8, [1, 3])


# The budget.


def test_rounds_and_their_cost():
    asked = Asked(1600, seeds=2, held_out=5, rounds=3, keep=4, finalists=3)
    assert [asked.steps(i) for i in range(3)] == [100, 400, 1600]
    assert [asked.points(i, 64) for i in range(3)] == [64, 16, 4]
    assert [asked.points(i, 8) for i in range(3)] == [8, 3, 3]  # there are finalists at the end
    last = 4 * 5 * 1600
    assert asked.cost(64) == 2 * (64 * 100 + 16 * 400 + 4 * 1600) + last
    assert asked.cost(64, 2) == 2 * 4 * 1600 + last
    assert asked.behind(0, 1) == 2 * (400 + 1600) + 2 * 5 * 1600
    assert asked.behind(1, 3) == 2 * 3 * 1600 + last


@pytest.mark.parametrize("steps", [60_000, 100_000, 1_234_567])
def test_a_budget_in_steps_is_used_and_kept(steps):
    asked = Asked(1600, None, steps, held_out=5)
    most = asked.most()
    assert asked.cost(most) <= steps < asked.cost(most + 1)


@pytest.mark.parametrize("iterations", [(1,), (1000,), (70, 1000), (3, 7, 4096)])
def test_a_training_takes_whole_iterations_of_the_program_that_needs_most(iterations):
    asked = Asked(1600, None, 10**9, seeds=2, held_out=5, finalists=1, iterations=iterations)
    for steps in (1, 70, 400, 1000, 1600):
        assert asked.whole(steps) == max(-(-steps // n) * n for n in iterations)
    last = 2 * 5 * asked.whole(1600)
    assert asked.cost(8) == 2 * (8 * asked.whole(400) + 2 * asked.whole(1600)) + last


def test_a_budget_counts_whole_iterations(cliff):
    """2 x 2000 + 2 x 4000 in the rounds, 2 x 3 x 4000 behind them; asked for are 34,000."""
    wide = jaxpg.q_learning.Config(num_envs=4, num_steps=500)
    with pytest.raises(ValueError, match="allowed is an integer >= 36000, for 1 point and 3"):
        go(wide, cliff, held_out=3, budget_steps=35_999)


def test_a_tuning_keeps_to_its_steps(found):
    sweeps = [*found.rounds, found.held_out]
    assert sum(int(x.scores["env_steps"].sum()) for x in sweeps) <= FEW["budget_steps"]


def test_the_clock_plans_by_pace_and_compiling(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Clock(1.0, 12.0, programs=4)
    assert clock.left() == 48
    assert clock.takes(1000, 2) == 0  # nothing is known
    clock.note(5.0, 25.0, 1000)  # of which 15 are compiling too, but that is not known yet
    more = budget.MARGIN
    assert clock.takes(1000, 2) == more * (25 + 2 * 2 * 5 / 4)  # two sweeps of two programs
    clock.note(0.0, 10.0, 1000)
    assert clock.takes(2000) == pytest.approx(more * 20)
    assert clock.takes(2000, 1, each=9) == pytest.approx(more * (20 + 5 + 15))  # there are but four
    now[0] += 18
    assert clock.room(7.0, 10.0) == 2
    assert Clock(1.0, 60.0).left() <= 0
    assert Clock(None, 0).room(7.0, 10.0) > 1e5


# Held-out seeds.


def fake(scores, training=None):
    """A sweep's tables with these scores [configs, seeds]."""
    scores = np.asarray(scores, float)
    training = np.zeros(scores.shape) if training is None else np.asarray(training, float)
    rows = [(c, s, x) for c, own in enumerate(scores) for s, x in enumerate(own)]
    table = pd.DataFrame(rows, columns=["config", "seed", "score"])
    table["ended"] = np.where(table["score"].isna(), "diverged", "done")
    curve = table[["config", "seed"]].assign(**{"episode/return": training.ravel()})
    points = [{"gamma": c / 10} for c in range(len(scores))]
    return Sweep(Path(), {"points": points}, ["gamma"], curve, None, table)


def test_points_rank_by_score_then_by_area_and_a_diverged_seed_is_the_worst():
    scores = [[1, 1], [5, np.nan], [3, 3], [1, 1], [np.nan, np.nan]]
    order = judge.rank_points(fake(scores, [[0, 0], [9, 9], [0, 0], [2, 2], [8, 8]]))
    assert order == [1, 2, 4, 3, 0]  # the second is (5 + 1) / 2, like the third


def test_a_seed_without_a_greedy_return_counts_as_the_worst_whatever_the_reason():
    """One that diverged, one whose episodes do not end, and a config of which none does."""
    sweep = fake([[4, np.nan, 6], [1, 2, 3], [np.nan] * 3])
    sweep.scores["ended"] = "done"
    np.testing.assert_array_equal(judge.seed_scores(sweep), [[4, 1, 6], [1, 2, 3], [1, 1, 1]])
    before, finalists = judge.judge_finalists(sweep)
    np.testing.assert_array_equal(before, [4, 1, 6])
    assert [x.gain.value for x in finalists] == pytest.approx([-5 / 3, -8 / 3])
    assert judge.rank_points(sweep) == [0, 1, 2]


def test_where_no_seed_has_a_return_nothing_is_judged():
    none = fake([[np.nan, np.nan]] * 2, [[1, 1], [2, 2]])
    before, finalists = judge.judge_finalists(none)
    assert (len(before), finalists) == (0, [])
    assert judge.rank_points(none) == [1, 0]  # by the returns in training
    assert judge.all_alike(none)
    assert not judge.all_alike(fake([[1, 2], [2, 2]]))


def test_a_finalist_is_better_if_its_paired_interval_is_above_zero():
    rng = np.random.default_rng(0)
    level = rng.normal(0, 50, 10)  # of the seeds; a pair shares it
    noise = rng.normal(0, 1, (3, 10))
    before, finalists = judge.judge_finalists(
        fake([level, level + 5 + noise[0], level + noise[1], level + 60 * noise[2]])
    )
    np.testing.assert_allclose(before, level)
    assert [x.better for x in finalists] == [True, False, False]
    assert finalists[0].gain.value == pytest.approx(5 + noise[0].mean())
    assert finalists[0].confidence == pytest.approx(1 - 0.05 / 3)
    assert judge.choose_winner(finalists) is finalists[0]
    assert judge.choose_winner(finalists[1:]) is None


def test_the_intervals_of_all_finalists_hold_at_once():
    """Of settings that are no better at most one tuning in twenty finds a winner: tails of both
    sides are 5 %, and only the upper one wins."""
    rng, wrong, tries = np.random.default_rng(1), 0, 200
    for _ in range(tries):
        _, finalists = judge.judge_finalists(fake(rng.normal(0, 1, (4, 10))))
        wrong += judge.choose_winner(finalists) is not None
    assert wrong / tries <= 0.05


def test_no_round_has_a_seed_of_the_comparison(found):
    keys = [str(x.about["key"]["words"]) for x in (*found.rounds, found.held_out)]
    assert len(set(keys)) == 3


# A whole tuning.


def test_a_tuning_finds_the_rate_that_learns(found, cfg):
    assert found.over
    assert len(found.rounds) == 2
    assert found.winner.point["learning_rate"] == 0.5
    assert found.before.mean() < -50  # it walks on until the time is up
    assert found.winner.mean.value > found.before.mean() + 20
    assert found.config == jaxpg.core.config.replace(cfg, learning_rate=0.5, gamma=1.0)
    assert read_json(found.folder / "tune.json")["winner"] == found.winner.point


def test_the_preset_comes_back_as_the_config(found, cliff):
    assert found.preset == found.folder / "preset.toml"
    assert jaxpg.preset("q_learning", cliff.name, found.preset) == found.config
    back = jaxpg.preset("q_learning", cliff.name, found.preset, gamma=0.5)
    assert (back.gamma, back.learning_rate) == (0.5, 0.5)
    told = tomllib.loads(found.preset.read_text())
    assert told["agent"] == "q_learning"
    assert told[cliff.name]["total_steps"] == FEW["total_steps"]
    # As jaxpg's own: only what differs from the defaults.
    assert told[cliff.name]["config"] == {"num_steps": 20, "gamma": 1.0, "learning_rate": 0.5}


def test_a_run_begins_with_a_preset_and_records_it(found, cliff, tmp_path):
    key = jax.random.key(0)
    jaxpg.run(
        "q_learning", None, cliff, key, total_steps=100, out=tmp_path / "a", preset=found.preset
    )
    record = read_json(tmp_path / "a" / "run.json")
    assert record["config"]["learning_rate"] == 0.5
    assert record["preset"] == str(found.preset)
    jaxpg.run("q_learning", None, cliff, key, total_steps=100, out=tmp_path / "b")
    assert "preset" not in read_json(tmp_path / "b" / "run.json")


def test_where_nothing_is_better_there_is_no_preset(cliff, tmp_path):
    good = jaxpg.q_learning.Config(learning_rate=0.5, gamma=1.0, num_steps=20)
    worse = SPACE | {"learning_rate": [1e-4, 2e-4]}
    found = go(good, cliff, space=worse, out=tmp_path / "t")
    assert found.winner is None
    assert found.preset is None
    assert found.config == good
    assert not (tmp_path / "t" / "preset.toml").exists()


def test_minutes_end_in_time_and_widen_the_first_round(cfg, cliff):
    """One that has no time takes the least that there is; one that has trains in waves."""
    lines = []
    space = SPACE | {"learning_rate": jaxpg.sweep.loguniform(1e-4, 0.5)}
    settings = {"budget_steps": None, "space": space, "log": lines.append}
    found = go(cfg, cliff, minutes=1e-3, **settings)
    assert [len(x.about["points"]) for x in (*found.rounds, found.held_out)] == [4, 1, 2]
    assert any("minutes more than was asked for" in line for line in lines)
    assert found.over


def test_a_tuning_without_a_folder_leaves_nothing(cfg, cliff, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = go(cfg, cliff)
    assert found.over
    assert found.winner is not None
    assert found.preset is None  # it would be of a folder that is gone
    assert list(tmp_path.iterdir()) == []


def test_resume_of_one_that_is_over_loads_it(found):
    again = jaxpg.resume(found.folder)
    assert again.winner.point == found.winner.point
    np.testing.assert_array_equal(again.before, found.before)
    with pytest.raises(ValueError, match="total_steps=1: allowed is None for a tuning"):
        jaxpg.resume(found.folder, total_steps=1)


KILLED = """
import os, signal, sys, jax, jaxpg
from jaxpg.experiment.sweeps import sweep
real, calls = sweep.run_folder.run, []
def run(folder, *args):
    calls.append(folder)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(folder, *args)
sweep.run_folder.run = run
from tests.test_tuning import FEW, SLOW, SPACE
jaxpg.tune("q_learning", jaxpg.q_learning.Config(**SLOW), "Cliff-jaxpg", jax.random.key(0),
           space=SPACE, out=sys.argv[1], **FEW)
"""


def tables(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.glob("rounds/*/*.csv"))}


@pytest.mark.slow  # its quick twin is a run that is killed, in test_runs.py
@pytest.mark.parametrize("at", [2, 3])
def test_a_tuning_that_was_killed_goes_on_to_the_byte(found, tmp_path, at):
    """at: the sweep in which it is killed, before its first part is trained."""
    out = tmp_path / "t"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(out), str(at)], capture_output=True, text=True,
        timeout=300, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (out / "preset.toml").exists()
    again = jaxpg.resume(out)
    assert again.over
    assert tables(out) == tables(found.folder)
    assert again.winner.point == found.winner.point


# What cannot work.


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"space": {"gama": [1]}}, "unknown field to search 'gama': did you mean 'gamma'"),
        ({"space": {"env.size": [1]}}, "search env.size: allowed are fields of the config"),
        ({"space": {"gamma": [0.9, 1.5]}}, "gamma=1.5: allowed is a finite number >= 0 and <= 1"),
        ({"space": {"gamma": []}}, "gamma=.*at least one"),
        ({"space": {1: [1]}}, "unknown field to search 1"),
        ({"space": {"gamma": np.ones((2, 2))}}, r"gamma=array.*\]\): allowed is a list of values"),
        ({"space": {"gamma": Range(0.0, 1.0, True)}}, r"gamma=loguniform 0.0 .. 1.0: .*> 0"),
        ({"space": {"gamma": Range(1.0, 0.5)}}, r"gamma=range 1.0 .. 0.5: .*the lower one first"),
        ({"space": {"gamma": Range(0.5, 0.5, True)}}, "gamma=range 0.5 .. 0.5"),
        ({"space": OWN}, "no field is searched, allowed is a space with another value"),
        ({"log": None}, "log=None: allowed is a function of a text"),
        ({"space": {"num_envs": Range(1, 2)}}, "num_envs=1 .. 2: it is static"),
        ({"space": {"bins": [[1, 2]]}}, "bins"),
        ({"space": [1]}, "allowed is a dict of fields"),
        ({"total_steps": 0}, "total_steps=0: allowed is an integer >= 1"),
        ({"budget_steps": 100}, "budget_steps=100: .* >= 42000, for 1 point and 4"),
        ({"minutes": -1}, "minutes=-1: allowed is a number > 0"),  # though the steps have a budget
        ({"budget_steps": None, "minutes": 0}, "minutes=0: allowed is a number > 0"),
        ({"budget_steps": None, "minutes": None}, "minutes=None"),
        ({"held_out": 2}, "held_out=2: allowed is an integer >= 3"),
        ({"keep": 1}, "keep=1: allowed is an integer >= 2"),
        ({"rounds": 0}, "rounds=0: allowed is an integer >= 1"),
        ({"rounds": 7}, "rounds=7: .* and <= 6, for total_steps=4000 and keep=4"),
        ({"finalists": True}, "finalists=True: allowed is an integer"),
        ({"episodes": 0}, "episodes=0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(cfg, cliff, tmp_path, settings, words):
    with pytest.raises(ValueError, match=words):
        go(cfg, cliff, out=tmp_path / "t", **settings)
    assert list(tmp_path.iterdir()) == []


def test_what_toml_cannot_say_is_refused(cliff, tmp_path):
    cfg = jaxpg.dqn.Config(max_grad_norm=None)
    with pytest.raises(ValueError, match="max_grad_norm=None: allowed is what TOML can say"):
        jaxpg.tune("dqn", cfg, "CartPole-v1", jax.random.key(0), total_steps=100)


def test_asked_is_judged():
    require_asked(Asked(1000))
    with pytest.raises(ValueError, match="seeds=0"):
        require_asked(Asked(1000, seeds=0))


def test_one_value_that_the_config_has_not_is_enough(cliff, cfg):
    other = OWN | {"gamma": [0.5]}
    assert make_space(cfg, cliff, other) == other
    with pytest.raises(ValueError, match="no field is searched"):
        make_space(cfg, cliff, OWN)


def test_a_comparison_with_nothing_beside_the_config_says_so(capsys):
    alone = fake([[1, 2]]).about | {"digests": {}}
    sweep = fake([[1, 2]])._replace(about=alone)
    sweep.scores["env_steps"] = 10
    about = {"seconds": 1.0, "agent": "ppo", "environment": {"name": "X"}}
    none = Tuned(Path("t"), about, [sweep], sweep, [], [], None, None, None)
    assert sum_up(none) == 0
    assert "is the settings that it began with: no preset" in " ".join(
        capsys.readouterr().out.split()
    )
    lost = fake([[np.nan]] * 2)
    lost.scores["env_steps"] = 0
    lost = lost._replace(about=lost.about | {"digests": {}, "failed": "NonFiniteError: all"})
    assert sum_up(none._replace(rounds=[lost], held_out=lost)) == 1
    assert "error: NonFiniteError: all; the tables are in t/rounds" in capsys.readouterr().err


# Preset files.


def test_a_file_says_every_kind_of_value(tmp_path):
    cfg = jaxpg.ppo.Config(
        hidden=(32, 16), learning_rate=1e-5, normalize_obs=True, activation="relu",
        learning_rate_schedule='exponential(rate=0.1)', num_envs=8, shared=True,
    )  # fmt: skip
    fields = preset_fields(jaxpg.ppo, cfg)
    assert fields.keys() < to_dict(cfg).keys()
    path = tmp_path / "p.toml"
    path.write_text(format_file("ppo", "My-env", 1000, fields, ["a comment"]))
    assert path.read_text().startswith("# a comment\n")
    assert read_file(path, jaxpg.ppo, "My-env").settings["total_steps"] == 1000
    assert jaxpg.preset("ppo", "My-env", path) == cfg


@pytest.mark.parametrize(
    "name", ["Walk-\U0001f600", "\U0001d4b3", "a\x7fb", 'a"b\\', "a\nb\u2028\t", "é.x"]
)
def test_a_file_says_every_name(tmp_path, name):
    path = tmp_path / "p.toml"
    path.write_text(format_file("ppo", name, 10, {"net": name}, ["a comment"]), encoding="utf-8")
    told = tomllib.loads(path.read_text("utf-8"))
    assert told[name] == {"total_steps": 10, "config": {"net": name}}


GOOD = 'agent = "ppo"\n["CartPole-v1"]\ntotal_steps = 64\nconfig = { gamma = 0.5, num_envs = 2 }\n'
BAD = {
    GOOD.replace("ppo", "dqn"): "agent='dqn': allowed is 'ppo'",
    GOOD.replace(
        "CartPole", "CartPol"
    ): 'has no table ["CartPole-v1"] and none ["*"], only those of CartPol-v1',
    GOOD.replace("gamma", "gama"): "unknown ppo.Config field 'gama': did you mean 'gamma'?",
    GOOD.replace("0.5", "1.5"): "ppo.Config gamma=1.5: allowed is a finite number >= 0 and <= 1",
    GOOD.replace("0.5", '"much"'): "ppo.Config gamma='much': allowed is a finite number",
    GOOD.replace("config", "confi"): "unknown entry of [\"CartPole-v1\"] 'confi'",
    GOOD.replace("64", "0"): "total_steps=0: allowed is an integer >= 1",
    GOOD.replace("{", "["): "allowed is TOML",
    GOOD.replace("num_envs = 2", 'net = "os:system"'): "net='os:system'",
    GOOD.replace("0.5", "[0.5, 0.6]"): "ppo.Config gamma=[0.5, 0.6]: allowed is one number",
    GOOD.replace("gamma = 0.5", "total_steps = 5"): "total_steps=5: allowed is total_steps beside",
    'agent = "ppo"\n': 'has no table ["CartPole-v1"] and none ["*"]\n',
}


@pytest.mark.parametrize("text", BAD)
def test_a_wrong_file_is_one_line_with_its_path(command, tmp_path, text):  # noqa: F811
    Path("p.toml").write_text(text)
    code, out, err = command("train ppo CartPole-v1 --preset p.toml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("jaxpg: error: p.toml: ")
    assert BAD[text] in err
    assert [p.name for p in tmp_path.iterdir()] == ["p.toml"]


def test_a_file_that_is_not_there(command):  # noqa: F811
    code, _, err = command("train ppo CartPole-v1 --preset nowhere.toml")
    assert code == 2
    assert "preset='nowhere.toml': allowed is a TOML file that is there" in err


# The command.


def test_train_takes_a_preset_and_flags_win(command):  # noqa: F811
    Path("p.toml").write_text(GOOD)
    line = "train ppo CartPole-v1 --preset p.toml --config.num-steps 8 --config.minibatches 1 "
    line += "--config.gamma 0.25 --config.hidden 4 --evaluations 0 --out r"
    code, out, _ = command(line)
    assert code == 0
    assert "settings of p.toml" in out
    record = read_json("r/run.json")
    assert record["config"]["gamma"] == 0.25
    assert record["config"]["num_envs"] == 2
    assert record["total_steps"] == 64
    assert record["preset"] == "p.toml"
    assert command("resume r --total-steps 128")[0] == 0


@pytest.mark.parametrize("name", ["run.json", "sweep.json", "tune.json"])
def test_what_is_interrupted_says_how_to_go_on(tmp_path, name):
    def stop(folder):
        with pytest.raises(KeyboardInterrupt) as caught, resumable(folder):
            raise KeyboardInterrupt
        return caught.value.__notes__

    assert stop(tmp_path) == ["nothing was trained yet"]
    (tmp_path / name).touch()
    assert stop(tmp_path) == [f"go on with: jaxpg resume {tmp_path}"]


def test_tune_by_the_command(command):  # noqa: F811
    line = "tune q_learning Cliff-jaxpg --config.learning-rate 1e-4 --config.num-steps 20 "
    line += "--search learning_rate=1e-4,0.5 gamma=1.0 epsilon=0.1 learning_rate_schedule=constant "
    line += "--total-steps 4000 --budget-steps 60000 --held-out 4 --finalists 1 --episodes 8"
    code, out, _ = command(line)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    folder = Path("tunings/q_learning-Cliff-jaxpg")
    train = f"jaxpg train q_learning Cliff-jaxpg --preset {folder}/preset.toml"
    assert train in " ".join(out.replace("\\\n", "").split())
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["learning_rate"] == ["0.0001", "0.5"]
    assert rows["better"] == ["yes"]
    assert (folder / "preset.toml").exists()
    code, out, _ = command(f"resume {folder}")
    assert code == 0
    assert "held-out seeds" in out
    assert command(f"resume {folder} --target 3")[0] == 2
    code, out, _ = command("runs")
    assert code == 0
    assert out.count("/rounds/") == 3
    for words in ("show", "status", "eval", "plot", "export --out x"):
        code, _, err = command(f"{words} {folder}")
        assert (code, err.count("\n")) == (2, 1)
        assert f"it is the folder of a tuning, whose sweeps are in {folder}/rounds" in err
    code, _, err = command(f"{line} --out {folder}")
    assert (code, "holds a tuning (`resume` goes on with it)" in err) == (2, True)


def test_a_report_of_a_tuning_begins_with_the_comparison(found, cfg, cliff, tmp_path):
    sections = tuning_sections(found.folder)
    assert [x.name for x in sections] == ["t: held-out seeds", "t: round 1 of 2", "t: round 2 of 2"]
    assert sections[0].rows[0][0].startswith("t: held-out seeds, best of 2: ")
    table = verdict_table(found.held_out)
    assert '<th scope="col">finalist 1</th>' in table
    assert '<th scope="row">learning_rate</th><td class="number">0.0001</td>' in table
    assert f"[{found.winner.gain.low:.4g}, " in table
    assert '<th scope="row">better</th><td></td><td>yes</td>' in table
    assert verdict_table(fake([[np.nan]] * 2)) == "<p>No seed has a greedy return.</p>"


@pytest.mark.slow
def test_a_report_of_a_tuning_shows_its_sweeps(found, tmp_path):
    page = jaxpg.report([found.folder], tmp_path / "page.html").read_text()
    assert "<h1>Tuning t</h1>" in page
    assert page.index("finalist 1") < page.index("round 1 of 2</h2>")


@pytest.mark.slow
@pytest.mark.defaults  # runs longer than it compiles
def test_tuning_improves_on_the_defaults_of_ppo():
    """CartPole at PPO's defaults, and 20,000 steps: 60 to 250, depending on the seed."""
    found = jaxpg.tune(
        "ppo", jaxpg.ppo.Config(), "CartPole-v1", jax.random.key(0), total_steps=20_000,
        budget_steps=1_500_000, held_out=8, finalists=2, episodes=64,
    )  # fmt: skip
    assert found.winner is not None
    assert found.winner.mean.value > found.before.mean() + 100
