"""The lessons: each has its parts, and what the site's notebooks print is true."""

import itertools
import json
import re
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from tests import three_steps as world
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


def numbers(text):
    """The lines `name: number` of what a lesson printed."""
    found = re.findall(r"^(\S.*): (-?[\d.]+(?:e[+-]\d+)?)$", text, re.M)
    return {name: float(x) for name, x in found}


def assert_printed(found, exact, within=3e-6):
    """Every exact number was printed under its name; to six digits, and some are of 32 bits."""
    assert exact.keys() <= found.keys()
    wrong = {name: (found[name], x) for name, x in exact.items() if abs(found[name] - x) > within}
    assert not wrong


def cosine(a, b):
    return (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.slow
def test_the_theorem_holds_by_enumeration(printed):
    """Lesson 3, held against an enumeration of its own, and differences."""
    found = numbers(printed("03_theorem"))
    grad = world.differences(lambda theta: world.expected(world.to_go, theta))
    norm = np.linalg.norm(grad)
    _, variance = world.moments(world.discounted_to_go)
    exact = {
        "trajectories": len(world.episodes()),
        "return by enumeration": world.expected(world.to_go),
        "return by Bellman's equation": world.expected(world.to_go),
        **{f"gradient by scores, state {s}": grad[s, 1] for s in range(3)},
        "norm of the gradient": norm,
        "bias with baseline 10": 0,
        "bias with baseline the value": 0,
        "bias with baseline a random number per state": 0,
        "bias with baseline the action value": norm,
        "deviation of one estimate": np.sqrt(variance),
        "error foretold for 1024": np.sqrt(variance / 1024),
        "asymmetry with the factor": 0,
    }
    assert_printed(found, exact)
    alike = {name: 0 for name in found if name.endswith("differ by")}
    assert len(alike) == 5
    assert_printed(found, alike, within=1e-6)
    assert abs(found["error with 1024 episodes"] / np.sqrt(variance / 1024) - 1) < 0.1

    def without_factor(theta, gamma):
        weigh = lambda steps, t: world.to_go(steps, t, gamma)  # noqa: E731
        return world.expected(lambda x: world.estimate(x, weigh, theta), theta)

    for gamma in (0.9, 0.5, 0.1):
        true = world.differences(
            lambda theta, gamma=gamma: world.expected(lambda x: world.to_go(x, gamma=gamma), theta)
        )
        other = without_factor(world.THETA, gamma)
        assert_printed(found, {f"cosine at gamma {gamma}": cosine(true, other)})
    H = world.differences(lambda theta: without_factor(theta, 0.5)).reshape(6, 6)
    assert_printed(found, {"asymmetry without it": abs(H - H.T).max()})


@pytest.mark.slow
def test_the_variances_of_reinforce_are_those_of_an_enumeration(printed):
    """Lesson 4: exact variances and biases of each weight."""
    found = numbers(printed("04_reinforce"))
    grad = world.differences(lambda theta: world.expected(world.to_go, theta))
    whole, to_go = lambda x, t: world.to_go(x), world.discounted_to_go
    less = lambda b: lambda x, t: to_go(x, t) - world.GAMMA**t * b(*x[t][:2])  # noqa: E731
    mean = world.expected(world.to_go)
    b_whole = world.vertex(lambda b: world.moments(lambda x, t: whole(x, t) - b)[1])
    b_to_go = world.vertex(lambda b: world.moments(less(lambda s, a: b))[1])
    V = [world.mean_to_go(s) for s in range(3)]
    Q = [[world.mean_to_go(s, a) for a in range(2)] for s in range(3)]
    best = [world.vertex(lambda b, i=i: world.moments(less(lambda s, a: b * (s == i)))[1])
            for i in range(3)]  # fmt: skip
    weights = {
        "whole return": whole,
        "reward to go": to_go,
        "whole return, mean baseline": lambda x, t: whole(x, t) - mean,
        "whole return, best constant": lambda x, t: whole(x, t) - b_whole,
        "reward to go, best constant": less(lambda s, a: b_to_go),
        "value baseline": less(lambda s, a: V[s]),
        "best baseline of each state": less(lambda s, a: best[s]),
        "advantage": lambda x, t: world.GAMMA**t * (Q[x[t][0]][x[t][1]] - V[x[t][0]]),
    }
    exact = {
        "squared norm of the gradient": np.square(grad).sum(),
        "expected return": mean,
        "best constant, whole return": b_whole,
        "best constant, reward to go": b_to_go,
    }
    for name, weight in weights.items():
        estimate, exact[f"variance, {name}"] = world.moments(weight)
        if name != "whole return":
            exact[f"bias, {name}"] = np.linalg.norm(estimate - grad)
        assert np.allclose(estimate, grad)
    assert_printed(found, exact)


@pytest.mark.slow
def test_the_bias_of_a_normalised_batch_is_that_of_an_enumeration(printed):
    """Lesson 4: all batches of two and of three episodes."""
    found = numbers(printed("04_reinforce"))
    grad = world.differences(lambda theta: world.expected(world.to_go, theta))
    every = [(p, world.to_go(x), world.estimate(x, lambda x, t: 1.0)) for p, x in world.episodes()]
    for n in (2, 3):
        total, batch_mean = np.zeros((3, 2)), np.zeros((3, 2))
        for batch in itertools.product(every, repeat=n):
            chance, x = np.prod([p for p, *_ in batch]), np.array([r for _, r, _ in batch])
            if x.std() > 1e-9:
                total += chance * (x[0] - x.mean()) / x.std() * batch[0][2]
                batch_mean += chance * (x[0] - x.mean()) * batch[0][2]
        assert np.allclose(batch_mean, (1 - 1 / n) * grad)
        exact = {
            f"length with the own mean, n = {n}": 1 - 1 / n,
            f"bias with the mean of others, n = {n}": 0,
            f"cosine when normalised, n = {n}": cosine(total, grad),
            f"length when normalised, n = {n}": np.linalg.norm(total),
        }
        assert_printed(found, exact)


@pytest.mark.slow
def test_the_grids_estimates_have_no_bias(printed):
    """Lesson 4: the gradient is that of a linear system in 64 bits, by differences."""
    text = printed("04_reinforce")

    def grid_return(theta):
        policy, follows = world.softmax(theta), np.zeros((16, 16))
        for s, a in np.ndindex(16, 4):
            row, column = divmod(s, 4)
            row += (-1, 0, 1, 0)[a]
            column += (0, 1, 0, -1)[a]
            inside = 0 <= row < 4 and 0 <= column < 4
            if 0 < s < 15:
                follows[s, 4 * row + column if inside else s] += policy[s, a]
        cost = np.linalg.solve(np.eye(16) - follows, np.r_[0, np.ones(14), 0])
        return -cost.sum() / 14  # begins in each of the others

    grad = world.differences(grid_return, np.tile([0, 0, 0, 0.5], (16, 1)))
    exact = {"squared norm of the grid's gradient": np.square(grad).sum()}
    assert_printed(numbers(text), exact, within=2e-3)
    rows = re.findall(r"^grid, (\w+ \w+(?: \w+)?) +([\d. ]+)$", text, re.M)
    table = {name: [float(x) for x in row.split()] for name, row in rows}
    assert len(table) == 5
    for variance, needed, error, expected in table.values():
        assert abs(needed - variance / np.square(grad).sum()) < 0.1
        assert abs(expected - np.sqrt(variance / 4000)) < 1e-3
        assert error < 1.5 * expected
    variances = [row[0] for row in table.values()]
    assert variances[0] > 2 * variances[1] > 4 * variances[4]


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

    best: Any = minimize_scalar(
        corridor, bounds=(0.1, 0.9), method="bounded", options={"xatol": 1e-9}
    )
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
