"""What a run says at its end if it learnt nothing: each finding, its neighbour just inside the
threshold, and real runs."""

import doctest
import functools
import inspect
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from gymnax.environments import spaces

import jaxpg
from jaxpg import cli
from jaxpg.cli import common
from jaxpg.core.config import replace
from jaxpg.core.run import run
from jaxpg.core.single import may_terminate
from jaxpg.experiment import diagnostics
from jaxpg.experiment.diagnostics import findings
from jaxpg.experiment.diagnostics.findings import diagnose, find_failures, name_failed
from jaxpg.experiment.diagnostics.verdicts import World
from tests.conftest import INSTALLED

pytestmark = pytest.mark.defaults

NAN = np.nan
ROWS = 100
WORLD = World(limit=200, actions=3)
FIELDS = {"normalize_obs": False, "learning_rate": 0.001}


def measured(returns, length: Any = 100.0, count: Any = 2, **more):
    """Metrics [seeds, rows], or [rows], with `count` episodes in each row."""
    returns = np.asarray(returns, float)
    full = lambda x: np.broadcast_to(x, returns.shape)  # noqa: E731
    series = {"return": returns, "length": full(length), "count": full(count)}
    return {f"episode/{k}": x for k, x in series.items()} | {k: full(x) for k, x in more.items()}


def noise(seeds=None, rows=ROWS, deviation=1.0, seed=0):
    """Returns that are noise around 0; a row of two episodes has the deviation over root 2."""
    shape = (rows,) if seeds is None else (seeds, rows)
    return np.random.default_rng(seed).normal(0, deviation / np.sqrt(2), shape)


def names(*args, world=WORLD, **more):
    return [x.name for x in find_failures(*args, world=world, **more)]


# Returns.


def test_returns_that_stay_where_they_are_are_found():
    found = find_failures(measured(5 + noise()), {}, WORLD, FIELDS)
    assert [x.name for x in found] == ["return"]
    assert found[0].text.startswith("Returns did not rise: ")
    assert found[0].advise() == "Try normalize_obs=True or a higher learning_rate than 0.001."
    assert found[0].seeds.tolist() == [True]


@pytest.mark.parametrize("rise", [0.5, 0.9, 1.1, 2.0])
def test_a_rise_counts_beyond_three_standard_errors(rise):
    """Against the definition: of the last tenth, 20 episodes, over the first 20, both with the
    deviation of a row times the root of its two episodes."""
    x = noise(rows=ROWS)
    first, last = x[:10], x[-10:]
    deviation = np.sqrt(2) * max(first.std(ddof=1), last.std(ddof=1))
    error = deviation * np.sqrt(1 / 20 + 1 / 20)
    x[-10:] += first.mean() - last.mean() + rise * 3 * error
    assert names(measured(x)) == ([] if rise > 1 else ["return"])


@pytest.mark.parametrize("part", [0.09, 0.11])
def test_a_rise_counts_from_a_tenth_of_the_way_to_the_threshold(part):
    x = np.where(np.arange(ROWS) < 50, -100.0, -100 + part * 100)
    found = names(measured(x), world=World(solved=0.0))
    assert found == ([] if part > 0.1 else ["return"])
    assert names(measured(x), world=World()) == []  # without one any rise does


def test_a_rise_within_the_first_tenth_counts():
    """As of a run that is long after it has learnt."""
    x = np.full(1000, 500.0)
    x[:12] = np.linspace(20, 500, 12)
    assert names(measured(x)) == []


@pytest.mark.parametrize("kind", ["greedy", "sampled"])
@pytest.mark.parametrize("above", [0.9, 1.1])
def test_an_evaluation_counts_beyond_a_deviation(kind, above):
    """Where training explores so much that its returns show nothing."""
    x = 0.1 * noise()
    evaluations = {"greedy": [x[:10].mean()] * 2, "sampled": [x[:10].mean()] * 2}
    evaluations |= {"greedy_std": [3.0] * 2, "sampled_std": [3.0] * 2, "env_steps": [5, 10]}
    evaluations[kind] = [0.0, x[:10].mean() + above * 3.0]
    assert names(measured(x), evaluations) == ([] if above > 1 else ["return"])


