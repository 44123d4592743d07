"""Pictures: what is drawn is what was measured, and odd data still give a picture or a name."""

import functools

import jax
import matplotlib
import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.collections import PolyCollection

import jaxpg
from jaxpg.core.run import Result
from jaxpg.core.train import initial_state
from jaxpg.experiment import figures
from jaxpg.experiment.analysis import phases, scores, statistics
from jaxpg.experiment.figures import learning_curve, style
from jaxpg.experiment.figures.actions import Played
from jaxpg.experiment.figures.sweeps import scales
from tests.experiments import NAN, grid, run_folder, sweep

WIDTHS = (style.WIDE, style.NARROW)
TEN = np.linspace(0, 450, 10)


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def said(figure):
    return " ".join(" ".join(texts(figure)).split())


@pytest.fixture(autouse=True)
def no_global_state():
    yield
    assert not _pylab_helpers.Gcf.figs  # nothing is left in pyplot


def test_phases_of_a_curve_that_is_known():
    steps = np.arange(1, 101) * 10.0
    curve = np.concatenate([np.full(20, 1.0), np.linspace(1, 101, 41)[1:], np.full(40, 101.0)])
    found = phases.find_phases(steps, curve)
    # 10 and 90 % of a rise of 100 over forty points of 2.5 each: the 4th and the 36th of them
    assert (found.rise, found.plateau) == (240, 560)
    assert (found.final, found.kept) == (101, 1)
    dip = np.concatenate([np.linspace(50, 1, 20), curve[20:]])  # worse at first: not part of it
    assert phases.find_phases(steps, dip)[:2] == (240, 560)
    assert phases.find_phases(steps, np.where(steps < 100, NAN, curve))[:2] == (240, 560)
    still = phases.find_phases(steps, steps)
    assert still.rise == 110
    assert still.plateau is None  # 90 % of the way are in the last 10 % of the steps
    half = np.where(steps > 800, 51, curve)
    assert phases.find_phases(steps, half).kept == 0.5


def test_noise_is_no_rise():
    steps = np.arange(200.0)
    for seed in range(50):
        noise = np.random.default_rng(seed).normal(size=209)
        assert phases.find_phases(steps, noise[:200]).rise is None
        smooth = np.convolve(noise, np.full(10, 0.1), "valid")  # as a mean of episodes is
        assert phases.find_phases(steps, smooth).rise is None
    assert phases.find_phases(steps, np.full(200, 3.0))[:3] == (None, None, 3)
    assert phases.find_phases(steps, np.full(200, NAN)).rise is None


def test_scales():
    log = scales.scale_for([1e-3, 1e-4, 1e-3])
    assert (log.kind, log.ticks) == ("log", [(-4, "0.0001"), (-3, "0.001")])
    near = scales.scale_for([0.9, 0.99, 0.999])
    assert near.kind == "near 1"
    assert np.allclose([p for p, _ in near.ticks], [1, 2, 3])
    assert scales.scale_for([1, 2, 5]).ticks == [(1, "1"), (2, "2"), (5, "5")]
    zero = scales.scale_for([0.0, 1e-3, 1e-2, 1e-1])
    assert zero.kind == "log"
    assert zero.ticks[0] == (-4.0, "0"), "one step to the left"
    assert zero.place(1e-2) == pytest.approx(-2)
    assert scales.scale_for([0.0, 0.9, 0.99]).kind == "near 1"
    mixed = scales.scale_for(["tanh", (64, 64), True])
    assert (mixed.kind, mixed.place((64, 64))) == ("category", 1)
    assert [label for _, label in mixed.ticks] == ["tanh", "64 x 64", "True"]
    many = scales.scale_for(np.geomspace(2e-5, 4e-2, 30).tolist())
    assert [label for _, label in many.ticks] == ["0.0001", "0.001", "0.01"]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_four_panels(tmp_path, width):
    returns = np.stack([TEN, TEN + 50])
    path = run_folder(tmp_path / "a", returns, greedy=[450, 500])
    figure = figures.training_report(path, width)
    heads = [axes.get_title("left") for axes in figure.axes]
    panels = "Return", "Losses and other metrics of learning", "Episode lengths"
    assert {*panels, "Phases of learning"} <= set(heads)
    returned = figure.axes[0]
    line = next(x for x in returned.lines if x.get_label() == "moving average")
    np.testing.assert_allclose(line.get_ydata(), np.cumsum(TEN + 25) / np.arange(1, 11))
    assert line.get_xdata().tolist() == list(range(10, 101, 10))
    dashed = next(x for x in returned.lines if x.get_label() == "solved: 475")
    assert set(dashed.get_ydata()) == {475}
    text = said(figure)
    assert "in training: means of single iterations" in text  # there is no checkpoint
    assert "Gymnasium's threshold" in text
    assert "loss/policy" in text


