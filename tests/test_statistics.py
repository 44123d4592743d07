"""Statistics of a few runs against definitions, enumeration, scipy, and a simulation."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from jaxpg.experiment.analysis import statistics as S
from jaxpg.experiment.analysis.bootstrap import METHODS, SLICE

NAN, INF = np.nan, np.inf
PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)
FIXED = np.random.default_rng(2021).lognormal(size=(5, 10))  # [tasks, runs]
SCORES = arrays(
    float, st.tuples(st.integers(1, 4), st.integers(2, 7)), elements=st.integers(-1000, 1000)
)


def close(actual, expected, rtol=1e-12, atol=1e-12):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def by_hand(scores) -> float:
    """The interquartile mean: one by one, the smallest and largest quarters are crossed out."""
    left = sorted(float(x) for row in np.atleast_2d(scores) for x in row)
    quarter = 0
    while (quarter + 1) * 4 <= np.size(scores):
        left.remove(max(left))
        left.remove(min(left))
        quarter += 1
    return sum(left) / len(left)


def loop(statistic, *scores, resamples, seed=0):
    """A stratified bootstrap in plain loops, by the draws that `interval` makes."""
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(len(x[0]), size=(resamples, len(x), len(x[0]))) for x in scores]
    values, pairs = [], list(zip(scores, drawn, strict=True))
    for b in range(resamples):
        again = [[[x[t][i] for i in d[b, t]] for t in range(len(x))] for x, d in pairs]
        values.append(statistic(*again))
    return drawn, np.array(values)


@pytest.mark.parametrize("runs", range(1, 14))
@pytest.mark.parametrize("tasks", [1, 3])
def test_the_iqm_is_the_mean_of_the_middle(tasks, runs):
    scores = np.random.default_rng(runs).normal(size=(tasks, runs))
    close(S.iqm(scores), by_hand(scores))
    close(S.iqm(scores), stats.trim_mean(scores, 0.25, axis=None))
    close(S.iqm(scores[0]), by_hand(scores[0]))


def test_statistics_by_hand():
    scores = [[0.0, 1, 2, 3, 40], [-4, 0, 0, 0, 0.5], [1, 1, 1, 1, 3.5]]
    means = [9.2, -0.7, 1.5]
    close(S.mean(scores), 10 / 3)
    close(S.median(scores), 1.5)
    close(S.median(scores[0]), means[0])  # of one task it is the mean
    close(S.iqm(scores), (0 + 0 + 0.5 + 1 + 1 + 1 + 1 + 1 + 2) / 9)
    close(S.optimality_gap(scores), (1 + 5 + 3 + 0.5) / 15)
    close(S.optimality_gap(scores, target=3.0), (3 + 2 + 1 + 7 + 9 + 2.5 + 8) / 15)


@pytest.mark.parametrize("statistic", [S.iqm, S.mean, S.median, S.optimality_gap])
def test_statistics_reduce_the_last_two_axes(statistic):
    scores = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    expected = [[statistic(scores[i, j]) for j in range(3)] for i in range(2)]
    close(statistic(scores), expected)


@PROPERTY
@given(SCORES, st.integers(-50, 50), st.integers(1, 20), st.randoms(use_true_random=False))
@pytest.mark.parametrize("method", METHODS)
def test_shift_scale_and_order(method, scores, shift, scale, random):
    for statistic in (S.iqm, S.mean, S.median):
        close(statistic(scores * scale + shift), statistic(scores) * scale + shift, atol=1e-9)
        runs, tasks = ([*range(n)] for n in scores.T.shape)
        random.shuffle(runs)
        random.shuffle(tasks)
        close(statistic(scores[tasks][:, runs]), statistic(scores), atol=1e-9)
    ends = np.array(S.interval(S.iqm, scores, resamples=200, method=method))
    moved = S.interval(S.iqm, scores * scale + shift, resamples=200, method=method)
    close(moved, ends * scale + shift, rtol=1e-6, atol=1e-6)
    low, high = S.interval(S.iqm, -scores, resamples=200, method=method)
    close((-high, -low), ends, rtol=1e-6, atol=1e-6)  # no end is favoured
    if method != "t":
        assert scores.min() - 1e-9 <= ends[0] <= ends[1] <= scores.max() + 1e-9


def test_the_percentile_interval_equals_a_loop():
    for scores in (FIXED, FIXED[:1]):
        _, values = loop(by_hand, scores, resamples=1500)  # more than a slice
        ends = S.interval(S.iqm, scores, resamples=1500, method="percentile")
        close(ends, np.percentile(values, (2.5, 97.5)))
        ends = S.interval(S.iqm, scores, resamples=1500, method="percentile", confidence=0.8)
        close(ends, np.percentile(values, (10, 90)))
    assert SLICE < 1500


def difference(x, y):
    return by_hand(x) - by_hand(y)


@pytest.mark.parametrize("several", [False, True])
def test_the_corrections_equal_their_equations(several):
    """Student's t and the inflated variance, from regressing the values on the counts in a loop."""
    scores = [FIXED, FIXED[:, :4] ** 2] if several else [FIXED]
    by_loop = difference if several else by_hand
    statistic = (lambda x, y: S.iqm(x) - S.iqm(y)) if several else S.iqm
    drawn, values = loop(by_loop, *scores, resamples=400, seed=7)
    variance, inflated, below = 0.0, 0.0, 0.0
    for x, d in zip(scores, drawn, strict=True):
        runs = len(x[0])
        for task in range(len(x)):
            counts = [(d[:, task] == run).sum(1) for run in range(runs)]
            part = sum(np.cov(c, values, bias=True)[0, 1] ** 2 for c in counts)
            variance += part
            inflated += part * runs / (runs - 1)
            below += (part * runs / (runs - 1)) ** 2 / (runs - 1)
    t = stats.t(inflated**2 / below).ppf(0.975) * np.sqrt(inflated / variance)
    middle = by_loop(*scores)
    ends = S.interval(statistic, *scores, resamples=400, seed=7, method="t")
    close(ends, (middle - t * values.std(), middle + t * values.std()), 1e-9)
    tail = stats.norm.cdf(-t)
    ends = S.interval(statistic, *scores, resamples=400, seed=7)
    close(ends, np.quantile(values, (tail, 1 - tail)), 1e-9)