def test_an_evaluation_that_is_no_number_says_nothing():
    evaluations = {"greedy": [NAN], "greedy_std": [NAN], "sampled": [NAN], "sampled_std": [NAN]}
    assert names(measured(noise()), evaluations) == ["return"]


def test_returns_that_rise_and_fall_back_are_another_finding():
    x = noise()
    x[40:60] += 50
    (found,) = find_failures(measured(x), {}, WORLD, FIELDS | {"max_grad_norm": 0.5})
    assert found.name == "fall"
    assert (
        found.advise() == "Try a lower learning_rate than 0.001 or a lower max_grad_norm than 0.5."
    )
    x[-10:] += 50
    assert names(measured(x)) == []


@pytest.mark.parametrize(("solved", "found"), [(-0.5, []), (0.5, ["return"]), (None, ["return"])])
def test_a_run_that_begins_solved_is_no_failure(solved, found):
    assert names(measured(0.1 * noise()), world=World(solved=solved)) == found


def test_a_run_that_begins_with_a_good_policy_is_no_failure():
    """It is told by how the policy played before it learnt: returns of 5, and not of 0."""
    before = {"returns": 0.1 * noise(), "lengths": np.full(ROWS, 100)}
    assert names(measured(5 + noise()), world=World(**before)) == []
    assert names(measured(noise()), world=World(**before)) == ["return"]


# The goal.


LOST = measured(np.full(ROWS, -200.0), length=200.0)


def test_episodes_that_all_last_to_their_limit_did_not_reach_their_goal():
    (found,) = find_failures(LOST, {}, WORLD, FIELDS)
    assert found.name == "goal"
    said = "No episode reached its goal: all 200 lasted to the limit of 200 steps."
    assert found.text == said


def test_episodes_from_restored_states_say_nothing_of_the_policy():
    series = measured(noise())
    assert names(series, {}) == ["return"]
    assert names(archived(1.0, 7), {}) == []


def archived(best, length, rows=ROWS):
    """Metrics of an archive whose best episode is this one, of an agent that learnt nothing."""
    series = {"best_return": best, "best_length": length}
    series = {f"episode/{k}": np.full(rows, x, float) for k, x in series.items()}
    return measured(noise(rows=rows)) | series


@pytest.mark.parametrize(
    ("best", "length", "limit", "said"),
    [
        (NAN, NAN, 200, "leads to the end of an episode."),
        (NAN, NAN, None, "leads to the end of an episode."),
        (-200, 200, 200, "leads to a goal: the best episode lasted to the limit of 200 steps."),
        (-199, 199, 200, ""),
        (0.5, 200, 200, ""),
        (-200, 200, None, ""),
    ],
)
def test_an_archive_without_a_way_to_a_goal_is_found(best, length, limit, said):
    world = World(limit=limit)
    found = find_failures(archived(best, length), {}, world, {"slots": 4, "trajectory_steps": 9})
    assert [x.name for x in found] == (["way"] if said else [])
    if said:
        assert found[0].text.endswith(said)
        assert found[0].advise() == "Try a higher trajectory_steps than 9 or a higher slots than 4."
    assert names(archived(best, length, rows=19), world=world) == []
    assert names(archived(best, length, rows=0), world=world) == []
    assert names(archived(best, length), world=World(limit=limit, terminates=False)) == (
        ["way"] if np.isnan(best) else []
    )


def test_costs_that_fall_reach_no_goal():
    """As of a car that learns to stand still: its returns rise to 0."""
    x = np.linspace(-30, -0.01, ROWS)
    assert names(measured(x, length=200)) == ["goal"]
    assert names(measured(x, length=200), world=World(limit=200, terminates=False)) == []
    assert names(measured(x, length=200), world=World()) == []