def test_players_of_a_game_share_strips(tmp_path):
    path = run_folder(tmp_path / "a", TEN)
    more = {"episode/return_0": 1, "episode/return_1": 2, "kl_a": 3, "kl_b": 4, "value/rest_x": 5}
    head, *rows = (path / "metrics.csv").read_text().splitlines()
    told = [",".join(map(str, more.values()))] * len(rows)
    lines = [f"{x},{y}" for x, y in zip([head, *rows], [",".join(more), *told], strict=True)]
    (path / "metrics.csv").write_text("\n".join(lines) + "\n")
    strips = figures.training_report(path).axes[1].child_axes
    found = {
        x.texts[0].get_text(): [(y.get_label(), y.get_ydata()[0]) for y in x.lines] for x in strips
    }
    assert found["episode/return"] == [("0", 1), ("1", 2)]
    assert found["kl"] == [("a", 3), ("b", 4)]
    assert set(found) == {"episode/return", "kl", "loss/policy", "value/rest_x"}


def test_the_share_of_seeds_that_solved_it(tmp_path):
    returns = np.full((4, 40), 500.0)
    returns[:2, :20] = 0  # two seeds come to it late; the mean of 20 episodes is 475 19 later
    figure = figures.training_report(run_folder(tmp_path / "a", returns))
    right = next(a for a in figure.axes if a.get_ylabel().startswith("share of seeds"))
    share = right.lines[0].get_ydata()
    assert share.tolist() == [0.5] * 38 + [1.0] * 2


def test_lengths_under_the_last_policy(tmp_path):
    path = run_folder(tmp_path / "a", TEN)
    lengths = {"greedy": np.array([100] * 3 + [500]), "sampled": np.array([20, 30, 40, 50])}
    figure = figures.training_report(path, played=Played(lengths, {}, None))
    (axes,) = (a for a in figure.axes if a.get_title("left") == "Episode lengths")
    assert "4 whole episodes each" in said(figure)
    assert "greedy, median 100" in said(figure)
    heights = [p.get_height() for p in axes.patches if hasattr(p, "get_height")]
    assert np.isclose(sum(heights), 1)
    assert np.isclose(max(heights), 0.75)


ODD = {
    "one seed": lambda p: run_folder(p, TEN),
    "no episode has ended": lambda p: run_folder(p, np.full((2, 5), NAN)),
    "one seed without an episode": lambda p: run_folder(p, np.stack([TEN, TEN * NAN])),
    "under way": lambda p: run_folder(p, TEN, summary=False),
    "one iteration": lambda p: run_folder(p, [[3.0]]),
    "without run.json": lambda p: run_folder(p, TEN, about=False),
    "another environment": lambda p: run_folder(p, -TEN, env="Garnet-jaxpg"),
    "nothing learnt": lambda p: run_folder(p, np.full((3, 9), 7.0), greedy=[7, 7, 7]),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ODD)
def test_odd_runs_have_a_picture(tmp_path, kind, width):
    figures.save(figures.training_report(ODD[kind](tmp_path / "a"), width), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_metrics_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=r"a/metrics\.csv: found no rows"):
        figures.training_report(tmp_path / "a")
    with pytest.raises(jaxpg.CheckpointError, match="expected the folder of a run"):
        figures.action_distribution(run_folder(tmp_path / "b", TEN, about=False))


@pytest.fixture(scope="module")
def discrete():
    """A policy of two seeds that has learnt nothing."""
    cfg = jaxpg.ppo.Config(num_envs=2, num_steps=4, hidden=(4,))
    return _untrained(jaxpg.ppo, cfg, "CartPole-v1", jax.random.split(jax.random.key(0), 2))


