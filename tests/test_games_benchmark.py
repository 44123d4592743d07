"""The benchmark of games: what is exact, and a trial of a row."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import games


def test_exact_rows_are_known_numbers():
    found = games.exact()
    assert found["kuhn/uniform play"]["average"] == [pytest.approx(11 / 12, abs=1e-4)]
    assert found["kuhn/an equilibrium"]["average"] == [pytest.approx(0, abs=1e-4)]
    assert found["tictactoe/best response"]["first"] == [pytest.approx(191 / 192, abs=1e-4)]
    assert found["tictactoe/random play"]["draws"] == [pytest.approx(0.12698, abs=1e-4)]


def test_rows_that_were_measured_hold_what_the_page_says():
    rows = json.loads(games.FILE.read_text())
    assert set(rows) <= set(games.ROWS) | set(games.exact())
    kuhn = rows["kuhn/self-play, entropy bonus falls"], rows["kuhn/self-play, no entropy bonus"]
    assert len(kuhn[0]["average"]) == 3
    assert max(kuhn[0]["average"]) < 0.05
    assert min(kuhn[1]["newest"]) > 0.1


@pytest.mark.slow
def test_a_trial_writes_nothing(monkeypatch, capsys):
    before = games.FILE.read_text()
    monkeypatch.setattr(sys, "argv", ["games.py", "kuhn", "--quick", "--seeds", "1"])
    games.main()
    assert "kuhn/self-play, no entropy bonus" in capsys.readouterr().out
    assert games.FILE.read_text() == before