def test_of_one_task_the_corrections_are_closed_forms():
    runs, mean = FIXED[0], FIXED[0].mean()
    half = stats.t(9).ppf(0.975) * runs.std(ddof=1) / np.sqrt(10)  # Student's own interval
    low, high = S.interval(S.mean, runs, method="t", resamples=200_000)
    close((low, high), (mean - half, mean + half), rtol=0.01)
    outer = 1 - 2 * stats.norm.cdf(-stats.t(9).ppf(0.975) * np.sqrt(10 / 9))
    expanded = S.interval(S.mean, runs)
    close(expanded, S.interval(S.mean, runs, method="percentile", confidence=outer))


@pytest.mark.parametrize("runs", [5, 10])
def test_the_percentile_interval_is_scipys(runs):
    scores = FIXED[1, :runs]
    theirs = stats.bootstrap(
        (scores,),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        n_resamples=100_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    ours = S.interval(S.iqm, scores, method="percentile", resamples=100_000)
    close(ours, theirs, rtol=0, atol=0.02 * np.ptp(theirs))


def test_seeds_and_resamples():
    assert S.interval(S.iqm, FIXED) == S.interval(S.iqm, FIXED)
    other = S.interval(S.iqm, FIXED, seed=1)
    assert other != S.interval(S.iqm, FIXED)
    close(other, S.interval(S.iqm, FIXED), rtol=0.03)
    assert S.interval(S.iqm, np.full((2, 3), 500.0)) == (500, 500)


COUNT = 2000
DISTRIBUTIONS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "lognormal": lambda rng, shape: rng.lognormal(size=shape),
}


@pytest.mark.parametrize(
    ("tasks", "runs", "name"),
    [
        pytest.param(*case, name, marks=[] if case in ((1, 10), (5, 5)) else pytest.mark.slow)
        for case in ((1, 5), (1, 8), (1, 10), (1, 20), (5, 5), (5, 10))
        for name in DISTRIBUTIONS
    ],
)
def test_the_interval_covers(name, tasks, runs):
    """Between 92 and 98 % of samples give an interval that holds the distribution's IQM."""
    rng = np.random.default_rng(11)
    true = S.iqm(DISTRIBUTIONS[name](rng, (1, 1_000_000)))
    samples = DISTRIBUTIONS[name](rng, (COUNT, tasks, runs))
    rows = np.arange(tasks)[:, None]

    def of_all(places):  # the same draws serve all the samples, as with a seed they do
        again = (s[rows, places.astype(int)] for s in samples)
        return np.stack([S.iqm(x) for x in again], -1)

    places = np.tile(np.arange(runs), (tasks, 1))
    low, high = S.interval(of_all, places, resamples=1000)
    close((low[3], high[3]), S.interval(S.iqm, samples[3], resamples=1000), 1e-9)
    assert 0.92 <= np.mean((low <= true) & (true <= high)) <= 0.98