def _untrained(agent, cfg, name, key):
    env = jaxpg.make(name, max_steps_in_episode=30)
    begin = functools.partial(initial_state, agent, cfg, env)
    state = jax.jit(jax.vmap(begin) if key.ndim else begin)(key)
    metrics = {"episode/return": np.zeros((*key.shape, 1))}
    return Result(agent, cfg, env, state, metrics, 1, 1, "done", 1.0)


def test_actions_of_whole_episodes(discrete):
    played = figures.play(discrete)
    for kind in ("greedy", "sampled"):
        assert len(played.actions[kind]) == 2  # seeds
        assert sum(map(len, played.actions[kind])) == played.lengths[kind].sum()
        assert len(played.lengths[kind]) == 2 * 64
        assert 8 <= played.lengths[kind].min() <= played.lengths[kind].max() <= 30
    figure = figures.action_distribution(discrete, played=played)
    bars = np.array([p.get_height() for p in figure.axes[0].patches]).reshape(2, 2)
    first = np.mean([(x == 0).mean() for x in played.actions["greedy"]])
    np.testing.assert_allclose(bars[0], [first, 1 - first])
    np.testing.assert_allclose(bars.sum(1), 1)
    # CartPole gives a reward of one a step. Its policies are those of `evaluate`, its starts not.
    agent, cfg, env, state, *_ = discrete
    keys = jax.random.split(jax.random.key(1), 2)
    returns = np.asarray(jaxpg.evaluate(agent, cfg, env, state, keys, 64))
    means = played.lengths["greedy"].reshape(2, 64).mean(1)
    assert (np.abs(means - returns.mean(1)) < 5 * returns.std(1) / 8 + 0.1).all()


def test_continuous_actions_are_a_density():
    cfg = jaxpg.sac.Config(num_envs=2, num_steps=4, hidden=(4,), buffer_size=16, learning_starts=5)
    result = _untrained(jaxpg.sac, cfg, "Pendulum-v1", jax.random.key(0))
    figure = figures.action_distribution(result)
    (axes,) = figure.axes
    bars = axes.patches[:40]
    assert np.isclose(sum(p.get_height() * p.get_width() for p in bars), 1)
    assert axes.get_xlabel() == "action"
    with pytest.raises(ValueError, match="has no state"):
        figures.play(result._replace(state=None))


def test_a_heat_map_has_the_iqm_and_the_runs_of_each_cell():
    points, values = grid()
    figure = figures.heat_map(sweep(points, values), "learning_rate", "gae_lambda")
    cells = {tuple(t.get_position()): t.get_text() for t in figure.axes[0].texts}
    assert cells[(0.5, 0.5)] == "20\n(n=3)"
    assert cells[(0.5, 1.5)] == "50\n(n=3)"
    # A run diverged: it counts as the worst of all, 10.
    expected = statistics.iqm([100, 110, 10])
    assert cells[(1.5, 1.5)] == f"{expected:.3g}\n(n=3)"
    assert "runs that diverged (1) count as the worst score, 10" in said(figure)
    assert figure.axes[0].get_xlabel() == "learning_rate"
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["0.5", "0.9"]


@pytest.mark.parametrize(("others", "expected"), [("best", [50, 80]), ("mean", [35, NAN])])
def test_a_dose_is_the_best_or_all_of_the_others(others, expected):
    points, values = grid()
    values[3] = [71, 72, 73]
    expected = [50, 80] if others == "best" else [35, statistics.iqm([values[2], values[3]])]
    figure = figures.heat_map(sweep(points, values), "learning_rate", others=others)
    (axes,) = figure.axes
    line = axes.lines[0]
    np.testing.assert_allclose(line.get_xdata(), [-4, -3])
    np.testing.assert_allclose(line.get_ydata(), expected)
    band = next(c for c in axes.collections if isinstance(c, PolyCollection))
    low, high = statistics.interval(
        statistics.iqm, np.atleast_2d(values[1] if others == "best" else values[:2])
    )
    drawn = band.get_paths()[0].vertices
    at_first = drawn[np.isclose(drawn[:, 0], -4), 1]
    np.testing.assert_allclose([at_first.min(), at_first.max()], [low, high])
    assert axes.get_xlabel() == "learning_rate (log scale)"
    note = "best of gae_lambda" if others == "best" else "all together: gae_lambda"
    assert note in said(figure)


