"""Policies in worlds with other parameters than those of training: `jaxpg.robustness` and the
command, beside returns that are known exactly."""

import csv
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg import cli
from jaxpg.core import env as E
from jaxpg.core.run import Result
from jaxpg.envs import worlds
from jaxpg.envs.lqr import Params, expected_cost
from jaxpg.experiment.analysis import robustness as R
from jaxpg.experiment.figures import robustness_figure
from jaxpg.experiment.robustness import _axis

KEY = jax.random.key(0)
CFG = jaxpg.reinforce.Config(num_envs=2, hidden=(), baseline="none", num_steps=6)
LQR = functools.partial(jaxpg.make, "ScalarLQR-jaxpg", max_steps_in_episode=6)
DRAWN = jaxpg.randomized(LQR(), a=(0.5, 1.5), r=[1.0, 2.0])
GRID = {"a": np.array([0.5, 0.9, 1.4]), "q": np.array([1.0, 3.0])}


def learnt(gain, env, seeds=None):
    """A state whose policy is u = -gain x; gains [seeds] of several."""
    init = lambda key: jaxpg.reinforce.init(CFG, env, key)  # noqa: E731
    keys = KEY if seeds is None else jax.random.split(KEY, seeds)
    state = (init if seeds is None else jax.vmap(init))(keys)
    actor = state.actor["params"]["actor"]
    kernel = -jnp.asarray(gain, float).reshape(actor["kernel"].shape)
    own = {**state.actor["params"], "actor": {**actor, "kernel": kernel}}
    return state._replace(actor={"params": own})


def exact(gain, names, *values, **rest):
    """Returns of the gain in worlds, each a value of each name."""
    rows = [Params(max_steps_in_episode=6, **rest, **dict(zip(names, x, strict=True)))
            for x in zip(*values, strict=True)]  # fmt: skip
    return np.array([-expected_cost(gain, p.a, p) for p in rows])


def test_returns_over_a_grid_are_the_exact_ones():
    """Of three seeds, where training draws `a` and `r`: `a` is that of the grid, `q` was not
    drawn, and `r` is the nominal one."""
    gains = [0.2, 0.7, 1.1]
    found = R.measure(jaxpg.reinforce, CFG, DRAWN, learnt(gains, DRAWN, 3), KEY, GRID, episodes=4)
    assert found.returns.shape == (3, 3, 2, 4)
    assert found.nominal == {"a": 1.0, "q": 1.0}
    assert found.trained == {"a": (0.5, 1.5)}
    a, q = (x.ravel() for x in np.meshgrid(*GRID.values(), indexing="ij"))
    for seed, gain in enumerate(gains):
        wanted = exact(gain, "aq", a, q).reshape(3, 2, 1)
        np.testing.assert_allclose(found.returns[seed], np.tile(wanted, 4), rtol=1e-5)
        np.testing.assert_allclose(
            found.nominal_returns[seed], exact(gain, "a", [1.0]).repeat(4), rtol=1e-5
        )


def test_one_seed_and_blocks_that_are_not_full(monkeypatch):
    """Of five worlds two are played side by side, and a filling one is left out again."""
    monkeypatch.setattr(R, "LANES", 4)
    env, grid = LQR(r=2.0), {"a": np.linspace(0, 1.6, 5)[::-1]}
    found = R.measure(jaxpg.reinforce, CFG, env, learnt(0.5, env), KEY, grid, episodes=2)
    wanted = exact(0.5, "a", np.linspace(0, 1.6, 5), r=2.0)
    np.testing.assert_allclose(found.grid["a"], np.linspace(0, 1.6, 5))
    np.testing.assert_allclose(found.returns[0, :, 0], wanted, rtol=1e-5)


def test_a_world_is_the_environment_with_these_parameters():
    """What follows from a parameter follows it, where it is drawn and where it is not; and a step
    of the world is one of the environment that was made so."""
    plain = jaxpg.make("CartPole-v1")
    for drawn in (plain, jaxpg.randomized(plain, gravity=(8.0, 12.0))):
        world = worlds.fix_params(drawn, {"masspole": 0.4, "length": 0.8})
        made = jaxpg.make("CartPole-v1", masspole=0.4, length=0.8)
        for name in ("masspole", "length", "total_mass", "polemass_length", "gravity"):
            assert getattr(world.params, name, 9.8) == pytest.approx(getattr(made.params, name))
    drawn = jaxpg.randomized(plain, masspole=(0.1, 0.3), length=[0.5, 0.7])
    world = worlds.fix_params(drawn, {"masspole": 0.4, "length": 0.8, "masscart": 2.0})
    made = jaxpg.make("CartPole-v1", masspole=0.4, length=0.8, masscart=2.0)
    state = E.reset(world, KEY, 3)
    step = lambda env, inner: env.core.step_env(KEY, inner, 1, env.params)[0]  # noqa: E731
    for i in range(3):
        inner = jax.tree.map(lambda x, i=i: x[i], state.inner)
        np.testing.assert_allclose(step(world, inner), step(made, inner.inner), rtol=1e-6)


