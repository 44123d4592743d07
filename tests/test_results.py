"""The table of results: which rows there are, what they have to reach, how they are written."""

import doctest
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import learning
import learning_figure
import learning_page
import learning_rows
from learning_rows import Row

import jaxpg
from jaxpg import agents, presets
from jaxpg.core.games import is_game
from jaxpg.core.goals import has_goals
from jaxpg.envs import partial, tabular
from jaxpg.envs.costs import cart_pole, hazards
from jaxpg.envs.finance import almgren_chriss, liquidation_game, portfolio
from jaxpg.envs.tabular import WITH_COSTS

pytestmark = pytest.mark.defaults

MODULES = (tabular, partial, almgren_chriss, liquidation_game, portfolio)
EMPTY = {"rows": {}, "random": {}, "versions": {}}
CART = Row("ppo", "CartPole-v1")


def measured(row, greedy, **fields):
    """What a row came to, with the settings that it has now."""
    one = learning_rows.describe_settings(row) | {
        "total_steps": learning_rows.total_steps(row), "env_steps": 1000, "greedy": greedy,
        "sampled": greedy, "curve": {"env_steps": [500, 1000], "returns": [1.0, 2.0]},
        "seconds": 20.0, "solved": None,
    }  # fmt: skip
    return {"rows": {row.name: one | fields}, "random": {row.env: 22.0}, "versions": {}}


# Rows.


def test_every_environment_has_its_place():
    from gymnax.registration import _BUILTIN_ENV_IDS

    listed = [x for group in learning_rows.tables()["groups"].values() for x in group]
    own = {name for module in MODULES for name in module.ENVIRONMENTS}
    own -= set(WITH_COSTS)  # measured on a page of their own, as are goals that are seen
    own.add("FourRooms-jaxpg")
    names = {label.partition(",")[0] for label in listed}
    assert names == {*_BUILTIN_ENV_IDS, *own} - {"MNISTBandit-bsuite"}
    assert len(set(listed)) == len(listed)
    assert learning_rows.make_env("DeepSea-bsuite,size=20").core.size == 20


def test_rows_are_where_actions_fit_and_where_there_is_a_preset():
    rows = learning_rows.all_rows()
    assert {x.env for x in rows.values() if x.agent == "ppo"} == {x.env for x in rows.values()}
    assert {"dqn/Catch-bsuite", "sac/Pendulum-v1", "cem/Pong-misc"} <= rows.keys()
    assert not {"dqn/Pendulum-v1", "sac/Catch-bsuite", "trpo/Reacher-misc"} & rows.keys()
    tables = ((name, env) for name in agents.NAMES for env in presets.table(name))
    # Of no other suite; of no game, goals, costs or maze: those are measured on pages of their own.
    here = ((name, env, jaxpg.make(env)) for name, env in tables if "/" not in env)
    of_presets = {f"{x}/{y}" for x, y, env in here if not is_game(env.core) and not has_goals(env)}
    costs = *WITH_COSTS, cart_pole.NAME, hazards.NAME
    of_presets -= {f"{x}/{y}" for x in agents.NAMES for y in (*costs, "Maze-jaxpg")}
    assert of_presets <= rows.keys()
    with pytest.raises(ValueError, match="unknown row 'ppo/CartPol-v1': did you mean 'ppo/CartP"):
        learning_rows.find_rows(["ppo/CartPol-v1"])


def test_steps_are_those_of_the_preset_or_of_the_list():
    own = presets.table("ppo")["CartPole-v1"]["total_steps"]
    assert learning_rows.total_steps(CART) == own
    lists = learning_rows.tables()["total_steps"]
    for row in learning_rows.all_rows().values():
        of = learning_rows.find_preset(row).of
        if of != row.env:
            steps = lists[row.agent]
            assert learning_rows.total_steps(row) == steps.get(row.env, steps["*"])
    with pytest.raises(ValueError, match=r"a2c/Catch-bsuite has no number of steps: allowed is"):
        learning_rows.total_steps(Row("a2c", "Catch-bsuite"))
    known = {x.env for x in learning_rows.all_rows().values()} | {"*"}
    assert all(steps.keys() <= known for steps in lists.values())