@pytest.mark.parametrize(("end", "solved", "found"), [
    (-2.9, None, ["goal"]), (-3.1, None, []), (-3.1, -1.0, []), (-25, 90.0, ["goal"]),
])  # fmt: skip
def test_a_rise_is_one_unless_it_is_to_nothing(end, solved, found):
    """As of a portfolio whose utility is below 0; a threshold above 0 is another matter."""
    x = np.where(np.arange(ROWS) < 50, -30, end)
    assert names(measured(x, length=200), world=World(200, solved=solved)) == found


def test_one_episode_that_ends_before_its_limit_is_a_goal():
    length = np.full(ROWS, 200.0)
    length[7] = 199.5
    assert names(measured(np.full(ROWS, -200.0), length=length)) == ["return"]


def test_where_lasting_is_the_aim_there_is_no_goal():
    """As of a pole that stands from the start, in a world whose threshold nobody knows."""
    assert names(measured(np.full(ROWS, 200.0), length=200)) == ["return"]
    assert names(measured(np.full(ROWS, 200.0), length=200), world=World(200, solved=195)) == []
    before = {"returns": [20.0, 25.0], "lengths": [20, 25]}
    good = measured(np.full(ROWS, 200.0), length=200)
    assert names(good, world=World(200, **before)) == []
    paid = measured(np.full(ROWS, -3.0), length=200)  # where each step costs as well
    before = {"returns": [-50.0, -51.0], "lengths": [20, 25]}
    assert names(paid, world=World(200, **before)) == []
    assert names(paid, world=World(200)) == ["goal"]


def test_an_evaluation_that_reaches_the_goal_counts():
    reached = {"greedy": [90.0], "greedy_std": [5.0], "sampled": [-200.0], "sampled_std": [0.0]}
    assert names(LOST, reached) == []


# Too short.


@pytest.mark.parametrize(("rows", "count", "found"), [
    (19, 5, []), (20, 5, ["goal"]), (30, 0.6, []), (30, 0.7, ["goal"]),
])  # fmt: skip
def test_a_run_is_judged_from_20_iterations_and_20_episodes_on(rows, count, found):
    assert names(measured(np.full(rows, -200.0), length=200.0, count=count)) == found


def test_without_episodes_there_is_nothing_to_judge():
    assert names(measured(np.full(ROWS, NAN), length=NAN, count=0)) == []
    assert names({"loss/policy": np.zeros(ROWS)}) == []


def test_iterations_without_an_episode_do_not_count():
    x = np.full(ROWS, NAN)
    x[::3] = -200.0
    lost = measured(x, length=np.where(np.isnan(x), NAN, 200.0), count=np.where(np.isnan(x), 0, 1))
    assert names(lost) == ["goal"]


# Critic and policy.


@pytest.mark.parametrize(("name", "metric", "inside", "outside"), [
    ("critic", "value/explained_variance", 0.05, 0.06),
    ("critic", "value/explained_variance", -3.0, 0.5),
    ("policy", "policy/approx_kl", 0.9e-5, 1.1e-5),
    ("policy", "policy/kl", -0.9e-5, -1.1e-5),  # an estimate may be below 0
    ("policy", "policy/entropy", 0.991 * np.log(3), 0.989 * np.log(3)),
    ("entropy", "policy/entropy", 0.0199 * np.log(3), 0.0201 * np.log(3)),
])  # fmt: skip
def test_a_cause_is_found_within_its_threshold(name, metric, inside, outside):
    lost = LOST | {metric: np.full(ROWS, inside)}
    assert names(lost) == ["goal", name]
    assert names(LOST | {metric: np.full(ROWS, outside)}) == ["goal"]
    assert names(LOST | {metric: np.full(ROWS, NAN)}) == ["goal"]
    risen = measured(np.linspace(-200, -100, ROWS), length=150.0)
    assert names(risen | {metric: np.full(ROWS, inside)}) == []  # what learns has no fault


