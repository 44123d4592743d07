"""The programs of README, docs and examples: names, arguments and options are true; all run."""

import ast
import functools
import os
import re
import subprocess
import sys

import jax
import pytest

import jaxpg
from tests import pages
from tests.conftest import quick_environment

EXAMPLES = sorted(path.name for path in (pages.ROOT / "examples").glob("*.py"))
AS_USERS = (pytest.mark.slow, pytest.mark.defaults)
README = {block.line: block.text for block in pages.blocks("README.md") if block.kind == "python"}


def commands_of(page):
    fenced = (x for b in pages.blocks(page) if b.kind == "bash" for x in pages.commands(b))
    return [*fenced, *pages.inline_commands(page)]


@functools.cache
def quick_flags():
    """What of the environment makes compiling quick: it is most of what a tiny program costs."""
    names = "XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS"
    return {k: v for k, v in quick_environment().items() if k in names}


def in_process(*words, cwd, **flags):
    """Runs Python in a process of its own, and returns what it printed."""
    environment = os.environ | {"PYTHONPATH": str(pages.ROOT), "MPLBACKEND": "agg"} | flags
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, env=environment,
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("page", pages.PAGES)
def test_names_and_arguments_of_python_blocks_are_true(page):
    """A page's blocks follow one another: what one reads, it or one above it defines."""
    known, modules = set(), {}
    for block in pages.blocks(page):
        if block.kind == "python":
            tree = ast.parse(block.text)
            assert not pages.undefined(tree, known), f"{page}:{block.line}"
            pages.check_names(tree, modules)


@pytest.mark.parametrize("name", EXAMPLES)
def test_names_and_arguments_of_examples_are_true(name):
    tree = ast.parse((pages.ROOT / "examples" / name).read_text())
    assert not pages.undefined(tree, {"__doc__", "__name__"})
    pages.check_names(tree, {})
    assert name.removesuffix(".py") in pages.EXAMPLES


def file_of(words):
    """The file that Python runs."""
    if words[0] != "-m":
        return words[0]
    module = words[1].replace(".", "/")
    return f"{module}/__main__.py" if (pages.ROOT / module).is_dir() else f"{module}.py"


@pytest.mark.parametrize("page", pages.PAGES)
def test_commands_are_understood(page, monkeypatch):
    """By the parser of the command itself, without doing anything."""
    for words in commands_of(page):
        if words[0] == "python":
            source = (pages.ROOT / file_of(words[1:])).read_text()
            assert all(f'"{word}"' in source for word in words if word.startswith("--")), words
            continue
        pages.parse(words, monkeypatch)
        if words[1] in ("train", "sweep") and "--help" not in words:
            jaxpg.agents.get(words[2])
            try:
                jaxpg.make(words[3])
            except ValueError as error:  # of a suite that is not installed here
                assert "pip install" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "command",
    [
        "jaxpg train ppo Pendulum-v1 --head mixture",
        "jaxpg train ppo Pendulum-v1 --config.head no_head",
        "jaxpg rendr runs/ppo-CartPole-v1",
    ],
)
def test_a_false_command_is_found(command, monkeypatch, capsys):
    with pytest.raises(ValueError, match="refused"):
        pages.parse(command.split(), monkeypatch)


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ("import jaxpg\njaxpg.mak('CartPole-v1')", AttributeError),
        ("import jaxpg\njaxpg.ppo.Config(num_env=8)", TypeError),
        ("from jaxpg import no_module", ImportError),
    ],
)
def test_a_false_name_is_found(block, error):
    with pytest.raises(error):
        pages.check_names(ast.parse(block), {})
    assert pages.undefined(ast.parse("print(x)"), set()) == {"x"}


def test_figures_and_links_lead_somewhere():
    for page in [*pages.PAGES, "CHANGELOG.md"]:
        path = pages.ROOT / page
        for target, part in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", path.read_text()):
            file = path.parent / target if target else path
            assert file.exists(), f"{page}: {target}"
            assert not part or part in anchors(file), f"{page}: {target}#{part}"