def test_settings_say_whose_they_are():
    said = {"preset": 0, "general profile": 0, "defaults": 0}
    for row in learning_rows.all_rows().values():
        name = row.env.partition(",")[0]
        own, found = presets.table(row.agent), learning_rows.describe_settings(row)
        general = presets.find(row.agent, presets.GENERAL).of
        assert found["settings"] == (
            "preset" if name in own else "general profile" if general else "defaults"
        )
        assert found["settings"] != "defaults" or found["config"] == {}
        said[found["settings"]] += 1
    assert all(said.values())
    config = presets.table("ppo")["CartPole-v1"]["config"]
    assert learning_rows.describe_settings(CART)["config"] == config


@pytest.mark.slow  # its quick twin is of PPO, in test_presets
def test_every_row_can_begin():
    for row in learning_rows.all_rows().values():
        agent, env = agents.get(row.agent), learning_rows.make_env(row.env)
        if row.agent != "evosax":
            cfg = learning_rows.make_config(row)
            jax.eval_shape(lambda key, a=agent, c=cfg, e=env: a.init(c, e, key), jax.random.key(0))


# What they have to reach.


def test_the_list_of_references_is_sound():
    rows, aims = learning_rows.all_rows().values(), learning_rows.aims()
    assert aims.keys() <= {row.env for row in rows}
    for env, one in aims.items():
        bound = learning_rows.find_bound(env)
        assert one.keys() <= {"bound", "references", "bars", "returns", "tried", "must_fail"}
        assert {x["agent"] for x in one.get("tried", [])} <= {*agents.NAMES}
        for x in [*one.get("references", []), *one.get("bars", [])]:
            assert x["agent"] in agents.NAMES
            assert bound is None or x.get("of") == "length" or x["value"] <= bound[0]
            assert x.get("of", "mean") in ("mean", "worst", "fifth", "length")
        assert all(x["source"] for x in one.get("references", []))
        assert {x for case in one.get("must_fail", []) for x in case["agents"]} <= {*agents.NAMES}


@pytest.mark.parametrize(
    ("greedy", "held"),
    [
        ([500.0] * 10, True),
        ([500.0] * 9 + [480.0], True),  # the interval reaches 500
        ([490.0] * 9 + [495.0], False),  # it does not
        ([500.0] * 9 + [470.0], False),  # it does, but the worst seed has a bar of its own
        ([500.0] * 9 + [None], False),  # a seed that diverged is worth what chance is
    ],
)
def test_a_row_is_held_by_its_reference_and_every_bar(greedy, held):
    verdict = learning_rows.judge(CART, measured(CART, greedy))
    assert verdict.held is held
    assert verdict.worst == min(22.0 if x is None else x for x in greedy)
    assert verdict.mean.low <= verdict.mean.value <= verdict.mean.high
    assert verdict.mean.value == pytest.approx(np.mean([x or 22.0 for x in greedy]))


def test_a_fifth_of_the_seeds_may_miss_a_bar_of_four_fifths():
    row = Row("hill_climbing", "CartPole-v1")
    assert learning_rows.judge(row, measured(row, [500.0] * 8 + [20.0] * 2)).held
    assert not learning_rows.judge(row, measured(row, [500.0] * 7 + [20.0] * 3)).held


def test_a_bar_of_length_is_not_exceeded():
    row = Row("ppo", "FourRooms-misc")  # 26.7
    for lengths, held in (([26.5, 26.8] * 5, True), ([27.5, 27.9] * 5, False)):
        found = measured(row, [1.0] * 10)
        found["rows"][row.name]["lengths"] = lengths
        assert learning_rows.judge(row, found).held is held
        assert f"in {np.mean(lengths):.4g} steps" in "".join(
            learning_page.group_rows("misc", found)
        )
    assert not learning_rows.judge(row, measured(row, [1.0] * 10)).held  # it was not measured


