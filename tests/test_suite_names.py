"""Names of environments of other suites: errors, lists, and what is imported when."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxpg
from jaxpg.cli import main
from jaxpg.envs import registry, suites

ROOT = Path(__file__).parents[1]
PACKAGES = {suites.PACKAGES.get(suite, suite) for suite in suites.SUITES}
HEAVY = {"playground"}  # not in `jaxpg[envs]`


@pytest.fixture
def none_installed(monkeypatch):
    """Suites as a machine has them on which none is installed."""
    find = importlib.util.find_spec
    missing = lambda name, *a: None if name in PACKAGES else find(name, *a)  # noqa: E731
    monkeypatch.setattr(suites, "_load", suites._load.__wrapped__)
    monkeypatch.setattr(importlib.util, "find_spec", missing)


@pytest.mark.parametrize("suite", suites.SUITES)
def test_a_suite_that_is_not_installed_is_one_line_with_the_command(suite, none_installed, capsys):
    for call in (lambda: jaxpg.make(f"{suite}/any"), lambda: suites.names(suite)):
        with pytest.raises(ValueError, match=rf"pip install 'jaxpg\[{suite}\]'$") as error:
            call()
        assert "\n" not in str(error.value)
    assert main(["list", "--suite", suite]) == 2
    assert main(["train", "ppo", f"{suite}/any"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.endswith(f"pip install 'jaxpg[{suite}]'") for line in said)


def test_an_unknown_suite_is_refused_with_the_nearest(capsys):
    with pytest.raises(ValueError, match=r"unknown suite 'bracks': did you mean 'brax'\?"):
        jaxpg.make("bracks/ant")
    assert main(["list", "--suite", "pgz"]) == 2
    assert "did you mean 'pgx'?" in capsys.readouterr().err


def test_a_path_is_no_suite():
    """A "module:Object" with slashes in it keeps its own error."""
    with pytest.raises(ValueError, match=r"did you mean 'brax.ant:Ant'\?"):
        jaxpg.make("brax/ant.py:Ant")


def test_only_names_of_suites_that_are_there_are_registered(none_installed):
    assert registry.is_registered("CartPole-v1")
    assert not registry.is_registered("pgx/2048")
    assert not registry.is_registered("pgx")


def test_each_suite_is_an_extra_of_its_name():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for suite in suites.SUITES:
        assert extras[suite][0].partition(">")[0] == suite
    apart = HEAVY | {*suites.ON_HOST}
    assert extras["envs"] == [f"jaxpg[{','.join(sorted({*suites.SUITES} - apart))}]"]


def test_nothing_of_a_suite_is_imported_before_it_is_asked_for():
    code = """
import sys, jaxpg
from jaxpg.envs import registry, suites
jaxpg.make("CartPole-v1"), registry.names(), registry.is_registered("brax/ant")
packages = {*suites.SUITES, *suites.PACKAGES.values()} - {"gymnasium"}  # gymnax has it
print(*{name.partition(".")[0] for name in sys.modules} & packages)
print(*[name for name in sys.modules if name.startswith("jaxpg.envs.suites.")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split()


def test_the_list_has_the_suites(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out.split("SUITES")[1]
    assert [line.split()[0] for line in said.splitlines()[2:]] == list(suites.SUITES)