def anchors(file):
    """The names of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages.PAGES)
def test_what_a_page_calls_file_and_function_is_there(page):
    missing = [f"{file}:{name}" for file, name in pages.named(page) if (file, name) not in SHOWN]
    assert not [x for x in missing if not pages.defines(*x.split(":"))]


@pytest.mark.parametrize("page", pages.PAGES)
def test_names_and_paths_lead_somewhere(page):
    assert not pages.lost(page)


SHOWN = [("file.py", "function")]  # how it is written


def test_a_false_function_is_found():
    assert pages.defines("agents/ppo.py", "Config")
    assert pages.defines("core/run.py", "Result.env_steps")
    assert not pages.defines("core/run.py", "no_function")
    assert not pages.defines("core/run.py", "Result.no_member")
    assert pages.importable("jaxpg.nets.heads.make")
    assert not pages.importable("jaxpg.nets.heads.mak")


def test_the_way_of_a_config_is_as_drawn():
    """The functions of the page's first picture, in its order, are those that a run enters."""
    drawn = (pages.ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    drawn = drawn.partition("IN THE RUN FOLDER")[0]
    way = [x for x in pages.NAMED.findall(drawn) if x[1] != "Config" and "fields" not in x[0]]
    assert len(way) > 10
    entered = []

    def note(frame, event, _):
        if event == "call":
            file = frame.f_code.co_filename.partition("/jaxpg/")[2]
            entered.append((file, frame.f_code.co_name))

    tiny = {"num_envs": 2, "num_steps": 4, "hidden": (3,), "minibatches": 2, "clip_value": True}
    env = jaxpg.make("CartPole-v1")
    sys.setprofile(note)
    try:
        cfg = jaxpg.preset("ppo", "CartPole-v1", gae_lambda=0.9, **tiny)
        jaxpg.run(jaxpg.ppo, cfg, env, jax.random.key(0), total_steps=8)
    finally:
        sys.setprofile(None)
    way.remove(("core/run.py", "run"))  # it checks, and then goes on
    last = 0
    for step in way:
        assert step in entered[last:], step
        last = entered.index(step, last)


# Blocks that are checked and not run, with the reason that stands above them; and the languages
# of blocks that are no programs.
NOT_RUN = {
    "docs/long_runs.md": ["a scheduler"] * 2,
    "docs/devices.md": ["a scheduler", "two machines", "two machines"],
    "docs/tuning.md": ["minutes"] * 3,
    "docs/results.md": ["minutes"],
    "docs/suites.md": ["minutes"],
}
OTHER = {"text", "toml", "math", "js"}  # tests/test_play.py runs what is JavaScript


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_block_is_a_program_or_says_why_not(page):
    """No fence that the tests do not see, and no command in an indented block."""
    text = (pages.ROOT / page).read_text()
    fences = re.findall(r"^ *```(\w*)$", text, re.M)
    programs = [x for x in fences[::2] if x not in OTHER]
    assert not any(fences[1::2])
    assert programs == [block.kind for block in pages.blocks(page)]
    assert not re.findall(r"^ +(?:jaxpg|python) .*$", text, re.M)
    assert re.findall(r"<!-- not run: (.+) -->", text) == NOT_RUN.get(page, [])


# What runs. The README's blocks run as they are, each in a process of its own: one of them chooses
# JAX's devices. The first is the quick twin of all others.


@pytest.mark.parametrize(
    "line",
    [next(iter(README)), *(pytest.param(x, marks=AS_USERS) for x in list(README)[1:])],
)
def test_readme_block_runs(line, tmp_path):
    assert in_process("-c", README[line], cwd=tmp_path).strip()
    assert len([x for x in README[line].splitlines() if x]) <= 11


def test_readme_commands_install_train_and_test():
    setup, tests, _ = (b.text for b in pages.blocks("README.md") if b.kind == "bash")
    assert "jaxpg train ppo CartPole-v1" in setup
    assert "pytest" in tests
    for command in (setup, tests):
        assert "python3 -m venv" in command
        assert "-c constraints.txt" in command
    assert (pages.ROOT / "constraints.txt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [x for x in pages.PAGES if x not in pages.LESSONS and any(pages.programs(x))]
)
def test_page_runs(page, tmp_path, monkeypatch):
    """Its blocks and commands in their order, tiny, in one process and an empty folder. The
    README's, above, run with XLA's defaults, as a user's do."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kinds = ["bash"] if page == "README.md" else []
    in_process("-m", "tests.pages", page, *kinds, cwd=tmp_path, **quick_flags())


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name, tmp_path):
    in_process("-m", "tests.pages", f"examples/{name}", cwd=tmp_path, **quick_flags())
    printed = name in ("vtrace.py", "central_critic.py") or name.startswith("own_")
    assert printed or list(tmp_path.glob("*.png"))