def test_what_took_more_steps_than_its_reference_is_held_later():
    row = Row("reinforce", "CartPole-v1")  # 483 at 200,000
    for env_steps, said in ((204_000, "held"), (300_000, "held, later")):
        found = measured(row, [500.0] * 10, env_steps=env_steps)
        assert learning_page.verdict_of(row, found) == said
    assert learning_page.verdict_of(row, measured(row, [9.0] * 10, env_steps=300_000)) == "short"


def test_what_has_nothing_to_reach_is_neither_held_nor_short():
    row = Row("cem", "Catch-bsuite")
    assert learning_rows.judge(row, measured(row, [0.5, 1.0])).held is None
    assert learning_page.verdict_of(row, measured(row, [0.5, 1.0])) == ""


def test_what_is_short_says_what_was_tried():
    found = learning_rows.load()
    known = [x for x in learning_rows.all_rows().values() if x.name in found["rows"]]
    short = [x for x in known if learning_page.verdict_of(x, found) == "short"]
    assert not [x.name for x in short if not learning_rows.tell_tries(x)]
    lines = " ".join(learning_page.short_lines(found))
    assert lines.count("- `") == len(short)
    assert learning_page.short_lines(EMPTY) == ["- none."]


def test_what_must_fail_says_so_unless_it_does_not():
    chain = Row("ppo", "MemoryChain-bsuite")
    blind = measured(chain, [0.0] * 10, config={"num_envs": 16})
    assert "gru" in learning_rows.judge(chain, blind).cannot
    assert learning_page.verdict_of(chain, blind) == "cannot"
    sees = measured(chain, [0.0] * 10, config={"memory": "gru"})
    assert learning_page.verdict_of(chain, sees) == "short"
    assert learning_page.verdict_of(chain, measured(chain, [1.0] * 10)) == "held"
    assert learning_rows.explain_failure(Row("cem", "MemoryChain-bsuite"), {})


def test_a_random_policy_is_judged_by_what_it_samples():
    row, found = Row("ppo", "ShortCorridor-jaxpg"), [-12.0, -13.0]
    assert learning_rows.judge(row, measured(row, [-1000.0] * 2, sampled=found)).mean.value == -12.5


# Writing, missing, estimating.


def test_what_is_written_is_read_a_line_a_row(tmp_path):
    path, found = tmp_path / "learning.json", measured(CART, [500.0] * 10)
    found["rows"] = {"ppo/Acrobot-v1": {"greedy": [1.5]}, **found["rows"]}
    learning_rows.save(found, path)
    assert learning_rows.load(path) == found
    lines = path.read_text().splitlines()
    rows = [line.split('"')[1] for line in lines if "greedy" in line]
    assert rows == ["ppo/CartPole-v1", "ppo/Acrobot-v1"]  # in the order of the page
    assert [p.name for p in tmp_path.iterdir()] == ["learning.json"]
    learning_rows.save(EMPTY, path)
    assert learning_rows.load(path) == EMPTY == learning_rows.load(tmp_path / "none.json")


def test_a_row_is_missing_with_few_seeds_or_other_settings():
    whole = measured(CART, [500.0] * 10)
    assert not learning_rows.is_missing(CART, json.loads(json.dumps(whole)))
    for other in (
        EMPTY,
        measured(CART, [500.0] * 8),
        measured(CART, [500.0] * 10, total_steps=5),
        measured(CART, [500.0] * 10, config={"gamma": 0.5}),
        measured(CART, [500.0] * 10, settings="general profile"),
    ):
        assert learning_rows.is_missing(CART, other)


