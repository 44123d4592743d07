"""Learning curves: what is drawn is what was measured."""

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

import jaxpg
from jaxpg.core.blocks import Blocks
from jaxpg.core.run import Result
from jaxpg.experiment.analysis.series import moving_mean, pointwise_interval
from jaxpg.experiment.figures import learning_curve, measured
from jaxpg.experiment.figures.learning_curve import curves
from jaxpg.experiment.figures.runs import _median

NAN = np.nan


def folder_of(path, returns, counts, greedy=None, tail=""):
    """A run folder with metrics [seeds, iterations], ten environment steps an iteration."""
    path.mkdir(parents=True)
    cell = lambda x: "" if np.isnan(x) else str(x)  # noqa: E731
    rows = ["seed,iteration,env_steps,episode/count,episode/return,loss/policy"]
    for i, (r, c) in enumerate(zip(np.transpose(returns), np.transpose(counts), strict=True), 1):
        rows += [f"{s},{i},{i * 10},{c[s]},{cell(r[s])},0.5" for s in range(len(r))]
    (path / "metrics.csv").write_text("\n".join(rows) + "\n" + tail)
    if greedy is not None:
        rows = ["seed,iteration,env_steps,greedy,greedy_std,sampled,sampled_std"]
        for i, g in enumerate(np.transpose(greedy), 1):
            rows += [f"{s},{i * 2},{i * 20},{g[s]},0.0,1.0,0.0" for s in range(len(g))]
        (path / "evaluations.csv").write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def draw(monkeypatch, tmp_path):
    """Draws, checks that a PNG came of it, and returns its axes and legend texts."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))
    )

    def draw(*runs, **more):
        path = tmp_path / "figure.png"
        learning_curve.learning_curve(runs, path, **more)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert not _pylab_helpers.Gcf.figs  # nothing is left in pyplot's global state
        (axes,) = figures[-1].axes
        return axes, [text.get_text() for text in figures[-1].legends[0].get_texts()]

    return draw


def bands(axes):
    return [c for c in axes.collections if isinstance(c, PolyCollection)]


@pytest.mark.parametrize("window", [1, 5, 1000])
def test_smoothing_is_the_mean_of_the_last_episodes(window):
    rng = np.random.default_rng(window)
    counts = rng.integers(0, 4, (3, 40)) * rng.integers(0, 2, (3, 40))
    counts[:, :2] = 0
    returns = np.where(counts > 0, rng.normal(size=counts.shape), NAN)
    smoothed = moving_mean(returns, counts, window)
    for seed, i in np.ndindex(counts.shape):
        total = episodes = 0
        for j in range(i, -1, -1):  # backwards, until there are enough
            if counts[seed, j] and episodes < window:
                total, episodes = (
                    total + returns[seed, j] * counts[seed, j],
                    episodes + counts[seed, j],
                )
        expected = total / episodes if episodes else NAN
        np.testing.assert_allclose(smoothed[seed, i], expected, rtol=1e-9, equal_nan=True)


def test_the_interval_is_of_the_mean():
    values = np.random.default_rng(0).normal(3, 2, (100, 5))
    low, high = pointwise_interval(values)
    mean, error = values.mean(0), values.std(0) / 10
    np.testing.assert_allclose(low, mean - 1.96 * error, atol=0.1)
    np.testing.assert_allclose(high, mean + 1.96 * error, atol=0.1)
    np.testing.assert_allclose(pointwise_interval(np.full((4, 2), 500.0)), 500)  # stays in bounds


def test_a_curve_is_the_mean_over_seeds_from_the_first_episodes_on(draw, tmp_path):
    returns = [[NAN, 10, 20, 30], [NAN, NAN, 40, 50]]
    counts = [[0, 1, 1, 1], [0, 0, 2, 2]]
    greedy = [[100, 200], [300, 400]]
    axes, legend = draw(folder_of(tmp_path / "ppo-Test", returns, counts, greedy), window=1)
    x, y = axes.lines[0].get_data()
    assert x.tolist() == [30, 40]
    assert y.tolist() == [30, 40]
    singles = [line.get_ydata().tolist() for line in axes.lines[1:3]]
    assert singles == [[20, 30], [40, 50]]
    points = axes.containers[0][0]
    assert points.get_xdata().tolist() == [20, 40]
    assert points.get_ydata().tolist() == [200, 300]
    assert legend == [
        "ppo-Test, mean of 2 seeds", "single seeds", "95 % interval of the mean",
        "greedy evaluation",
    ]  # fmt: skip
    assert axes.get_xlabel() == "environment steps (per seed)"
    assert axes.get_ylabel() == "return (last 1 episodes)"


def test_many_seeds_are_not_drawn_singly(draw, tmp_path):
    ones = np.ones((11, 3))
    axes, legend = draw(folder_of(tmp_path / "a", ones, ones.astype(int)))
    assert len(bands(axes)) == 1
    assert sum(line.get_linewidth() < 1 for line in axes.lines) == 0
    assert legend == ["a, mean of 11 seeds", "95 % interval of the mean"]


def test_one_seed_has_no_band(draw, tmp_path):
    ones = np.ones((1, 3))
    axes, legend = draw(folder_of(tmp_path / "a", ones, ones.astype(int)))
    assert not bands(axes)
    assert legend == ["a"]


def test_several_runs_have_colours_and_names(draw, tmp_path):
    ones = np.ones((1, 3), int)
    runs = [folder_of(tmp_path / name, ones, ones) for name in ("x/a", "y/b", "y/a")]
    axes, legend = draw(*runs[:2])
    assert legend == ["a", "b"]
    lines = [line for line in axes.lines if line.get_linewidth() == 2]
    assert len({line.get_color() for line in lines}) == 2
    assert draw(*runs)[1] == list(map(str, runs))  # two are called a


def test_steps_are_written_short(draw, tmp_path):
    path = folder_of(tmp_path / "a", np.ones((1, 2)), np.ones((1, 2), int))
    text = (path / "metrics.csv").read_text().replace(",20,", ",1000000,")
    (path / "metrics.csv").write_text(text)
    axes, _ = draw(path)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert {"0", "200k", "1M"} <= set(labels)


def test_a_result_is_drawn_like_its_folder(draw, tmp_path):
    returns = np.array([[1.0, 2, 3], [5, 6, 7]], np.float32)
    counts = np.ones((2, 3), np.int32)
    cfg = jaxpg.ppo.Config(num_envs=2, num_steps=5)
    metrics = {"episode/return": returns, "episode/count": counts}
    env = jaxpg.make("CartPole-v1")
    result = Result(jaxpg.ppo, cfg, env, None, metrics, 3, 3, "done", 1.0)
    from_result, legend = draw(result, window=1)
    from_folder, _ = draw(folder_of(tmp_path / "a", returns, counts), window=1)
    assert legend[0] == "ppo-CartPole-v1, mean of 2 seeds"
    for ours, theirs in zip(from_result.lines, from_folder.lines, strict=True):
        np.testing.assert_array_equal(ours.get_xydata(), theirs.get_xydata())


def test_rows_of_a_run_under_way_may_be_incomplete(draw, tmp_path):
    ones = np.ones((2, 3), int)
    path = folder_of(tmp_path / "a", ones, ones, tail="0,4,40,1,1.0,0.5\n1,4,4")
    axes, _ = draw(path)
    assert axes.lines[0].get_xdata().tolist() == [10, 20, 30]


@pytest.mark.parametrize("text", [None, "", "seed,iteration,env_steps\n"])
def test_a_folder_without_metrics_is_an_error(tmp_path, text):
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.csv: found no rows"):
        learning_curve.learning_curve([tmp_path], tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_a_picture_of_all_rows_is_that_of_their_blocks():
    """Of 25,000 rows blocks of three are taken, as a run of so many iterations keeps."""
    rng = np.random.default_rng(0)
    count = rng.poisson(0.5, (2, 25_000)).astype(np.int32)
    value = np.linspace(0, 100, 25_000) + rng.normal(0, 20, (2, 25_000))
    every = {"episode/count": count, "episode/return": np.where(count > 0, value, np.nan)}
    env, cfg = jaxpg.make("CartPole-v1"), jaxpg.ppo.Config()
    full = Result(jaxpg.ppo, cfg, env, None, every, 25_000, 25_000, "done", 1.0)
    blocks, per = Blocks(3), jaxpg.ppo.steps_per_iter(cfg)
    rows, last = blocks.add(every)[1], blocks.last()[1]
    kept = {name: np.concatenate([x, last[name]], -1) for name, x in rows.items()}
    short = full._replace(metrics=kept, log_every=3)
    one, other = (measured.read_run(result) for result in (full, short))
    assert one.log_every == other.log_every == 3
    assert one.steps.tolist() == other.steps.tolist()
    assert one.steps[[0, -2, -1]].tolist() == [3 * per, 24_999 * per, 25_000 * per]
    lines = [[x.get_xydata() for x in curves([run]).axes[0].get_lines()] for run in (one, other)]
    for a, b in zip(*lines, strict=True):
        np.testing.assert_array_equal(a, b)
    smooth = moving_mean(value, count, 500).mean(0)  # of all rows, at the points that are drawn
    x, y = curves([short], 500).axes[0].get_lines()[0].get_xydata().T
    np.testing.assert_allclose(y[20:], smooth[(x[20:] // per).astype(int) - 1], atol=0.3)


def test_a_median_of_counted_values_is_that_of_all():
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 50):
        values, counts = rng.normal(size=size), rng.integers(1, 9, size)
        assert _median(values, counts) == np.median(np.repeat(values, counts))