def test_causes_are_of_the_half_or_of_the_whole_run():
    early, late = np.ones(ROWS), np.ones(ROWS)
    early[:49], late[51:] = 0.0, 0.0
    assert names(LOST | {"value/explained_variance": early}) == ["goal"]
    assert names(LOST | {"value/explained_variance": late}) == ["goal", "critic"]
    assert names(LOST | {"policy/entropy": late}) == ["goal", "entropy"]
    once = np.full(ROWS, np.log(3))
    once[60] = 0.9
    assert names(LOST | {"policy/entropy": once}) == ["goal"]


def test_a_density_has_no_largest_entropy():
    """Of continuous actions 0 nats are nothing special."""
    lost = LOST | {"policy/entropy": np.zeros(ROWS)}
    assert names(lost, world=World(limit=200)) == ["goal"]


# Seeds, words and advice.


def test_each_seed_is_judged_by_itself():
    x = np.stack([noise(seed=0), np.linspace(0, 50, ROWS), noise(seed=1)])
    series = measured(x) | {
        "value/explained_variance": np.array([[0.0], [0.0], [0.5]]) * np.ones(ROWS)
    }
    found = find_failures(series, {"greedy": np.zeros((3, 2)), "env_steps": [1, 2]}, WORLD)
    assert [(x.name, x.seeds.tolist()) for x in found] == [
        ("return", [True, False, True]), ("critic", [True, False, False])
    ]  # fmt: skip
    assert name_failed(found) == "2 of 3 seeds learnt nothing."
    assert found[0].sentence.startswith("Returns did not rise: ")
    assert found[0].sentence.endswith(" in the last (2 of 3 seeds).")
    assert found[1].sentence.endswith("is 0 (1 of 3 seeds).")
    assert name_failed(find_failures(LOST, {}, WORLD)) == "This run learnt nothing."


@pytest.mark.parametrize("name", findings.TRY)
def test_advice_is_of_fields_that_the_agent_has(name):
    """And there is some, for every agent that can have the finding."""
    agents = [jaxpg.agents.get(x) for x in INSTALLED]
    known = {x.name: findings._changes(name, vars(x.Config()), []) for x in agents}
    for agent in agents:
        assert {x.field for x in known[agent.name]} <= {*vars(agent.Config())}
        assert all(x.to != x.value for x in known[agent.name])
    assert known["ppo"]
    if name in ("goal", "return"):
        assert not [x for x in known if not known[x] and x != "evosax"]


def advice(name, options=False, **config):
    changes = findings._changes(name, config, [])
    return findings.Finding(name, np.ones(1, bool), "", changes).advise(options)


def test_advice_is_not_what_is_so_already():
    off = {"normalize_reward": False, "clip_value": True}
    assert advice("critic", **off) == "Try normalize_reward=True or clip_value=False."
    scaled = {"normalize_reward": True, "value_coef": 0.5}
    assert advice("critic", **scaled) == "Try a higher value_coef than 0.5."
    assert advice("return", memory="none") == "Try memory='gru'."
    assert advice("return", memory="lstm", max_kl=None) == "Try more steps."
    explores = {"normalize_obs": True, "normalize_reward": True, "bonus": "none"}
    assert advice("goal", **explores) == advice("return", **explores) == "Try bonus='rnd'."
    assert advice("goal", **explores | {"bonus": "count"}) == "Try more steps."


def test_advice_names_the_options_of_the_command():
    said = advice("critic", True, normalize_reward=False, clip_value=True, value_coef=1)
    assert said == (
        "Try --config.normalize-reward, --config.no-clip-value or a higher --config.value-coef "
        "than 1."
    )
    assert advice("return", True, memory="none") == "Try --config.memory gru."


def test_advice_is_not_named_twice():
    config = {"normalize_reward": False, "normalize_obs": False, "learning_rate": 0.1}
    causes = {"value/explained_variance": np.zeros(ROWS), "policy/approx_kl": np.zeros(ROWS)}
    assert [x.advise() for x in find_failures(LOST | causes, {}, WORLD, config)] == [
        "Try normalize_obs=True or normalize_reward=True.",
        "Try normalize_reward=True.",  # of what is named, for want of another
        "Try a higher learning_rate than 0.1.",
    ]


