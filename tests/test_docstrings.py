"""The public face explains itself: types, a first line that says what it is, an example that runs.

An example may use what those before it wrote: `runs/cliff`, the folder of the example of `run`.
"""

import ast
import doctest
import inspect
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jaxpg
from jaxpg import agents

ROOT = Path(__file__).parents[1]
PUBLIC = sorted(jaxpg._HOME)
# What sets a process up, before anything else of it.
SETUP = ("use_cache", "use_one_thread", "use_command_buffers", "use_all_cores", "distributed")
LONG = ("compare", "fan_out", "render", "report", "search", "tune")
SHORT = [name for name in PUBLIC if name not in (*SETUP, *LONG, "run")]

# A first line names or does something: it does not begin in the middle of a sentence.
QUESTIONS = {"what", "how", "whether", "which", "where", "when", "who", "whose", "why"}
NOT_FIRST = QUESTIONS | {"that", "this", "if", "as", "of"}
NOT_FIRST |= {"for", "with", "by", "to", "in", "on", "it", "they", "is", "are", "do", "does", "see"}
OPTIONAL = {"fan_out": "submitit", "search": "optuna"}


def parts(name):
    """The functions of a public name: itself, or the public methods of a class."""
    value = inspect.unwrap(getattr(jaxpg, name))
    if not inspect.isclass(value):
        return [value]
    own = [m for key, m in vars(value).items() if not key.startswith("_") or key == "__call__"]
    own = [m.fget if isinstance(m, property) else getattr(m, "__func__", m) for m in own]
    return [m for m in own if inspect.isfunction(m)]


def untyped(function):
    """The parameters without a type; "return" if the result has none."""
    signature = inspect.signature(function)
    found = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    found = [name for name in found if name not in ("self", "cls")]
    return found + ["return"] * (signature.return_annotation is inspect.Signature.empty)


def examples(names):
    """Runs the examples of these names, in this order; returns what went wrong."""
    said, runner = [], doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for name in names:
        known = {"jax": jax, "jaxpg": jaxpg, "os": os}
        text = inspect.unwrap(getattr(jaxpg, name)).__doc__
        runner.run(doctest.DocTestParser().get_doctest(text, known, name, None, 0), out=said.append)
    return "".join(said)


@pytest.mark.parametrize("name", PUBLIC)
def test_signatures_have_types(name):
    assert {f.__qualname__: untyped(f) for f in parts(name) if untyped(f)} == {}


@pytest.mark.parametrize("name", agents.NAMES)
def test_signatures_of_agents_have_types(name):
    agent = agents.get(name)
    for f in (agent.init, agent.step, agent.act):
        assert untyped(f) == [], f"{name}.{f.__name__}"


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_begin_with_a_verb_or_a_noun(name):
    value = getattr(jaxpg, name)
    for f in {inspect.unwrap(value), *parts(name)}:
        first = (f.__doc__ or "").split("\n")[0]
        assert first, f.__qualname__
        assert first.split()[0].strip("`,.").lower() not in NOT_FIRST, first


def first_words(path):
    """First word and place of every docstring in a file."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield text.split()[0].strip("`,.").lower(), f"{path}: {text.partition(chr(10))[0]}"


def test_no_docstring_begins_with_a_question():
    """Nor of what is private, in any file of the package."""
    found = [pair for path in sorted((ROOT / "jaxpg").rglob("*.py")) for pair in first_words(path)]
    assert len(found) > 1000
    assert [place for word, place in found if word in QUESTIONS] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_every_example_is_one(name):
    """That it parses, and shows what comes out."""
    found = doctest.DocTestParser().get_examples(inspect.unwrap(getattr(jaxpg, name)).__doc__)
    assert found
    for example in found:
        compile(example.source, name, "single")
    assert any(example.want for example in found)


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert examples(["run", *SHORT]) == ""


def test_examples_of_setting_up_run(tmp_path):
    """In a process of their own, for JAX can be set up only once."""
    code = f"from tests.test_docstrings import examples; print(examples({SETUP!r}))"
    alone = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={k: v for k, v in alone.items() if k != "NPROC"} | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.slow
def test_long_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, package in OPTIONAL.items():
        pytest.importorskip(package, reason=f"the example of {name}")
    assert examples(["run", *LONG]) == ""