def test_a_random_search_is_points():
    rng = np.random.default_rng(0)
    points = [{"learning_rate": 10**x, "gamma": 1 - 10**y} for x, y in rng.uniform(-4, -1, (20, 2))]
    values = rng.normal(size=(20, 2))
    figure = figures.heat_map(sweep(points, values), "learning_rate", "gamma")
    offsets = figure.axes[0].collections[0].get_offsets()
    assert sorted(offsets[:, 0]) == sorted(np.log10([p["learning_rate"] for p in points]))
    colours = figure.axes[0].collections[0].get_array()
    np.testing.assert_allclose(sorted(colours), sorted(values.mean(1)))


@pytest.mark.parametrize("width", WIDTHS)
def test_parallel_coordinates(width):
    points = [
        {"learning_rate": lr, "activation": a, "hidden": h}
        for lr, a, h in [(1e-4, "tanh", [64, 64]), (1e-2, "relu", [8]), (1e-3, "tanh", [8])]
    ]
    figure = figures.parallel_coordinates(sweep(points, [[1, 1], [3, 3], [2, 2]]), width)
    lines = [x for x in figure.axes[0].lines if len(x.get_xdata()) == 4]
    assert len(lines) == 3
    heights = [x.get_ydata() if width == style.WIDE else x.get_xdata() for x in lines]
    np.testing.assert_allclose(sorted(h[0] for h in heights), [0, 0.5, 1])  # by powers of ten
    assert {"64 x 64", "8", "tanh", "relu", "0.001"} <= set(texts(figure))
    assert len({x.get_color() for x in lines}) == 3


@pytest.mark.parametrize("width", WIDTHS)
def test_the_names_of_many_fields_fit(width):
    """Ten fields, as a tuning has: a curve has the number of its config, and names of axes are
    slanted where they would lie upon each other."""
    names = ["normalize_obs", "normalize_reward", "learning_rate_schedule", "gamma", "tau"]
    points = [dict.fromkeys((*names, *(f"{n}_too" for n in names)), x) for x in (1, 2)]
    found = sweep(points, [[1, 2], [3, 4]])
    figure = figures.curves(found, width=width)
    assert {"config 0  (2 runs)", "config 1  (2 runs)"} <= set(texts(figure))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert figure.bbox.x0 <= legend.get_window_extent().x0
    assert legend.get_window_extent().x1 <= figure.bbox.x1
    several = figures.parallel_coordinates(found, width)
    few = figures.parallel_coordinates(sweep([{"gamma": x} for x in (1, 2)], [[1], [2]]), width)
    slants = [{x.get_rotation() for x in f.axes[0].get_xticklabels()} for f in (several, few)]
    assert slants == ([{30.0}, {0.0}] if width == style.WIDE else [{0.0}, {0.0}])


def test_curves_are_the_iqm_of_the_runs():
    points, values = grid()
    values[3] = [101, 102, 103]
    found = sweep(points, values)
    figure = figures.curves(found, "learning_rate")
    named = {x.get_label(): x for x in figure.axes[0].lines}
    last = named["learning_rate = 0.0001  (6 runs)"].get_ydata()[-1]
    assert np.isclose(last, statistics.iqm(values[:2]))
    assert "solved: 475" in named
    each = figures.curves(found)
    assert sum("3 runs" in x.get_label() for x in each.axes[0].lines) == 4
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        figures.curves(found, "learning_rat")


def test_a_run_that_diverged_ends_at_the_worst_and_one_that_stopped_stays():
    points = [{"learning_rate": 1e-4}, {"learning_rate": 1e-3}]
    found = sweep(points, [[-10, 20], [NAN, 40]])
    measured = scores.return_curves(found, points=10)
    assert measured.steps.tolist() == list(range(100, 1001, 100))
    assert (measured.returns[1][0, 5:] == -10).all()
    found = sweep(points, [[10, 20], [30, 40]], ended=[["done"] * 2, ["target"] * 2])
    found.table = found.table[(found.table["config"] == 0) | (found.table["env_steps"] <= 500)]
    measured = scores.return_curves(found, points=10)
    assert (measured.returns[1][:, 5:] == measured.returns[1][:, [4]]).all()
    running = sweep(points, [[10, 20], [30, 40]], ended=[["done"] * 2, ["running"] * 2])
    running.table = found.table
    assert np.isnan(scores.return_curves(running, points=10).returns[1][:, 6:]).all()