def test_nominal_values_and_ranges():
    env = jaxpg.randomized(jaxpg.make("CartPole-v1"), gravity=(8.0, 12.0), masspole=[0.2, 0.1])
    assert worlds.drawn_ranges(env) == {"gravity": (8.0, 12.0), "masspole": (0.1, 0.2)}
    assert worlds.nominal(env, "gravity") == 9.8
    assert worlds.drawn_ranges(LQR()) == {}


@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
def test_the_cvar_of_a_grid_is_that_of_a_loop(share):
    means = np.random.default_rng(0).normal(size=(2, 13))
    for row, found in zip(means, R.conditional_value(means, share), strict=True):
        left, total = share * 13, 0.0
        for x in sorted(row):
            total += min(left, 1) * x
            left -= min(left, 1)
        np.testing.assert_allclose(found, total / (share * 13))


def robust(name="one", seeds=2, grid=GRID, trained=(), nominal=1.0):
    rng = np.random.default_rng(len(name))
    shape = [len(x) for x in grid.values()]
    return R.Robustness(
        name, grid, rng.normal(size=(seeds, *shape, 4)), dict.fromkeys(grid, nominal),
        rng.normal(size=(seeds, 4)), dict.fromkeys(trained, (0.5, 1.5)),
    )  # fmt: skip


def test_sums_over_the_grid_are_of_each_seed():
    found = robust()
    means, rows = found.returns.mean(-1), R.summarize(found, 0.5)
    np.testing.assert_allclose(rows["nominal"], found.nominal_returns.mean(-1))
    np.testing.assert_allclose(rows["mean"], means.mean((1, 2)))
    np.testing.assert_allclose(rows["worst"], means.min((1, 2)))
    np.testing.assert_allclose(rows["CVaR 50%"], np.sort(means.reshape(2, 6))[:, :3].mean(1))


def test_maps_have_one_scale_marks_and_the_range_of_training():
    several = [robust("plain"), robust("drawn", trained=("a",)), robust("both", trained=("a", "q"))]
    figure = robustness_figure(several)
    maps = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in maps] == ["plain", "drawn", "both"]
    limits = {axes.collections[0].get_clim() for axes in maps}
    means = np.stack([x.returns.mean((0, -1)) for x in several])
    assert limits == {(means.min(), means.max())}
    drawn = maps[0].collections[0].get_array().reshape(2, 3)
    np.testing.assert_allclose(drawn, several[0].returns.mean((0, -1)).T)
    marks = [[line.get_xydata().tolist() for line in axes.lines] for axes in maps]
    assert marks[0] == [[[1.0, 1.0]]] * 2
    assert marks[1][:2] == [[[0.5, 1.0], [1.5, 1.0]]] * 2
    assert len(marks[2][0]) == 5
    with pytest.raises(ValueError, match="its grid is another one"):
        robustness_figure([robust(), robust(grid={"a": GRID["a"]})])


def test_lines_over_one_parameter():
    grid = {"a": np.geomspace(0.1, 10, 4)}
    figure = robustness_figure([robust("x", grid=grid), robust("y", grid=grid, trained=("a",))])
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert [len(line.get_xdata()) for line in axes.lines] == [4, 2, 4, 2, 2]
    np.testing.assert_allclose(axes.lines[4].get_xdata(), (0.5, 1.5))


def test_ranges_and_values():
    np.testing.assert_allclose(_axis("a", (1, 3), 3), [1, 2, 3])
    np.testing.assert_allclose(_axis("a", (0.1, 10, "log"), 3), [0.1, 1, 10])
    np.testing.assert_allclose(_axis("a", [3, 1], 20), [3, 1])
    cart = jaxpg.make("CartPole-v1")
    limits = R.settle_axis(cart, "max_steps_in_episode", np.linspace(1, 3, 9))
    assert limits.tolist() == [1, 2, 3]


CART = Result(jaxpg.reinforce, CFG, jaxpg.make("CartPole-v1"), (), {}, 1, 1, "done", 0.0)
FLIP = CART._replace(env=jaxpg.make("BitFlip-jaxpg", n=5))


