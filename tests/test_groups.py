"""How tests are shared out, and that the contract of one agent stays cheap."""

import json
import os
import subprocess
import sys

import pytest

from tests import groups
from tests.conftest import INSTALLED, ROOT

# Agents whose whole contract is in the slow part.
SLOW = ("mappo", "maddpg", "cpo", "ppo_lagrangian")


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("tests/test_contract.py::test_nan_is_caught[ppo]", "test_contract ppo"),
        ("tests/test_contract.py::test_odd_spaces_train_and_act[0-sac]", "test_contract sac"),
        ("tests/test_contract.py::test_x64_runs", "test_contract"),
        ("tests/test_suites.py::test_the_contract_holds[pgx/2048]", "test_suites pgx"),
        ("tests/test_suites.py::test_the_command_lists[pgx]", "test_suites pgx"),
        ("tests/test_brax.py::test_steps[mjx]", "test_brax mjx"),
        ("tests/test_brax.py::test_steps", "test_brax"),
        ("tests/test_heads.py::test_agents[sac_discrete-ppo]", "test_heads"),
        ("tests/test_pages.py::test_page_runs[sac.md]", "test_pages test_page_runs[sac.md]"),
    ],
)
def test_a_group_is_a_file_or_a_part_of_it(nodeid, name):
    assert groups.group(nodeid) == name


def test_the_longest_begin_and_the_unknown_before_them():
    names = ["test_a", "test_contract ppo", "test_c", "test_sweep", "test_distributed"]
    seconds = {"tests/test_a.py::f": 1.0, "tests/test_contract.py::f[ppo]": 2.0}
    found = groups.longest_first(names, seconds)
    assert found == ["test_distributed", "test_sweep", "test_c", "test_contract ppo", "test_a"]


def test_every_part_is_run_before_a_change_lands():
    """Of the slow tests what rests on XLA's defaults has a process that begins with them."""
    text = (ROOT / ".ci" / "run").read_text()
    assert '\'pytest -m "slow and not defaults" ' in text
    assert '\'JAXPG_TEST_XLA=default pytest -m "slow and defaults" ' in text


def test_a_group_has_one_process_and_its_seconds_are_kept(tmp_path):
    """With the flags of the README's command, in a small project of its own."""
    pytest.importorskip("xdist")
    (tmp_path / "conftest.py").write_text("from tests.groups import *\n")
    for name in "abc":
        body = "import os, pytest, pathlib\n@pytest.mark.parametrize('i', range(4))\ndef test(i):\n"
        body += (
            f"    (pathlib.Path(__file__).parent / f'{name}{{i}}').write_text(str(os.getpid()))\n"
        )
        (tmp_path / f"test_{name}.py").write_text(body)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", str(tmp_path)],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert "12 passed" in done.stdout, done.stdout + done.stderr
    assert "the ten longest groups" in done.stdout
    processes = [{(tmp_path / f"{name}{i}").read_text() for i in range(4)} for name in "abc"]
    assert all(len(of_group) == 1 for of_group in processes)
    assert len(set.union(*processes)) == 2
    kept = tmp_path / ".pytest_cache" / "v" / groups.KEPT
    assert len(json.loads(kept.read_text())) == 12


def measured(folder, *chosen):
    """CPU-seconds of every agent's contract, with the quick part's flags and no program kept."""
    environment = os.environ | {"JAXPG_TEST_XLA": "quick", "PYTHONPATH": str(ROOT)}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(folder / "programs")
    command = [sys.executable, "-m", "pytest", f"tests/{groups.CONTRACT}.py", *chosen]
    done = subprocess.run(
        [*command, "-o", f"cache_dir={folder / 'cache'}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return groups.totals(json.loads((folder / "cache" / "v" / groups.KEPT).read_text()))


def kept():
    """CPU-seconds of every agent's contract as the quick part left them here, or None."""
    path = ROOT / ".pytest_cache" / "v" / groups.KEPT
    found = groups.totals(json.loads(path.read_text())) if path.exists() else {}
    quick = {f"{groups.CONTRACT} {name}" for name in INSTALLED if name not in SLOW}
    found = {name: cpu for name, cpu in found.items() if name in quick}
    return found if found.keys() == quick else None


@pytest.mark.slow
def test_the_contract_of_an_agent_costs_little(tmp_path):
    """A second time alone, if it is dear: what else the machine does may double CPU-seconds. Of the
    agents whose contract is slow the summary of the tests says it."""
    found = kept() or measured(tmp_path / "quick")
    agents = {x: cpu for x, cpu in found.items() if x != groups.CONTRACT}
    assert len(agents) == len(INSTALLED) - len(SLOW)
    for name, cpu in agents.items():
        if cpu > groups.ALLOWED:
            word = f"[{name.split()[1]}"
            again = measured(tmp_path / name, "-m", "not slow", "-k", f"{word}] or {word}-")
            assert again[name] <= groups.ALLOWED, name