def test_a_profile_is_counted():
    thresholds = [0.0, 0.5, 1.0, 1.5, 100.0]
    scores = np.array([[0, 1, 2, 1], [1.5, 1.5, 0.2, 3]])
    profile = S.performance_profile(scores, thresholds, resamples=300)
    close(profile.value, [7 / 8, 6 / 8, 4 / 8, 2 / 8, 0])  # above, not at
    for k, threshold in enumerate(thresholds):
        one = S.interval(lambda x, t=threshold: (x > t).mean((-2, -1)), scores, resamples=300)
        close((profile.low[k], profile.high[k]), one)
    assert (profile.low <= profile.value).all()
    assert (profile.value <= profile.high).all()


def test_improvement_is_mann_and_whitneys():
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 5, (3, 6)), rng.integers(0, 5, (3, 4))
    u = [stats.mannwhitneyu(a, b).statistic / 24 for a, b in zip(x, y, strict=True)]
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for task in range(3)
        for a, b in itertools.product(x[task], y[task])
    ]
    better = S.probability_of_improvement(x, y)
    assert 0.5 in pairs
    close(better.value, np.mean(u))
    close(better.value, np.mean(pairs))
    worse = S.probability_of_improvement(y, x)
    close(worse.value, 1 - better.value)
    close((worse.low, worse.high), (1 - better.high, 1 - better.low), rtol=0, atol=0.02)
    assert S.probability_of_improvement(x, x).value == 0.5


def test_the_improvements_interval_equals_a_loop():
    def wins(x, y):
        return np.mean([stats.mannwhitneyu(*xy).statistic / 24 for xy in zip(x, y, strict=True)])

    x, y = FIXED[:2, :6], FIXED[2:4, :4]
    _, values = loop(wins, x, y, resamples=150)
    options = {"resamples": 150, "method": "percentile"}
    estimate = S.probability_of_improvement(x, y, **options)
    close(estimate[1:], np.percentile(values, (2.5, 97.5)))


def test_steps_to_a_threshold():
    values = [[0, 3, 1, 9], [NAN, NAN, 3, NAN], [9, 9, 9, 9], [2, 2.9, NAN, NAN], [NAN] * 4]
    assert S.steps_to([10, 20, 30, 40], values, 3).tolist() == [20, 30, 10, INF, INF]
    assert S.steps_to([10, 20], [0, 3], 3).tolist() == [20]


def test_sample_efficiency_counts_the_unfinished():
    reached = S.sample_efficiency([300, 100, INF, 200, 400])
    assert reached.median.value == 300
    assert reached.median.high == INF
    assert reached.median.low == 100
    assert reached.share.value == 0.8
    # Wilson's score interval, written out
    n, p, z = 5, 0.8, stats.norm.ppf(0.975)
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    close(reached.share[1:], np.array([middle - half, middle + half]) / (1 + z**2 / n))
    less = S.sample_efficiency([300, 100, INF, 200, 400], confidence=0.5)
    assert reached.share.low < less.share.low < less.share.high < reached.share.high
    assert S.sample_efficiency([INF, 5, INF, INF]).median.value == INF
    assert S.sample_efficiency([INF, 5, 7, INF]).median.value == INF  # between 7 and never
    nobody = S.sample_efficiency([INF] * 4)
    assert nobody.median == (INF, INF, INF)
    assert nobody.share[:2] == (0, 0)
    assert 0 < nobody.share.high < 1
    assert S.sample_efficiency([1, 2, 3], method="t").median.high == 3


def test_the_median_of_steps_is_only_an_order():
    steps = np.random.default_rng(0).permutation(20) + 1.0
    few, many = (S.sample_efficiency(x).median for x in (steps, steps**3))
    close(np.array(few[1:]) ** 3, many[1:])
    low, high = S.interval(lambda x: np.median(x, -1).mean(-1), np.arange(10.0))
    assert low % 1 == high % 1 == 0.5  # between two runs: outwards
    ten = S.sample_efficiency(np.arange(10) ** 2).median
    assert ten[1:] == ((low - 0.5) ** 2, (high + 0.5) ** 2)


def test_normalization_is_per_task():
    scores = [[0.0, 5, NAN], [200, 300, 400]]
    expected = [[0, 0.5, NAN], [0, 0.5, 1]]
    close(S.normalize(scores, [0, 200], [10, 400]), expected)
    close(S.normalize(scores[1], 200, 400), expected[1:])


