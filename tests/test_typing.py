"""What type checkers and editors see of the public face; pyright itself is run by `-m slow`."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import jaxpg
from jaxpg import agents

ROOT = Path(__file__).parents[1]
FACE = ROOT / "jaxpg" / "__init__.py"


def typed_face() -> dict[str, str]:
    """Public name -> its home, by what stands under `if TYPE_CHECKING:`."""
    tree = ast.parse(FACE.read_text())
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    found = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            found |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
        else:  # another name for a module: pictures = figures
            assert isinstance(node, ast.Assign)
            found[node.targets[0].id] = found.pop(node.value.id)
    return found


def lazy_face() -> dict[str, str]:
    """Public name -> its home, by the tables that `__getattr__` reads."""
    own = {name: f"jaxpg.agents.{name}.{name}" for name in agents.NAMES}
    own |= {name: f"jaxpg.{home}.{name}" for name, home in jaxpg._HOME.items()}
    return own | {name: f"jaxpg.{home}" for name, home in jaxpg._MODULES.items()}


def test_checkers_see_the_names_that_python_loads():
    assert typed_face() == lazy_face()
    assert sorted(typed_face()) == jaxpg.__all__


def test_every_name_is_exported_to_checkers():
    """`import x as x`: of a package with py.typed, other imports are private."""
    tree = ast.parse(FACE.read_text())
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    renamed = {n.value.id for n in block.body if isinstance(n, ast.Assign)}
    names = [x for n in block.body if isinstance(n, ast.ImportFrom) for x in n.names]
    assert all(x.name == x.asname or x.name in renamed for x in names)


def pyright(*files: str) -> list[tuple[str, int, str]]:
    """File, line and rule of all that pyright has to say."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = shutil.which("pyright", path=path)
    if command is None:
        pytest.skip("pyright is not installed: pip install 'jaxpg[types]'")
    done = subprocess.run(
        [command, "--outputjson", "--pythonpath", sys.executable, *files],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )  # fmt: skip
    said = json.loads(done.stdout)["generalDiagnostics"]
    return [
        (Path(x["file"]).name, x["range"]["start"]["line"] + 1, x.get("rule", x["message"]))
        for x in said
    ]


@pytest.mark.slow
def test_what_users_write_is_clean():
    assert pyright("tests/typing_user.py") == []


@pytest.mark.slow
def test_every_planted_mistake_is_found():
    file = ROOT / "tests" / "typing_mistakes.py"
    planted = {
        (file.name, i, marked[1])
        for i, line in enumerate(file.read_text().splitlines(), 1)
        if (marked := re.search(r"# error: (\w+)$", line))
    }
    assert len(planted) > 20
    assert set(pyright(str(file))) == planted


@pytest.mark.slow
def test_the_package_is_clean():
    assert pyright() == []


@pytest.mark.slow
def test_the_wheel_says_that_it_is_typed(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "jaxpg", source / "jaxpg")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, source]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "jaxpg/py.typed" in archive.namelist()