@pytest.mark.parametrize(
    ("runs", "params", "words"),
    [
        ([CART], {"lenght": (0.1, 1.0)}, "parameter 'lenght': did you mean 'length'"),
        ([CART], {"length": (1.0, 0.1)}, "length=.*low < high"),
        ([CART], {"length": (0.0, 1.0, "log")}, "length=.*numbers > 0"),
        ([CART], {"length": (0.0, "x")}, "length=.*finite numbers"),
        ([CART], {"length": []}, "length=.*finite numbers"),
        ([CART], {"length": (0.1, float("nan"))}, "length=.*finite numbers"),
        ([CART], {"total_mass": (1.0, 2.0)}, "total_mass: it follows from others.*masspole"),
        ([CART], {"max_steps_in_episode": (0, 9)}, "max_steps_in_episode=0: allowed is an integer"),
        ([CART], dict.fromkeys("abc", (0, 1)), "a, b, c; allowed are one or two"),
        ([CART], {}, "none; allowed are one or two"),
        ([FLIP], {"n": (3, 5)}, "n: it is an argument of the constructor"),
        ([CART._replace(env=LQR())], {"q": (-1.0, 1.0)}, "q=-1.0: allowed is a number >= 0"),
        ([CART._replace(env=DRAWN)], {"r": (-1.0, 1.0)}, "r_choices.*allowed is a number >= 0"),
        ([CART, FLIP], {"length": (0.1, 1.0)}, "runs of CartPole-v1, BitFlip-jaxpg"),
        ([], {"length": (0.1, 1.0)}, "runs=.*in a list"),
    ],
)
def test_what_is_refused(runs, params, words):
    with pytest.raises(ValueError, match=words):
        jaxpg.robustness(runs, params)


def test_an_array_is_no_parameter_of_one_number():
    env = jaxpg.make("PointHazards-jaxpg")
    array = E.Env({"a": np.ones(2), "b": True, "c": 1.0}, env.core)
    for name in "ab":
        with pytest.raises(ValueError, match=f"{name}: it is .*allowed is a parameter of one num"):
            worlds.require_parameter(array, name)
    worlds.require_parameter(array, "c")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs: one of two seeds in the plain environment, one of a single seed that draws."""
    folder = tmp_path_factory.mktemp("runs")
    options = {"total_steps": 12, "evaluations": 0}
    keys = jax.random.split(KEY, 2)
    jaxpg.run(jaxpg.reinforce, CFG, LQR(), keys, out=folder / "plain", **options)
    jaxpg.run(jaxpg.reinforce, CFG, DRAWN, KEY, out=folder / "drawn", **options)
    return folder


def test_the_command_writes_a_picture_a_table_and_sums(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "map.png"
    words = ["robustness", *map(str, (folders / "plain", folders / "drawn"))]
    words += ["--param", "a=0.5:1.5", "q=1,2", "--points", "3", "--episodes", "2"]
    assert cli.main([*words, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "2 greedy episodes over 3 x 2 points" in text
    for word in ("plain, 2 seeds", "drawn", "nominal", "mean", "worst", "CVaR 10%"):
        assert word in text
    assert out.read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(out.with_suffix(".csv").open()))
    assert len(rows) == 3 * 2 * 3  # worlds, of two seeds and one
    assert [*rows[0]] == ["run", "a", "q", "seed", "mean", "std"]
    result = jaxpg.load(folders / "drawn")
    gain = -float(result.state.actor["params"]["actor"]["kernel"][0, 0])
    bias = float(result.state.actor["params"]["actor"]["bias"][0])
    assert abs(bias) < 0.01
    for row in rows[-6:]:
        wanted = exact(gain, "aq", [float(row["a"])], [float(row["q"])])[0]
        np.testing.assert_allclose(float(row["mean"]), wanted, rtol=0.05)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "no RUN is given"),
        ("x", "none is given; allowed are one or two"),
        ("x --param a", "param='a': allowed is NAME=LOW:HIGH"),
        ("x --param a=1:b", "param='a=1:b': allowed is NAME=LOW:HIGH"),
        ("x --param a=1:2 a=3:4", "a is given twice"),
        ("x --param a=1:2 --param b=1:2 c=1:2", "a, b, c; allowed are one or two"),
        ("x --param a=1:2 --points 1", "points=1: allowed is an integer >= 2"),
        ("x --param a=1:2 --episodes 0", "episodes=0: allowed is an integer >= 1"),
        ("x --param a=1:2 --seed -1", "seed=-1"),
        ("x --param a=1:2 --out x.txt", "out='x.txt'"),
        ("x --param a=1:2", "x: found no such folder"),
    ],
)
def test_bad_words_are_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["robustness", *words.split()]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err
