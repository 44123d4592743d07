"""Every code block of the README runs, and the tables agree with what was measured."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jaxpg import agents, cli, presets

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
SETUP, TESTS, COMMANDS = re.findall(r"```bash\n(.*?)```", README, re.S)


@pytest.mark.parametrize("block", PYTHON, ids=["train", "vmap", "throughput"])
def test_python_block_runs(block, tmp_path):
    """In a process of its own, as a reader runs it: one of them chooses JAX's devices."""
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert len([line for line in block.splitlines() if line]) <= 11


def test_commands_run_in_their_order(tmp_path, monkeypatch, capsys):
    """The README's own lines, with fewer steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for line in COMMANDS.strip().splitlines():
        words = shlex.split(line)
        assert words[0] == "jaxpg"
        trains = words[1] in ("train", "sweep", "compare")
        short = ["--total-steps", "8192", "--evaluations", "1"] if trains else []
        assert cli.main(words[1:] + short) == 0, line
    assert (tmp_path / "pendulum.png").stat().st_size > 10_000
    assert "ppo" in capsys.readouterr().out


def test_the_two_commands_name_what_there_is():
    assert "jaxpg train ppo CartPole-v1" in SETUP
    assert "pytest" in TESTS
    for command in (SETUP, TESTS):
        assert "python3 -m venv" in command
        assert "-c constraints.txt" in command
    assert (ROOT / "constraints.txt").is_file()


def test_tables_are_complete_and_true():
    measured = json.loads((ROOT / "benchmarks" / "learning.json").read_text())
    for name in agents.NAMES:
        assert (ROOT / "docs" / f"{name}.md").is_file()
        for env in presets.table(name):
            greedy = measured[f"{name}/{env}"]["greedy"]
            row = next(x for x in README.splitlines() if x.startswith(f"| `{name}` | {env} |"))
            cells = [cell.strip() for cell in row.split("|")]
            assert float(cells[4]) == pytest.approx(sum(greedy) / len(greedy), abs=0.06)
            assert float(cells[5]) == pytest.approx(min(greedy), abs=0.06)


def test_figures_of_the_pages_exist():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
