"""The lessons: each has its parts, and what the site's notebooks print is true."""

import json
import re

import numpy as np
import pytest

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


def grid_of_corners():
    """P [S, A, S] and R [S, A] of the 4 x 4 grid, cell by cell: Sutton & Barto, example 4.1."""
    P, R = np.zeros((16, 4, 16)), np.zeros((16, 4))
    for s in range(1, 15):
        row, column = divmod(s, 4)
        for a, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
            to = row + down, column + right
            P[s, a, 4 * to[0] + to[1] if min(to) >= 0 and max(to) <= 3 else s] = 1
            R[s, a] = -1
    return P, R


def mean_gradient(P, advantage):
    """[S, A] of an episode's sum of scores times advantages, of the uniform policy, by steps."""
    at, visits = np.r_[0, np.full(14, 1 / 14), 0], np.zeros(16)
    for _ in range(3000):
        visits, at = visits + at, at @ P.mean(1)
    return visits[:, None] * (advantage - advantage.mean(1, keepdims=True)) / 4


def mean_advantages(P, R, critic, steps):
    """[N, S, A]: the mean n-step advantage for n = 1 .. N of the uniform policy, by recursion."""
    ahead, means = critic, []
    for _ in range(steps):
        means.append(R + P @ ahead - critic[:, None])
        ahead = (R + P @ ahead).mean(1)
    return np.array(means)


def one_step_deviation(P, R, critic):
    """Of an episode's sum of scores times TD errors: by the moments of sums along a chain."""
    follows, total = P.mean(1), 0.0
    start = np.r_[0, np.full(14, 1 / 14), 0]
    for s, a in np.ndindex(16, 4):
        f = np.zeros((16, 4))
        f[s] = ((np.arange(4) == a) - 0.25) * (R + P @ critic - critic[:, None])[s]
        first = np.linalg.solve(np.eye(16) - follows, f.mean(1))
        square = (f**2 + 2 * f * (P @ first)).mean(1)
        total += start @ np.linalg.solve(np.eye(16) - follows, square) - (start @ first) ** 2
    return np.sqrt(total)


def check_actor_critic(text):
    """Bias and deviation of each estimator, against means that are added up here."""
    P, R = grid_of_corners()
    V = np.linalg.solve(np.eye(16) - P.mean(1), R.mean(1))
    rows = V.reshape(4, 4).sum(1) / [3, 4, 4, 3]
    wrong = rows.repeat(4) * (P.sum((1, 2)) > 0)
    exact = mean_gradient(P, R + P @ V)
    size, weights = np.linalg.norm(exact), np.arange(2000)
    pattern = r"(\w+) critic, (\S+) (\S+): bias (\S+), exactly (\S+), deviation (\S+)"
    lines = set(re.findall(pattern, text))  # a notebook may repeat a line
    assert len(lines) == 18
    for name, x, y, *printed_numbers in sorted(lines):
        critic = V if name == "right" else wrong
        bias, known, deviation = map(float, printed_numbers)
        n_steps = mean_advantages(P, R, critic, 2000)
        if x == "GAE":
            lam = float(y)
            mix = (1 - lam) * lam**weights if lam < 1 else weights == 1999
            mean = np.tensordot(mix, n_steps, 1)
        else:
            mean = n_steps[int(x) - 1]
        true = np.linalg.norm(mean_gradient(P, mean) - exact) / size
        assert abs(known - true) < 0.002, (name, x, y)
        assert abs(bias - true) < 0.02 + deviation / np.sqrt(5000), (name, x, y)
        if (x, y) == ("GAE", "0.0"):
            assert deviation == pytest.approx(one_step_deviation(P, R, critic) / size, rel=0.04)


@pytest.mark.slow
def test_bias_and_variance_of_advantages_are_the_models(printed):
    check_actor_critic(printed("05_actor_critic"))
