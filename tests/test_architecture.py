"""Imports run in one direction: which room may import which, and no circle anywhere.

The walk is of the source, so it sees imports at any depth: those in functions, which are lazy, and
those for type checkers only.
"""

import ast
import graphlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from jaxpg import agents

ROOT = Path(__file__).parents[1] / "jaxpg"

# The rooms, and which others each may import; the last are those that import nothing of ours.
ALLOWED = {
    "cli": "face runs robustness listing report render export figures tuning sweeps run callbacks "
    "analysis diagnostics presets agents envs core text files jobs",
    "listing": "run presets agents envs core files",
    "robustness": "runs figures run analysis envs core files",
    "runs": "figures tuning sweeps run presets core",  # the face of run folders and sweep folders
    "report": "figures tuning sweeps run analysis diagnostics presets agents envs core text files",
    "render": "figures run envs core text extras",
    "export": "run core files extras",
    "figures": "analysis run ops core text files",
    "tuning": "sweeps run analysis presets agents envs core text files",
    "sweeps": "run callbacks analysis presets agents envs core text files extras",
    "analysis": "envs core text",
    "run": "callbacks agents envs core text files",
    "callbacks": "core text files extras",
    "diagnostics": "analysis nets envs ops core",
    "presets": "agents envs core",
    "agents": "loops nets replay ops core",
    "loops": "nets replay ops core",
    "nets": "core",
    "envs": "core",
    "replay": "core",
    "ops": "core",
    "core": "",
    "text": "",
    "files": "core text",
    "extras": "",
    "jobs": "extras core",
}
OUTER = {"distrax": {"nets"}}  # packages that only these rooms import


def package() -> dict[str, str]:
    """The sources of all modules, by name; a package's is that of its __init__.py."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def room(module: str) -> str:
    """The room of a module: core, agents, ...; of `experiment` that within it."""
    parts = module.split(".")[1:]
    if parts == ["__main__"]:  # `python -m jaxpg`
        parts = ["cli"]
    if parts[:1] == ["experiment"]:
        parts = parts[1:] or ["runs"]
    return parts[0] if parts else "face"


def imports(sources: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every import of every module: (module, imported module of ours, or package of others)."""
    for module, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                yield from ((module, name.name) for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{module}: relative import in line {node.lineno}"
                for name in node.names:
                    whole = f"{node.module}.{name.name}"
                    yield module, whole if whole in sources else node.module


def ours(sources: Mapping[str, str]) -> set[tuple[str, str]]:
    return {(a, b) for a, b in imports(sources) if b.partition(".")[0] == "jaxpg"}


# Of core: what arrays are, and how they are added up. Nothing that asks where it runs.
OPS_IMPORT = ("jaxpg.core.types", "jaxpg.core.sums")


def forbidden(sources: Mapping[str, str]) -> list[str]:
    """Imports that the tables above do not allow."""
    found = []
    for a, b in sorted(set(imports(sources))):
        here, there = room(a), room(b)
        if b.partition(".")[0] != "jaxpg":
            if here not in OUTER.get(b.partition(".")[0], {here}):
                found.append(f"{a} -> {b}: only {OUTER[b.partition('.')[0]]} may")
        elif here != there and here != "face" and there not in ALLOWED[here].split():
            found.append(f"{a} -> {b}: {here} may import {ALLOWED[here] or 'nothing of ours'}")
        elif here == "ops" and there == "core" and b not in OPS_IMPORT:
            found.append(f"{a} -> {b}: ops may import {', '.join(OPS_IMPORT)}")
        elif here == there == "agents" and "jaxpg.agents" not in (a, b):
            found.append(f"{a} -> {b}: no agent imports another")
    return found


def circle(sources: Mapping[str, str]) -> list[str]:
    """A circle of imports between modules, as a path that ends where it began; [] if none."""
    graph = {module: set() for module in sources}
    for a, b in ours(sources):
        graph[a].add(b)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        path = error.args[1][:0:-1]
        first = path.index(min(path))
        return [*path[first:], *path[: first + 1]]
    return []


def test_rooms_import_what_they_may():
    assert not forbidden(package())


def test_the_table_has_no_circle():
    """Of rooms, so a new module cannot make one."""
    rooms = {f"jaxpg.{a}": f"import jaxpg.{', jaxpg.'.join(b.split())}" if b else ""
             for a, b in ALLOWED.items()}  # fmt: skip
    assert not circle(rooms)


def test_no_circle_of_modules():
    assert not circle(package())


PLANTED = {
    "core imports envs": ("jaxpg.core.env", "def f():\n    from jaxpg.envs import registry"),
    "an op imports a config": ("jaxpg.ops.losses", "from jaxpg.core.config import config"),
    "an op imports a net": ("jaxpg.ops.losses", "import jaxpg.nets.heads"),
    "an op asks the machine": ("jaxpg.ops.returns", "from jaxpg.core.machine import on_gpu"),
    "an agent imports another": ("jaxpg.agents.npg", "from jaxpg.agents import trpo"),
    "a run imports figures": (
        "jaxpg.experiment.run.folder",
        "if TYPE_CHECKING:\n    from jaxpg.experiment.figures import style",
    ),
    "a loop imports the face": ("jaxpg.loops.lag", "def f():\n    import jaxpg"),
    "a loop imports distrax": ("jaxpg.loops.lag", "def f():\n    import distrax"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_forbidden_import_is_found(name):
    module, line = PLANTED[name]
    sources = package()
    found = forbidden(sources | {module: f"{sources[module]}\n{line}\n"})
    assert len(found) == 1
    assert found[0].startswith(f"{module} -> ")


def test_a_circle_is_found():
    """Also one that is closed by a lazy import."""
    sources = {"jaxpg.a": "from jaxpg import b", "jaxpg.b": "import jaxpg.c", "jaxpg.c": ""}
    assert not circle(sources)
    sources["jaxpg.c"] = "def f():\n    from jaxpg.a import x"
    assert circle(sources) == ["jaxpg.a", "jaxpg.b", "jaxpg.c", "jaxpg.a"]


def longest_equal_run(one: list[str], other: list[str]) -> int:
    """Lines of the longest run that two lists share."""
    before, longest = [0] * (len(other) + 1), 0
    for x in one:
        now = [0, *(before[j] + 1 if x == y else 0 for j, y in enumerate(other))]
        before, longest = now, max(longest, *now)
    return longest


def test_no_two_agents_share_twelve_lines():
    """But for imports and a config's fields, which stand in every file so that it reads alone."""
    said = {
        path.stem: [
            line
            for line in map(str.strip, path.read_text().splitlines())
            if line and not re.match(r"import |from |\w+: .* = (fields\.|schedule\()", line)
        ]
        for path in (ROOT / "agents").glob("[!_]*.py")
    }
    runs = {(a, b): longest_equal_run(said[a], said[b]) for a in said for b in said if a < b}
    assert len(said) == len(agents.NAMES)
    assert not {pair: run for pair, run in runs.items() if run >= 12}
    assert longest_equal_run(said["ppo"], [*said["a2c"], *said["ppo"][20:40]]) >= 20