@pytest.mark.parametrize(("first", "last", "said"), [
    (5e-10, -0.07042, "0 in the first episodes, -0.0704 in the last"),
    (-1297.31, -1201.7, "-1297 in the first episodes, -1202 in the last"),
    (0.0, -0.0, "0 in the first episodes, 0 in the last"),
])  # fmt: skip
def test_returns_are_numbers_for_people(first, last, said):
    x = np.full(ROWS, first)
    x[50:] = last
    flat = World(solved=1e9)  # as far away that nothing is a rise
    assert said in find_failures(measured(x), {}, flat)[0].text


def test_the_examples_run():
    known = {"jax": jax, "jaxpg": jaxpg, "np": np, "World": World, "find_failures": find_failures}
    for function in (find_failures, diagnose):
        text, said = inspect.unwrap(function).__doc__, []
        test = doctest.DocTestParser().get_doctest(text, dict(known), function.__name__, None, 0)
        doctest.DocTestRunner().run(test, out=said.append)
        assert said == []


# Environments and runs.


@pytest.mark.parametrize(("name", "expected"), [
    ("MountainCar-v0", True), ("MountainCarContinuous-v0", True), ("CartPole-v1", True),
    ("Cliff-jaxpg", True), ("FourRooms-misc", True), ("Breakout-MinAtar", True),
    ("Pendulum-v1", False), ("Reacher-misc", False),  # nothing ends them but the limit
    ("DeepSea-bsuite", False), ("AlmgrenChriss-jaxpg", False),  # a clock does
])  # fmt: skip
def test_what_ends_an_episode_is_known(name, expected):
    env = jaxpg.make(name)
    assert may_terminate(env.core, env.params) is expected


class Clock:
    """Walk that ends after five steps, or where it comes to `end`; its `step` is its own, and in
    one `jit`."""

    default_params = None

    def __init__(self, end):
        self.end = end

    def reset(self, key, params):
        state = {"at": jax.numpy.zeros((), int), "time": jax.numpy.zeros((), int)}
        return state["at"][None].astype(float), state

    @functools.partial(jax.jit, static_argnums=0)
    def step(self, key, state, action, params):
        at, time = state["at"] + action, state["time"] + 1
        ended = time >= 5
        ended = ended if self.end is None else ended | (at == self.end)
        state = {"at": jax.numpy.where(ended, 0, at), "time": jax.numpy.where(ended, 0, time)}
        obs = at[None].astype(float)
        info = {"final_observation": obs}
        return state["at"][None].astype(float), state, -1.0 + 0 * at, ended, time < 0, info

    def action_space(self, params):
        return spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(-9, 9, (1,))


@pytest.mark.parametrize(("end", "expected"), [(None, False), (3, True)])
def test_a_clock_is_no_goal(end, expected):
    """Also within a `jit`, and where the end resets what the walk has come to."""
    assert may_terminate(Clock(end), None) is expected


@pytest.mark.slow  # its quick twins judge numbers that are given
def test_a_run_that_goes_on_from_a_learnt_state_is_no_failure():
    """A pole that stands from the start, in an environment without a name, and so without a
    threshold: it is told by a policy that has learnt nothing."""
    agent, cfg, key = jaxpg.ppo, jaxpg.preset("ppo", "CartPole-v1"), jax.random.key(0)
    named = jaxpg.make("CartPole-v1", max_steps_in_episode=50)
    env = jaxpg.Env(named.params, named.core)
    learnt = run(agent, cfg, env, key, total_steps=20_000)
    assert diagnose(learnt) == []
    cfg = replace(cfg, learning_rate=0.0)
    again = run(agent, cfg, env, key, total_steps=15_000, state=learnt.state)
    assert jaxpg.recent_mean(again.metrics).mean > 45
    assert [x.name for x in diagnose(again, from_start=True)][:1] == ["return"]
    assert diagnose(again) == []


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs a command line in an empty folder; gives its stdout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(common, "set_up", lambda *_: None)

    def call(line):
        assert cli.main(line.split()) == 0
        out, err = capsys.readouterr()
        call.err = err.splitlines()
        return out

    return call