def test_a_row_is_missing_without_the_lengths_that_have_a_bar(monkeypatch, capsys):
    row = Row("ppo", "FourRooms-misc")
    found = measured(row, [1.0] * 10)
    assert learning_rows.is_missing(row, found)
    monkeypatch.setattr(learning_rows, "load", lambda: found)
    learning.show([row], 10)
    assert "  without lengths of episodes, preset, about" in capsys.readouterr().out
    found["rows"][row.name]["lengths"] = [26.0] * 10
    assert not learning_rows.is_missing(row, found)


def test_time_is_estimated_by_the_pace_of_the_agent_and_of_the_environment():
    cart, total = measured(CART, [500.0] * 10), learning_rows.total_steps
    assert learning_rows.estimate_seconds(CART, cart, seeds=20) == 40.0  # as it was, twice
    catch, breakout = Row("ppo", "Catch-bsuite"), Row("ppo", "Breakout-MinAtar")
    pace = 1000 * 10 / 20.0
    expected = total(catch) * 10 / pace
    assert learning_rows.estimate_seconds(catch, cart) == pytest.approx(expected)
    both = {**cart, "rows": cart["rows"] | measured(breakout, [1.0] * 10, seconds=80.0)["rows"]}
    asterix = Row("ppo", "Asterix-MinAtar")  # of a group in which steps take four times as long
    expected = total(asterix) * 10 / pace * 4
    assert learning_rows.estimate_seconds(asterix, both) == pytest.approx(expected)
    assert math.isnan(learning_rows.estimate_seconds(Row("dqn", "Catch-bsuite"), cart))
    gone = {"ppo/Gone-v0": cart["rows"][CART.name]}  # of an environment that has no place any more
    found = {**cart, "rows": cart["rows"] | gone}
    assert learning_rows.estimate_seconds(catch, found) > 0


# Measuring.


def test_random_actions_get_what_they_must():
    """The arms of the bandit pay 0, 0.1, ... 1, one a day."""
    assert abs(learning.measure_random("SimpleBandit-bsuite") - 0.5) < 0.07
    assert learning.shorten([1.0, 0.123456789, math.nan]) == [1, 0.12346, None]


def test_a_row_is_measured(monkeypatch):
    row = Row("q_learning", "Cliff-jaxpg")
    monkeypatch.setattr(learning_rows, "total_steps", lambda row: 4000)
    one = learning.measure(row, seeds=2, episodes=4)
    assert one["settings"] == "preset"
    assert one["total_steps"] == one["env_steps"] == 4000
    assert len(one["greedy"]) == len(one["sampled"]) == len(one["solved"]["env_steps"]) == 2
    assert one["curve"]["env_steps"] == [200 * i for i in range(1, 21)]
    assert len(one["curve"]["returns"]) == 20
    assert one["curve"]["returns"][-1] <= -13
    first = {at for at in one["solved"]["env_steps"] if at is not None}
    assert first <= set(one["curve"]["env_steps"])
    json.dumps(one, allow_nan=False)


