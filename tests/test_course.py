"""The lessons: each has its parts, and what the site's notebooks print is true."""

import itertools
import json
import re

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from tests.pages import LESSONS, ROOT


@pytest.fixture(scope="module")
def printed(site):
    """printed(name): what the cells of a lesson printed when the site was built."""

    def read(name):
        (path,) = site.glob(f"_downloads/*/{name}.ipynb")
        cells = json.loads(path.read_text())["cells"]
        outputs = [x for cell in cells for x in cell.get("outputs", [])]
        return "".join("".join(x.get("text", "")) for x in outputs)

    return read


@pytest.mark.parametrize("page", LESSONS)
def test_a_lesson_has_its_parts(page):
    text = (ROOT / page).read_text()
    number = int(page.rpartition("/")[2][:2])
    assert text.startswith(f"# {number}. ")
    assert re.search(r"^\*Before:\*.+\*Time:\* \d\d minutes\.$", text, re.M | re.S)
    exercises, answers = (
        text.partition("## Exercises")[2].split("\n---\n")[0],
        "<details><summary>Answer",
    )
    assert 3 <= exercises.count(answers) == len(re.findall(r"^\d\. ", exercises, re.M))
    assert exercises.count(answers) == exercises.count("</details>")
    code = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(code) >= 5
    assert max(len(line) for block in code for line in block.splitlines()) <= 76


@pytest.mark.slow
def test_every_lesson_is_executed_and_draws(site):
    paths = {path.stem: path for path in site.glob("_downloads/*/[0-9][0-9]_*.ipynb")}
    assert sorted(paths) == [page.rpartition("/")[2].removesuffix(".md") for page in LESSONS]
    for path in paths.values():
        cells = [x for x in json.loads(path.read_text())["cells"] if x["cell_type"] == "code"]
        assert all(cell["execution_count"] for cell in cells)
        assert "image/png" in str([cell["outputs"] for cell in cells])


def steps_in_row(moves: dict) -> float:
    """Mean steps over the starts in lesson 9's row of five cells, the treasure below the middle.

    moves: by what was seen before and is seen now (None at first), the move to -1, 0 or 1.
    """
    seen, total = ["left end", "grey", "middle", "grey", "right end"], 0
    for start in range(5):
        before, cell, steps = None, start, 1  # the step down, at the end
        while seen[cell] != "middle" and steps < 1000:
            move = moves[before, seen[cell]]
            before, cell, steps = seen[cell], min(max(cell + move, 0), 4), steps + 1
        total += steps
    return total / 5


def check_memory(text: str) -> None:
    """Raises AssertionError unless lesson 9 printed the exact values of its two worlds."""

    def said(name):
        (value,) = re.findall(rf"(?m)^{name}: (-?[\d.]+)$", text)
        return float(value)

    def corridor(p):  # steps from the first of the three cells: a linear equation for each
        follows = np.array([[1 - p, p, 0], [p, 0, 1 - p], [0, 1 - p, 0]])
        return np.linalg.solve(np.eye(3) - follows, np.ones(3))[0]

    best = minimize_scalar(corridor, bounds=(0.1, 0.9), method="bounded", options={"xatol": 1e-9})
    assert said("corridor best p") == pytest.approx(best.x, abs=1e-4)
    assert said("corridor best return") == pytest.approx(-best.fun, abs=1e-3)

    def row(p):  # mean steps from its five cells
        follows = np.zeros((5, 5))
        follows[[0, 4], [1, 3]] = 1
        follows[[1, 1, 3, 3], [2, 0, 4, 2]] = p, 1 - p, p, 1 - p
        return np.linalg.solve(np.eye(5) - follows, np.ones(5)).mean()

    ps = np.linspace(0.01, 0.99, 981)
    of_each = [row(p) for p in ps]
    assert said("alike p by ascent") == pytest.approx(ps[np.argmin(of_each)], abs=2e-3)
    for name in ("alike steps at one half", "alike steps without"):
        assert said(name) == pytest.approx(min(of_each), abs=1e-3)

    kinds = [None, "left end", "grey", "right end"]
    ends = {(k, end): 1 if end == "left end" else -1 for k in kinds for end in kinds[1::2]}
    in_grey = itertools.product([-1, 0, 1], repeat=4)
    remembers = [ends | {(k, "grey"): m for k, m in zip(kinds, x, strict=True)} for x in in_grey]
    assert said("alike steps with memory") == pytest.approx(min(map(steps_in_row, remembers)))
    assert said("alike steps with sight") == pytest.approx(np.mean([3, 2, 1, 2, 3]))


MEMORY = """corridor best p: 0.5858
corridor best return: -11.657
alike p by ascent: 0.500
alike steps at one half: 3.800
alike steps with sight: 2.2
alike steps with memory: 2.6
alike steps without: 3.8
"""


def test_the_check_of_what_cannot_be_seen_finds_a_wrong_number():
    check_memory(MEMORY)
    for right, wrong in [("0.5858", "0.5868"), ("-11.657", "-11.66"), ("2.6", "2.4")]:
        with pytest.raises(AssertionError):
            check_memory(MEMORY.replace(right, wrong))


@pytest.mark.slow
def test_what_cannot_be_seen(printed):
    check_memory(printed("09_memory"))