COMPARED = [{"agent": "ppo"}, {"agent": "a2c"}, {"agent": "dqn"}]


def test_the_pictures_of_a_comparison():
    values = [[3.0, 4, 5, 6], [1, 2, 3, 3.5], [7, 8, 9, 9]]
    compared, what = scores.scores_by_agent(sweep(COMPARED, values, kind="comparison"))
    assert list(compared) == ["ppo", "a2c", "dqn"]  # in their order
    assert what == "greedy return at the end"
    figure = figures.profiles(compared, what)
    line = next(x for x in figure.axes[0].lines if x.get_label().startswith("ppo"))
    at = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    for threshold, share in at.items():
        assert share == np.mean(np.array(values[0]) > threshold)
    forest = figures.improvement(compared)
    labels = [t.get_text() for t in forest.axes[0].get_yticklabels()]
    assert set(labels) == {"ppo > a2c", "dqn > ppo", "dqn > a2c"}
    dots = {labels[int(x.get_ydata()[0])]: x.get_xdata()[0]
            for x in forest.axes[0].lines if x.get_marker() == "o"}  # fmt: skip
    assert dots["dqn > ppo"] == 1
    assert np.isclose(dots["ppo > a2c"], 14.5 / 16)  # of 16 pairs: one tie, one lost
    with pytest.raises(ValueError, match="allowed are two names or more"):
        figures.improvement({"ppo": np.ones((1, 3))})


def test_scores_of_several_environments_have_one_scale():
    points = [{"agent": a, "env": e} for a in ("ppo", "dqn") for e in ("CartPole-v1", "Acrobot-v1")]
    values = [[100, 500], [-500, -100], [300, 100], [-300, NAN]]
    compared, what = scores.scores_by_agent(sweep(points, values, kind="comparison"))
    np.testing.assert_allclose(compared["ppo"], [[0, 1], [0, 1]])
    np.testing.assert_allclose(compared["dqn"], [[0.5, 0], [0.5, 0]])  # diverged: the worst there
    assert "2 environments" in what


def test_efficiency_counts_those_that_never_get_there():
    steps = np.arange(1, 6) * 100.0
    curves = {"a": (steps, np.array([[0, 5, 9, 9, 9], [0, 0, 9, 9, 9]])),
              "b": (steps, np.array([[0, 0, 0, 0, 9], [0, 0, 0, 0, NAN]]))}  # fmt: skip
    figure = figures.efficiency(curves, 5)
    named = {x.get_label(): x for x in figure.axes[0].lines}
    a = named["a: 2 of 2, median 250"]
    assert a.get_xdata().tolist() == [0, 200, 300, 500]
    assert a.get_ydata().tolist() == [0, 0.5, 1, 1]
    assert named["b: 1 of 2, median never"].get_ydata().max() == 0.5


ODD_SWEEPS = {
    "one config": lambda: sweep([{"learning_rate": 1e-3}], [[1, 2]]),
    "one seed": lambda: sweep([{"learning_rate": x} for x in (1e-3, 1e-2)], [[1], [2]]),
    "all diverged": lambda: sweep([{"learning_rate": x} for x in (1e-3, 1e-2)], [[NAN] * 2] * 2),
    "all the same": lambda: sweep([{"learning_rate": x} for x in (1e-3, 1e-2)], [[5, 5]] * 2),
    "no evaluation yet": lambda: _under_way(),
}


def _under_way():
    found = sweep([{"learning_rate": x} for x in (1e-3, 1e-2)], [[1, 2], [3, 4]])
    found.evaluations = found.evaluations.iloc[:0]
    found.scores = found.scores.assign(score=NAN, ended="running")
    return found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ODD_SWEEPS)
