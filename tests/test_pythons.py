"""Later Pythons, with a later JAX: the contract of some agents, where such a Python is there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# What constraints-313.txt is for, and an agent of every kind of loop.
PYTHONS, CONSTRAINTS = ("3.12", "3.13"), "constraints-313.txt"
AGENTS = ("a2c", "dqn", "sac", "q_learning", "cem")


def run(*command, **options):
    words = list(map(str, command))
    return subprocess.run(words, capture_output=True, text=True, timeout=1500, **options)


def interpreter(version: str) -> Path | None:
    """A Python of this version that can make an environment: on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *pyenv.glob(f"{version}.*/bin/python")]
    code = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"
    for python in filter(None, found):
        done = run(python, "-c", code)
        if done.returncode == 0 and done.stdout.strip() == version:
            return Path(python)
    return None


def test_two_files_of_constraints_differ_in_jax_and_navix_alone():
    files = ((ROOT / name).read_text().splitlines() for name in ("constraints.txt", CONSTRAINTS))
    old, new = ({line for line in lines if not line.startswith("#")} for lines in files)
    assert {re.split("==", line)[0] for line in old ^ new} == {"jax", "jaxlib", "Navix"}


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_the_contract_holds_on_a_later_python(version, tmp_path):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here, beside {sys.version.split()[0]}")
    for name in ("jaxpg", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "README.md", "LICENSE", CONSTRAINTS):
        shutil.copy(ROOT / name, tmp_path)
    own = {"XLA_FLAGS", "PYTHONPATH", "JAX_COMPILATION_CACHE_DIR", "JAXPG_TEST_XLA"}
    env = {name: value for name, value in os.environ.items() if name not in own}
    here, there = {"cwd": tmp_path, "env": env}, tmp_path / ".venv" / "bin" / "python"
    assert run(python, "-m", "venv", ".venv", **here).returncode == 0
    done = run(there, "-m", "pip", "install", "-q", ".", "pytest", "-c", CONSTRAINTS, **here)
    assert done.returncode == 0, done.stderr[-3000:]
    words = " or ".join(f"[{name}]" for name in AGENTS)
    done = run(there, "-m", "pytest", "tests/test_contract.py", "-k", words, **here)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 10 * len(AGENTS)
