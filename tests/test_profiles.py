"""The search of general profiles: what it trains on, how it judges, which words it refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import learning_page
import profiles

from jaxpg import presets


def test_what_is_left_out_is_left_out_of_every_search():
    searched = {name for one in profiles.SEARCHES.values() for name in one.steps}
    assert searched == profiles.BEST.keys()
    assert searched.isdisjoint(profiles.HELD_OUT)


def test_points_are_ordered_by_their_mean_share_of_the_way():
    record = {
        "finals": {
            "CartPole-v1": {"random": 20, "returns": [[500, 500], [260, 20], [20, 900]]},
            "Pendulum-v1": {"random": -1150, "returns": [[-1150, -2000], [-150, -650], [-150] * 2]},
        }
    }
    shares = profiles.mean_shares(record, "finals")
    np.testing.assert_allclose(shares, [(1 + 0) / 2, (0.25 + 0.75) / 2, (0.5 + 1) / 2])
    assert profiles.rank(record, "finals") == [2, 0, 1]


def test_a_profile_is_judged_by_the_better_of_preset_and_defaults():
    means = {"profile": 6.0, "defaults": 10.0, "preset": 4.0}
    found = {"ppo": {"held_out": {"X": {"total_steps": 1000, "random": 2.0, "means": means}}}}
    assert learning_page.held_out_rows("ppo", found) == ["| X | 1k | 2 | 6 | 4 | 10 | 50 % |"]
    means["profile, remembering"] = 12.0  # of the profile too, so that it is no bar
    assert learning_page.held_out_rows("ppo", found) == [
        "| X | 1k | 2 | 6 | 4 | 10 | 50 % |",
        "| X, remembering | 1k | 2 | 12 | 4 | 10 | 125 % |",
    ]


def test_the_profile_is_refined_by_values_of_the_same_fields():
    """Each change names all of them, so that it is the same whatever the profile has become; and
    the profile has what did best."""
    for name, changes in profiles.REFINED.items():
        (fields,) = {tuple(x) for x in changes}
        record = json.loads(Path(profiles.__file__).with_suffix(".json").read_text())[name]
        best, profile = changes[profiles.rank(record, "refined")[0]], presets.find(name, "*")
        assert {k: profile.settings["config"][k] for k in fields} == best


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("ppo --env Reacher-misc", "--env Reacher-misc: allowed are CartPole-v1, MountainCar-v0,"),
        ("ppo --env", "expected at least one argument"),
        ("ppo --held-out --env CartPole-v1", "--env CartPole-v1: allowed are Acrobot-v1, Ast"),
        ("dqn --refine", "--refine: allowed are ppo"),
        ("ppo --refine --held-out", "not allowed with argument --refine"),
        ("ppo --refine --env CartPole-v1", "--env: allowed is none with --refine"),
        ("ppo --held-out --env Kuhn-jaxpg", "Kuhn-jaxpg is a game of zero sum"),
        ("a2c --held-out", "--held-out: a2c has no general profile to judge"),
        ("es", "invalid choice: 'es'"),
    ],
)
def test_words_that_would_do_nothing_are_refused_in_a_line(words, says, monkeypatch, capsys):
    monkeypatch.setattr(profiles.jaxpg, "use_all_cores", lambda: None)
    for name in ("search", "refine", "hold_out"):
        monkeypatch.setattr(profiles, name, lambda *args: pytest.fail("it began"))
    monkeypatch.setattr(sys, "argv", ["profiles.py", *words.split()])
    with pytest.raises(SystemExit, match="2"):
        profiles.main()
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_what_is_done_is_kept(monkeypatch, capsys, tmp_path):
    """After Ctrl-C the file has what was saved, and what others wrote meanwhile; one that is no
    JSON is refused, and left as it is."""
    path = tmp_path / "profiles.json"
    monkeypatch.setattr(profiles, "PATH", path)
    monkeypatch.setattr(profiles.jaxpg, "use_all_cores", lambda: None)
    monkeypatch.setattr(sys, "argv", ["profiles.py", "ppo"])

    def search(name, record, save, only):
        path.write_text('{"dqn": {"points": []}}')
        record["points"] = [1]
        save()
        raise KeyboardInterrupt

    monkeypatch.setattr(profiles, "search", search)
    assert profiles.main() == 130
    assert "profiles.json has what was done" in capsys.readouterr().out
    assert json.loads(path.read_text()) == {"dqn": {"points": []}, "ppo": {"points": [1]}}
    path.write_text("{")
    with pytest.raises(SystemExit, match="2"):
        profiles.main()
    assert "allowed is what this script writes" in capsys.readouterr().err
    assert path.read_text() == "{"
