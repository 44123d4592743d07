"""Independent learners, against the exact gradients that they estimate: where they go, by which
way, and what is drawn of it."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.envs.games import matrix
from jaxpg.experiment.figures.games import fields
from jaxpg.experiment.figures.games import portraits as portraits_of
from jaxpg.experiment.figures.games.payoffs import PayoffPaths, payoffs_over_time
from jaxpg.experiment.figures.games.portraits import Portrait, phase_portraits
from jaxpg.ops import games
from tests.test_matrix_games import EQUILIBRIA

PATH = Path(__file__).parents[1] / "examples" / "phase_portraits.py"
KEY, BATCH, STEPS = jax.random.key(0), 256, 800
pytestmark = [pytest.mark.optimised, pytest.mark.defaults]  # most of it is running


def load():
    spec = importlib.util.spec_from_file_location("phase_portraits", PATH)
    module = importlib.util.module_from_spec(spec)  # type: ignore
    spec.loader.exec_module(module)  # type: ignore
    return module


example = load()  # how it learns is what the page shows


def steps_of(*lengths):
    """Steps [STEPS] of equal numbers of these lengths, so that all tests run one program."""
    return np.repeat(lengths, STEPS // len(lengths))


def learn(game, starts, steps, entropy_coef=0.0, key=KEY, batch=BATCH):
    return example.learn_case(game, starts, steps, entropy_coef, batch, key)


def table(game):
    env = jaxpg.make("MatrixGame-jaxpg", game=game)
    return env.core.payoffs(env.params)


SQUARE = example.starts_at((0.3, 0.55), (0.55, 0.3), (0.7, 0.45), (0.8, 0.4))
TRIANGLE = np.stack([np.zeros((2, 3)), *np.random.default_rng(1).normal(size=(3, 2, 3))])
# Steps in units of 1 / the payoffs' size. The tolerance is of probabilities, at every step.
PATHS = {
    "stag_hunt": (SQUARE, 0.025, 0.04),
    "prisoners": (SQUARE, 0.025, 0.04),
    "chicken": (SQUARE, 0.025, 0.04),
    "battle_of_the_sexes": (SQUARE, 0.025, 0.04),
    "matching_pennies": (SQUARE, 0.025, 0.04),
    "climbing": (TRIANGLE, 0.005, 0.04),
    "penalty": (TRIANGLE, 0.005, 0.04),
    "rock_paper_scissors": (TRIANGLE, 0.025, 0.04),
    "weighted_rock_paper_scissors": (TRIANGLE, 0.001, 0.04),
}


QUICK = "matching_pennies", "penalty"
MARKED = [x if x in QUICK else pytest.param(x, marks=pytest.mark.slow) for x in matrix.GAMES]


@pytest.mark.parametrize("game", MARKED)
def test_learners_follow_the_exact_gradients(game):
    starts, step, tolerance = PATHS[game]
    _, learnt, exact = learn(game, starts, steps_of(step))
    moved = np.abs(exact - exact[:, :1]).max((1, 2, 3))
    assert moved.max() > 0.3
    np.testing.assert_allclose(learnt, exact, atol=tolerance)
    at_rest = exact[:, -1].max(-1) > 0.9
    same = learnt[:, -1].argmax(-1) == exact[:, -1].argmax(-1)
    assert same[at_rest].all()


def test_the_exact_way_is_that_of_one_integration():
    """The example integrates step by step, so that it has the times of the learners."""
    start = jnp.asarray(SQUARE[0], float)
    way = example.follow(table("stag_hunt"), start[None], jnp.full(STEPS, 0.025))
    _, whole = games.follow_gradient(table("stag_hunt"), list(start), 20.0, STEPS)
    np.testing.assert_allclose(way[0, 1:, 1], jax.nn.softmax(whole[1]), atol=1e-4)


def test_from_uniform_climbing_is_never_at_the_top():
    """At 6, on the way to 7, with four seeds; and the pair of the top becomes ever rarer."""
    payoffs, learnt, exact = learn("climbing", np.zeros((4, 2, 3)), steps_of(0.01, 0.1))
    value, expected = example.pay(payoffs, learnt), example.pay(payoffs, exact)
    np.testing.assert_allclose(expected[:, -1], 5.98, atol=0.02)
    np.testing.assert_allclose(value[:, -1], 5.98, atol=0.05)
    assert value.max() < 7
    top = learnt[..., 0, 0] * learnt[..., 1, 0]
    assert top.max() < 0.13  # 1/9 at the start
    assert top[:, -1].max() < 1e-3


def test_one_policy_over_pairs_climbs_to_the_top():
    env = example.make("climbing")
    cfg = jaxpg.ippo.Config(num_envs=BATCH, **example.PLAIN)
    steps = jnp.asarray(steps_of(0.02), float)
    learnt = example.learn(
        jaxpg.ippo, cfg, example.make_joint(env), np.zeros((4, 1, 9)), steps, KEY
    )
    exact = example.follow(table("climbing")[:1].reshape(1, -1), np.zeros((4, 1, 9)), steps)
    value = np.asarray(learnt[:, :, 0] @ table("climbing")[0].ravel())
    assert value[:, -1].min() > 10.5
    assert learnt[:, -1, 0, 0].min() > 0.9
    np.testing.assert_allclose(learnt, exact, atol=0.08)


def test_the_stag_is_hunted_from_one_side_of_the_border_alone():
    """The border is p + q = 1."""
    chances = [(0.25, 0.65), (0.35, 0.75), (0.75, 0.15), (0.85, 0.25)]
    payoffs, learnt, _ = learn("stag_hunt", example.starts_at(*chances), steps_of(0.05))
    assert example.pay(payoffs, learnt)[:, -1].round().tolist() == [1, 4, 1, 4]
    stag = learnt[:, -1, :, 0]
    np.testing.assert_allclose(stag, np.round(stag), atol=0.05)


def test_the_penalty_scares_from_one_side_of_the_border_alone():
    """Of policies that both players share, to either side of both borders; the borders are those of
    the exact field."""
    shared = np.array([[0.45, 0.3, 0.25], [0.35, 0.4, 0.25], [0.25, 0.3, 0.45], [0.25, 0.4, 0.35]])
    starts = np.log(np.stack([shared] * 2, 1))
    payoffs, learnt, _ = learn("penalty", starts, steps_of(0.01))
    assert fields.basins(payoffs, np.exp(starts), 10.0, 500).tolist() == [0, 1, 2, 1]
    ends = learnt[:, -1].argmax(-1)
    assert ends.tolist() == [[0, 0], [1, 1], [2, 2], [1, 1]]
    np.testing.assert_allclose(example.pay(payoffs, learnt)[:, -1], [10, 2, 10, 2], atol=0.3)


def test_matching_pennies_turn_without_entropy_and_rest_with_it():
    starts = example.starts_at((0.5, 0.65), (0.65, 0.5), (0.5, 0.8), (0.2, 0.5))

    def radius(policies):
        return np.hypot(*(policies[..., 0] - 0.5).T).T

    _, turning, _ = learn("matching_pennies", starts, steps_of(0.025))
    kept = (1 / (turning[..., 0] * turning[..., 1])).sum(-1)
    np.testing.assert_allclose(kept, kept[:, :1] * np.ones(kept.shape), rtol=0.15)
    angle = np.unwrap(np.arctan2(*(turning[..., 0] - 0.5).T).T)
    assert np.abs(angle[:, -1] - angle[:, 0]).min() > 2 * np.pi
    _, resting, _ = learn("matching_pennies", starts, steps_of(0.1), 0.1)
    assert radius(resting)[:, 0].min() > 0.14
    assert radius(resting)[:, -1].max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_climbing_ends_at_7_with_either_critic(seed):
    from_uniform, at_random = example.learn_climbing(256, jax.random.key(seed))
    for name in ("independent learners", "with a central critic"):
        np.testing.assert_allclose(from_uniform[name].learnt[:, -1], 7, atol=0.05)
        assert from_uniform[name].learnt.max() < 7.01
    assert from_uniform["one policy over pairs"].learnt[:, -1].min() > 10.9
    same = at_random.learnt[:, -1].round() == at_random.exact[:, -1].round()
    assert same.mean() >= 0.8  # the others leave a saddle sooner or later
    top = (at_random.learnt[:, -1] > 10.5) == (at_random.exact[:, -1] > 10.5)
    assert top.all()


@pytest.mark.slow
@pytest.mark.parametrize("game", matrix.GAMES)
def test_learners_follow_the_exact_gradients_from_elsewhere(game):
    """From random starts, by steps half as long and batches four times as large."""
    starts, step, tolerance = PATHS[game]
    starts = np.random.default_rng(0).normal(size=starts.shape)
    own = {"key": jax.random.key(1), "batch": 4 * BATCH}
    _, learnt, exact = learn(game, starts, steps_of(step / 2), **own)
    np.testing.assert_allclose(learnt, exact, atol=tolerance)


# What is drawn.


@pytest.mark.parametrize(("game", "first", "second"), EQUILIBRIA)
def test_equilibria_are_found(game, first, second):
    found = fields.nash_equilibria(table(game))
    assert (np.abs(found - np.array([first, second])).max((1, 2)) < 1e-6).sum() == 1
    for pair in found:
        conv = games.nash_conv(table(game), list(jnp.asarray(pair, float)))
        assert abs(float(conv)) < 1e-4


def test_with_entropy_rest_points_are_those_of_the_gradient():
    """Of the stag hunt there are three at 0.3 and one at 2, in the middle."""
    for entropy_coef, count in ((0.3, 3), (2.0, 1)):
        points = fields.rest_points(table("stag_hunt"), entropy_coef)
        assert len(points) == count
        moves = fields.velocities(table("stag_hunt"), points, entropy_coef)
        np.testing.assert_allclose(moves, 0, atol=1e-5)


def test_velocities_are_differences_of_the_exact_way():
    starts = np.random.default_rng(0).normal(size=(5, 2, 3))
    policies = np.asarray(jax.nn.softmax(starts))
    with jax.enable_x64(True):
        payoffs = jnp.asarray(table("climbing"), float)
        after = []
        for start in starts:
            last, _ = games.follow_gradient(payoffs, list(start), 1e-5, 1, 0.2)
            after.append(jax.nn.softmax(jnp.stack(last)))
        found = fields.velocities(payoffs, jax.nn.softmax(starts), 0.2)
        expected = (np.stack(after) - np.asarray(jax.nn.softmax(starts))) / 1e-5
        np.testing.assert_allclose(found, expected, atol=1e-2)
    assert np.abs(found.sum(-1)).max() < 1e-6 < np.abs(policies).max()


@pytest.mark.slow
def test_what_is_drawn_is_what_was_learnt(monkeypatch):
    monkeypatch.setattr(portraits_of, "CELLS", 12)
    monkeypatch.setattr(portraits_of, "STEPS", 100)
    rng = np.random.default_rng(0)
    paths = rng.dirichlet(np.ones(2), (2, 50, 2))
    portraits = {
        "stag hunt": Portrait(table("stag_hunt"), paths, actions=("stag", "hare"), note="a note"),
        "pennies": Portrait(table("matching_pennies"), entropy_coef=0.1),
        "penalty": Portrait(table("penalty"), rng.dirichlet(np.ones(3), (1, 50, 2))),
    }
    figure = phase_portraits(portraits)
    square, pennies, triangle = figure.axes
    lines = [x for x in square.lines if len(x.get_xdata()) > 1]
    for line, path in zip(lines, paths, strict=True):
        np.testing.assert_allclose(line.get_xydata(), path[:, :, 0])
    points = {tuple(x.get_xydata()[0].round(3)) for x in square.lines if len(x.get_xdata()) == 1}
    assert {(0, 0), (1, 1), (0.5, 0.5)} <= points
    assert square.get_ylabel() == "second player: chance of stag"
    shades = square.images[0].get_array()
    assert not np.allclose(shades[0, 0], shades[-1, -1])  # both hunt neither, or both
    assert np.allclose(pennies.images[0].get_array()[..., :3], 1)
    assert len([x for x in triangle.lines if len(x.get_xdata()) > 10]) == 2
    assert {t.get_text() for t in triangle.texts} >= {"action 1", "action 2", "action 3"}
    assert len(figure.axes) == 3


def test_payoffs_are_drawn_beside_the_exact_ones():
    paths = PayoffPaths(np.arange(1, 4), np.eye(2, 3), np.ones((1, 3)))
    figure = payoffs_over_time({"a": {"x": paths}, "b": {"x": paths, "y": paths}}, levels=(7,))
    assert [len(axes.lines) for axes in figure.axes] == [4, 7]
    assert figure.axes[0].lines[1].get_ydata().tolist() == [1, 0, 0]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["x", "y", "along the exact gradient"]


@pytest.mark.parametrize(
    ("portrait", "message"),
    [
        (Portrait(np.zeros((2, 4, 4))), "payoffs of shape"),
        (Portrait(matrix.GAMES["climbing"]), "where the game is symmetric"),
        (Portrait(matrix.GAMES["penalty"], entropy_coef=0.1), "allowed is 0 for three actions"),
        (Portrait(matrix.GAMES["chicken"], np.zeros((3, 2, 2))), r"paths of shape \(3, 2, 2\)"),
        (Portrait(matrix.GAMES["chicken"], actions=("a",)), "allowed are 2 names"),
    ],
)
def test_what_cannot_be_drawn_is_refused(portrait, message):
    with pytest.raises(ValueError, match=message):
        phase_portraits({"game": portrait})


def test_no_panel_and_a_wrong_length_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        phase_portraits({})
    with pytest.raises(ValueError, match="at least one"):
        payoffs_over_time({})
    with pytest.raises(ValueError, match=r"learnt of shape \(1, 2\), allowed is \[S, 3\]"):
        payoffs_over_time({"a": {"x": PayoffPaths(np.ones(3), np.ones((1, 2)))}})