def test_a_diverged_run_counts_as_what_is_said():
    scores = [[1.0, 2, NAN, 4], [INF, 2, 3, 4]]
    filled = np.array([[1.0, 2, 0, 4], [0, 2, 3, 4]])
    for f in (S.iqm, S.mean, S.median, S.optimality_gap):
        with pytest.raises(ValueError, match=r"scores: 2 of 8 are not finite .* diverged=\.\.\."):
            f(scores)
        close(f(scores, diverged=0.0), f(filled))
    per_task = np.array([[1.0, 2, -1, 4], [-2, 2, 3, 4]])
    close(S.mean(scores, diverged=[-1, -2]), per_task.mean())
    assert S.interval(S.iqm, scores, diverged=0) == S.interval(S.iqm, filled)
    ours = S.performance_profile(scores, [0.5, 2.5], diverged=0)
    close(np.array(ours), np.array(S.performance_profile(filled, [0.5, 2.5])))
    pair = S.probability_of_improvement(scores, scores[::-1], diverged=0)
    assert pair == S.probability_of_improvement(filled, filled[::-1])
    assert S.compare({"a": scores}, diverged=0).equals(S.compare({"a": filled}))
    assert S.improvements({"a": scores, "b": filled}, diverged=0).probability[0] == 0.5


def test_a_table_of_algorithms():
    scores = {"ppo": FIXED, "a2c": FIXED[:, :6] / 2, "one": FIXED[:, :1]}
    table = S.compare(scores, target=2.0, confidence=0.9)
    assert table.index.tolist() == ["ppo", "a2c", "one"]
    assert table.index.name == "name"
    assert table.runs.tolist() == [10, 6, 1]
    for name in ("ppo", "a2c"):
        x = scores[name]
        expected = [S.mean(x), S.median(x), S.iqm(x), *S.interval(S.iqm, x, confidence=0.9)]
        close(table.loc[name].tolist()[1:], [*expected, S.optimality_gap(x, 2.0)])
    assert table.loc["one", ["low", "high"]].isna().all()
    pairs = S.improvements({"a": FIXED, "b": FIXED / 2, "c": -FIXED})
    assert pairs[["x", "y"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    for _, row in pairs.iterrows():
        of = {"a": FIXED, "b": FIXED / 2, "c": -FIXED}
        expected = S.probability_of_improvement(of[row.x], of[row.y])
        close(row[["probability", "low", "high"]].tolist(), expected)


ERRORS = {
    r"scores: of shape \(1, 1\)": lambda: S.interval(S.iqm, [1.0]),
    r"scores: of shape \(2, 2, 2\)": lambda: S.interval(S.iqm, np.ones((2, 2, 2))),
    r"scores: of shape \(1, 0\)": lambda: S.iqm([]),
    r"confidence=1: allowed is a number between 0 and 1": lambda: S.interval(
        S.iqm, FIXED, confidence=1
    ),
    r"resamples=10: allowed is an integer >= 100": lambda: S.interval(S.iqm, FIXED, resamples=10),
    r"seed=-1: allowed is an integer >= 0": lambda: S.interval(S.iqm, FIXED, seed=-1),
    r"unknown method 'expand': did you mean 'expanded'": lambda: S.interval(
        S.iqm, FIXED, method="expand"
    ),
    r"statistic=.*: gave shape \(\)": lambda: S.interval(np.mean, FIXED),
    r"target=nan: allowed is a finite number": lambda: S.optimality_gap(FIXED, NAN),
    r"low=1, high=0: allowed is low < high": lambda: S.normalize(FIXED, 1, 0),
    r"low=\[1, 2\]: allowed is a number, or one for each of 5": lambda: S.normalize(
        FIXED, [1, 2], 3
    ),
    r"diverged=nan: allowed is a finite number": lambda: S.mean([NAN, 1], diverged=NAN),
    r"thresholds=.*nan": lambda: S.performance_profile(FIXED, [NAN]),
    r"y: has 4 tasks, allowed is as many as x, 5": lambda: S.probability_of_improvement(
        FIXED, FIXED[:4]
    ),
    r"y: 1 of 2 are not finite": lambda: S.probability_of_improvement([1, 2], [1, NAN]),
    r"steps: of shape \(2,\), allowed are increasing": lambda: S.steps_to([2, 1], [1, 1], 1),
    r"steps: of shape \(3,\)": lambda: S.steps_to([1, 2, 3], [1, 1], 1),
    r"threshold=nan": lambda: S.steps_to([1, 2], [1, 1], NAN),
    r"steps=array\(\[ ?1., nan\]\): allowed is a vector without NaN": lambda: S.sample_efficiency(
        [1, NAN]
    ),
    r"names \['a', 'b'\] of shapes \[\(5, 10\), \(4, 10\)\]": lambda: S.compare(
        {"a": FIXED, "b": FIXED[:4]}
    ),
    r"names \[\] of shapes": lambda: S.improvements({}),
    r"scores\['a'\]: 1 of 2 are not finite": lambda: S.compare({"a": [1, NAN]}),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_the_field_the_value_and_what_is_allowed(message):
    with pytest.raises(ValueError, match=message):
        ERRORS[message]()


def test_pandas_is_not_imported_until_a_table_is_asked_for():
    code = (
        "import sys; import jaxpg.experiment.analysis.statistics; sys.exit('pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