def test_a_row_that_is_stopped_is_not_measured(monkeypatch):
    monkeypatch.setattr(learning_rows, "total_steps", lambda row: 100)
    run = learning.jaxpg.run
    stop = lambda *args, **settings: run(*args, **settings)._replace(stopped="interrupt")  # noqa: E731
    monkeypatch.setattr(learning.jaxpg, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        learning.measure(Row("q_learning", "Cliff-jaxpg"), seeds=1, episodes=4)


def test_the_command_measures_what_is_named(monkeypatch, tmp_path, capsys):
    path = tmp_path / "learning.json"
    monkeypatch.setattr(learning_rows, "MEASURED", path)
    monkeypatch.setattr(learning.jaxpg, "use_all_cores", lambda: None)
    monkeypatch.setattr(learning, "measure_random", lambda label: 22.0)

    def measure(row, seeds):
        if row.agent == "dqn":
            raise MemoryError("too much")
        return measured(row, [100.0 if row.agent == "a2c" else 500.0] * seeds)["rows"][row.name]

    monkeypatch.setattr(learning, "measure", measure)

    def run(line):
        monkeypatch.setattr(sys, "argv", ["learning.py", *line.split()])
        return learning.main(), capsys.readouterr().out.splitlines()

    code, lines = run("ppo/CartPole-v1 --seeds 3")
    assert code == 0
    assert "held" in lines[0]
    assert learning_rows.load()["random"] == {"CartPole-v1": 22.0}
    code, lines = run("dqn/CartPole-v1 a2c/CartPole-v1 ars/CartPole-v1 --missing")
    assert code == 1  # one fails, one is short of 500, and the third is measured all the same
    assert ["FAILED" in lines[0], "SHORT" in lines[1], "held" in lines[2]] == [True] * 3
    assert len(learning_rows.load()["rows"]) == 3
    code, lines = run("--list --agent ppo")
    assert code == 0
    assert "with 3 seeds, preset" in lines[0]
    assert "not measured, " in lines[2]
    assert lines[-1].startswith("36 rows; those that are missing take about ")
    assert "not known" not in "".join(lines)
    code, lines = run("--list sac/Pendulum-v1")
    assert lines[0].endswith("not measured, preset, time not known")
    assert lines[1].endswith("about 0.0 hours, and 1 of them a time that is not known")
    assert run("a2c/CartPole-v1 --missing --seeds 2") == (0, ["no row is missing"])
    with pytest.raises(SystemExit):
        run("")


def test_rows_at_once_are_processes(monkeypatch, capsys):
    """One that fails is told by the exit code, and the others are measured all the same."""
    commands = []

    def start(command, check):
        commands.append(command[1:])
        return subprocess.CompletedProcess(command, int("ppo/Acrobot-v1" in command))

    monkeypatch.setattr(learning.subprocess, "run", start)
    monkeypatch.setattr(learning.jaxpg, "use_all_cores", lambda: None)
    names = ["ppo/CartPole-v1", "ppo/Acrobot-v1", "ppo/Pong-misc"]
    monkeypatch.setattr(sys, "argv", ["learning.py", *names, "--jobs", "2", "--seeds", "3"])
    assert learning.main() == 1
    assert sorted(commands) == sorted([learning.__file__, x, "--seeds", "3"] for x in names)
    monkeypatch.setattr(sys, "argv", ["learning.py", *names, "--jobs", "0"])
    with pytest.raises(SystemExit):
        learning.main()
    assert "--jobs 0: allowed is an integer >= 1" in capsys.readouterr().err


def test_all_rows_are_measured_where_that_is_asked_for(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(learning, "add_all", lambda rows, seeds: seen.append(rows) or 0)
    monkeypatch.setattr(learning.jaxpg, "use_all_cores", lambda: None)
    monkeypatch.setattr(sys, "argv", ["learning.py", "--all"])
    assert learning.main() == 0
    assert seen == [list(learning_rows.all_rows().values())]
    monkeypatch.setattr(sys, "argv", ["learning.py", "--all", "--agent", "ppo"])
    with pytest.raises(SystemExit):
        learning.main()
    assert "--all: allowed where no row" in capsys.readouterr().err


def test_what_is_quick_goes_before_what_takes_hours(monkeypatch, tmp_path):
    """Else an error of random actions would lose the row."""
    monkeypatch.setattr(learning_rows, "MEASURED", tmp_path / "learning.json")
    monkeypatch.setattr(learning, "measure_random", lambda label: 1 / 0)
    monkeypatch.setattr(learning, "measure", lambda row, seeds: pytest.fail("it was trained"))
    with pytest.raises(ZeroDivisionError):
        learning.add(CART, 2)


# The page and the picture.


@pytest.mark.parametrize("found", [EMPTY, measured(CART, [500.0] * 10)])
def test_a_page_says_what_is_not_measured(found):
    groups = learning_rows.tables()["groups"]
    lines = [x for group in groups for x in learning_page.group_rows(group, found)]
    assert len(lines) == len(found["rows"])
    missing = " ".join(x.strip() for x in learning_page.missing_lines(found))
    assert "DeepSea-bsuite,size=20" in missing
    said = learning_page.summary_lines(found)
    assert said[0] == f"- {len(lines)} of {len(learning_rows.all_rows())} rows are measured."
    assert len(learning_page.glance_rows(found)) == len(lines)
    cases = sum(len(x.get("must_fail", [])) for x in learning_rows.aims().values())
    assert len(learning_page.failure_lines(found)) == cases > 2
    if lines:
        assert "| CartPole-v1 | `ppo` | preset | 1k | 500 | 500 | ▁▁ | 500 (gymnax" in lines[0]


@pytest.mark.parametrize(
    ("values", "low", "high", "letters"),
    [
        ([0, 2, 4, 6, 8], 0, 8, "▁▂▃▅▇"),
        ([-5, None, 99], 0, 8, "▁ ▇"),
        (range(100), 0, 99, "▁▁▂▂▃▃▅▅▇▇"),
        ([1.0, 1.0], 1.0, 1.0, "▇▇"),
    ],
)
def test_a_curve_in_letters(values, low, high, letters):
    assert learning_page.sparkline(list(values), low, high) == letters


def test_examples_are_so():
    assert doctest.testmod(learning_page) == (0, 1)


def test_of_equal_agents_the_one_with_fewer_steps_is_the_best():
    found = measured(CART, [500.0] * 10)
    slow = Row("reinforce", "CartPole-v1")
    found["rows"] |= measured(slow, [500.0] * 10, env_steps=2000)["rows"]
    assert "| `ppo` 500 |" in learning_page.glance_rows(found)[0]


def test_the_picture_has_a_panel_an_environment(tmp_path):
    cart, catch = measured(CART, [500.0] * 10), measured(Row("dqn", "Catch-bsuite"), [1.0] * 10)
    found = {part: {**cart[part], **catch[part]} for part in EMPTY}
    figure = learning_figure.draw(found)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["CartPole-v1", "Catch-bsuite"]
    (line,) = (x for x in figure.axes[0].lines if x.get_label() == "ppo")
    assert line.get_xydata().tolist() == [[500, 1], [1000, 2]]
    assert [x.get_text() for x in figure.legends[0].get_texts()] == ["ppo", "dqn"]
    learning_figure.save(figure, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    learning_figure.save(learning_figure.draw(EMPTY), tmp_path / "none.png")
    assert learning_figure.OUT.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("ppo/CartPol-v1", "unknown row 'ppo/CartPol-v1'"),
        ("--list --agent pppo", "invalid choice: 'pppo'"),
        ("--missing --seeds 0", "--seeds 0: allowed is an integer >= 1"),
        ("dqn/CartPole-v1 --agent ppo", "--agent ppo: allowed where no row is named"),
    ],
)
def test_words_that_do_not_fit_are_refused_in_a_line(words, says, monkeypatch, capsys):
    monkeypatch.setattr(learning.jaxpg, "use_all_cores", lambda: None)
    monkeypatch.setattr(sys, "argv", ["learning.py", *words.split()])
    with pytest.raises(SystemExit, match="2"):
        learning.main()
    assert says in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("none/x.png", "allowed is a file in a folder that is there"),
        ("x.svg", "--out='x.svg': allowed are the endings .png"),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused_before_it_is_drawn(
    out, says, monkeypatch, capsys
):
    monkeypatch.setattr(learning_figure, "draw", lambda measured: pytest.fail("it was drawn"))
    monkeypatch.setattr(sys, "argv", ["learning_figure.py", "--out", out])
    with pytest.raises(SystemExit, match="2"):
        learning_figure.main()
    assert says in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 3}'])
def test_a_file_of_another_kind_is_named(text, tmp_path):
    path = tmp_path / "learning.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"learning.json: .*allowed is"):
        learning_rows.load(path)