TINY = "--config.num-envs 4 --config.num-steps 25 --config.hidden 8 --evaluations 1 --episodes 4"


@pytest.mark.slow
def test_a_command_says_that_it_learnt_nothing(command):
    """A car that has too few steps to get anywhere; and so does the report."""
    line = f"train ppo MountainCar-v0 --preset defaults {TINY} --seeds 2 --total-steps 2000"
    out = command(f"{line} --param max_steps_in_episode=20 --name car")
    lines = out.split("learning curve")[1].splitlines()[1:]
    assert lines[:4] == [
        "",
        "2 of 2 seeds learnt nothing.",
        "- No episode reached its goal: all 200 lasted to the limit of 20 steps (2 of 2",
        "  seeds).",
    ]
    tries = "--config.normalize-obs, --config.normalize-reward or --config.bonus rnd"
    assert lines[4] == f"  Try {tries}."
    assert max(map(len, out.splitlines())) <= 80
    command("report runs/car --out report.html")
    page = Path("report.html").read_text()
    assert "<p>2 of 2 seeds learnt nothing.</p>" in page
    assert "lasted to the limit of 20 steps (2 of 2 seeds). Try normalize_obs=True" in page


def test_a_command_that_learns_says_nothing_more(command):
    """Nor does one that is resumed after it has learnt, and its report."""
    out = command("train q_learning Cliff-jaxpg --total-steps 5000 --evaluations 2 --name cliff")
    assert "learnt nothing" not in out
    out = command("resume runs/cliff --total-steps 12000")
    assert out.splitlines()[-1].startswith("learning curve")
    command("report runs/cliff --out report.html")
    assert "learnt nothing" not in Path("report.html").read_text()


def test_a_judgement_that_fails_harms_no_run(command, monkeypatch):
    monkeypatch.setattr(diagnostics, "diagnose", lambda *_, **__: 1 / 0)
    command("train q_learning Cliff-jaxpg --total-steps 200 --evaluations 0")
    assert "not judged: ZeroDivisionError: division by zero" in command.err[-1]


NOTHING = {
    "ppo MountainCar-v0 --preset defaults --total-steps 40000": "No episode reached its goal",
    "sac MountainCarContinuous-v0 --preset defaults --config.num-envs 2 --total-steps 20000 "
    "--evaluations 2 --config.updates-per-step 0.25": "No episode reached its goal",
    "ppo MemoryChain-bsuite --preset defaults --total-steps 40000": "Returns did not rise",
    "a2c Pendulum-v1 --preset defaults --total-steps 200000": "The critic explains nothing",
}
LEARNT = (
    "ppo CartPole-v1",
    "dqn CartPole-v1 --total-steps 50000",
    "sac Pendulum-v1 --total-steps 12000 --evaluations 2",
    "q_learning Cliff-jaxpg",
)


@pytest.mark.slow  # its quick twins have tiny budgets
@pytest.mark.parametrize("line", NOTHING)
def test_runs_that_learn_nothing_say_so(command, line):
    out = command(f"train {line} --name run")
    said = out.split("learning curve")[1].splitlines()[2:]
    assert said[0] == "This run learnt nothing."
    assert any(x.startswith(f"- {NOTHING[line]}") for x in said)


@pytest.mark.slow  # likewise
@pytest.mark.parametrize("line", LEARNT)
def test_runs_that_learn_do_not(command, line):
    """Nor do they when they are resumed, and go on where they are good from the start."""
    assert command(f"train {line} --name run").splitlines()[-1].startswith("learning curve")
    if line.startswith(("ppo", "q_learning")):
        out = command("resume runs/run --total-steps 200000")
        assert out.splitlines()[-1].startswith("learning curve")