def test_odd_sweeps_have_pictures(tmp_path, kind, width):
    found = ODD_SWEEPS[kind]()
    draw = figures.heat_map, figures.parallel_coordinates, figures.curves
    for i, f in enumerate(draw):
        more = ["learning_rate"] if f == figures.heat_map else []
        figures.save(f(found, *more, width=width), tmp_path / f"{i}.svg")
        assert "<svg" in (tmp_path / f"{i}.svg").read_text()


def test_before_there_are_evaluations_the_score_is_that_of_training():
    done = scores.final(_under_way())
    assert done.what == "return in the last 10 % of the steps"
    np.testing.assert_allclose(done.scores[1], [3, 4])


def test_a_sweep_without_rows_is_named():
    empty = sweep([], np.zeros((0, 2)))
    for f in (figures.parallel_coordinates, figures.curves):
        with pytest.raises(ValueError, match="has no rows yet: allowed is one that has begun"):
            f(empty)
    with pytest.raises(ValueError, match="unknown others 'worst'"):
        figures.heat_map(sweep(*grid()), "learning_rate", others="worst")


def test_saving(tmp_path):
    figure = learning_curve.curves([run_folder(tmp_path / "a", TEN)])
    figures.save(figure, tmp_path / "a.svg")
    first = (tmp_path / "a.svg").read_bytes()
    figures.save(figure, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_bytes() == first
    with pytest.raises(ValueError, match=r"allowed are the endings \.png, \.svg"):
        figures.save(figure, tmp_path / "a.pdf")


def test_a_result_has_the_panels_of_its_folder(tmp_path):
    returns = np.stack([TEN, TEN + 50])
    metrics = {"episode/return": returns, "episode/count": np.ones((2, 10), int)}
    cfg = jaxpg.ppo.Config(num_envs=2, num_steps=5)
    result = Result(
        jaxpg.ppo, cfg, jaxpg.make("CartPole-v1"), None, metrics, 10, 10, "done", 1.0
    )  # fmt: skip
    ours, theirs = (figures.training_report(x).axes[0].lines[2:]
                    for x in (result, run_folder(tmp_path / "a", returns)))  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.get_xydata(), b.get_xydata())


# Options on a map.


def test_a_map_of_options_has_a_colour_for_each_cell_and_a_panel_for_each_option():
    free = np.array([[True, True, False], [True, True, True]])
    choice = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.4, 0.3, 0.3], [1 / 3] * 3])
    ends = np.linspace(0, 1, 15).reshape(5, 3)
    actions = np.eye(4)[np.arange(15).reshape(5, 3) % 4]
    figure = figures.option_maps(free, choice, ends, actions, goal=4)
    first, *panels, scale = figure.axes
    assert scale.get_xlabel() == "probability that the option ends"
    image = np.asarray(first.images[0].get_array())
    for s, cell in enumerate([(0, 0), (0, 1), (1, 0)]):  # sure of it: the option's own colour
        own = [int(style.colour(s)[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        np.testing.assert_allclose(image[cell], own, atol=1e-9)
    assert (image[1, 1] > image[0, 0]).any()  # less sure: paler
    np.testing.assert_allclose(image[0, 2], 0.25)  # a wall
    for o, panel in enumerate(panels):
        shown = np.ma.filled(panel.images[0].get_array(), np.nan)
        np.testing.assert_allclose(shown[free], ends[:, o])
        assert np.isnan(shown[~free]).all()
        arrows = next(x for x in panel.collections if hasattr(x, "U"))
        best = actions[:4, o].argmax(-1)  # nothing is done at the goal
        np.testing.assert_array_equal(np.sign(arrows.U), np.array([0, 1, 0, -1])[best])
        np.testing.assert_array_equal(np.sign(arrows.V), np.array([1, 0, -1, 0])[best])


def test_options_of_another_map_are_refused():
    free = np.ones((2, 2), bool)
    with pytest.raises(ValueError, match=r"on a map of 4 free cells: allowed are \(S, O\)"):
        figures.option_maps(free, np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"\(4, 2, 3\) on a map of 4 free cells"):
        figures.option_maps(free, np.ones((4, 2)), np.ones((4, 2)), np.ones((4, 2, 3)))
