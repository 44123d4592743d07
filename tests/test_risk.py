"""Measures of risk against normal theory, small examples by hand, and the environments."""

import jax
import numpy as np
import pytest
from rich.console import Console
from scipy import stats

import jaxpg
from jaxpg.envs.finance import almgren_chriss as ac
from jaxpg.envs.finance import baselines as eb
from jaxpg.experiment.analysis import risk
from jaxpg.experiment.figures.risk import draw_risk


def test_by_hand():
    x = np.array([-4.0, 3.0, -1.0, 2.0, 0.0, 1.0, 5.0, 6.0, 7.0, 8.0])
    assert risk.expected_shortfall(x, 0.8) == pytest.approx(2.5)  # of -4 and -1
    assert risk.expected_shortfall(x, 0.85) == pytest.approx((4 + 0.5) / 1.5)
    assert risk.value_at_risk(x, 0.5) == pytest.approx(-2.5)
    assert risk.sharpe(x) == pytest.approx(2.7 / x.std(ddof=1))
    assert risk.sharpe(np.ones(4)) == 0
    gains = np.array([[1.0, -1.0, 1.0], [-3.0, -1.0, 1.0], [2.5, 5.0, 1.0], [-1.0, -2.0, 1.0]])
    assert risk.drawdown(gains).tolist() == [3.0, 2.0, 0.0]


@pytest.mark.slow
def test_normal_gains_have_the_measures_of_theory():
    """And intervals that hold them, and that shrink with the root of the episodes."""
    mean, std, z = 1.0, 2.0, stats.norm.ppf(0.95)
    theory = {
        "mean": mean, "std": std, "Sharpe": mean / std, "VaR 95%": z * std - mean,
        "CVaR 95%": std * stats.norm.pdf(z) / 0.05 - mean,
    }  # fmt: skip
    widths = []
    for episodes in (400, 6400):
        rng = np.random.default_rng(1)
        steps = rng.normal(mean / 4, std / 2, (4, episodes))
        found = risk.measures(steps, confidence=0.999, resamples=2000)
        for name, value in theory.items():
            assert found[name].low <= value <= found[name].high, name
            assert found[name].low <= found[name].value <= found[name].high
        widths.append([found[n].high - found[n].low for n in theory])
    np.testing.assert_allclose(np.divide(*widths), 4, rtol=0.35)
    assert risk.measures(steps, scale=10, resamples=100)["std"].value == pytest.approx(
        10 * found["std"].value
    )


def test_the_shortfall_s_risk_is_that_of_the_formulas():
    env = jaxpg.make("AlmgrenChriss-jaxpg", risk_aversion=0.0)
    cfg, unit = eb.Config(risk_aversion=1e-6), float(ac.unit(env))
    gains = risk.gains(eb.almgren_chriss, cfg, env, (), jax.random.key(0), 5000, 8)
    assert gains.shape == (8, 5000)
    assert not gains[5:].any()  # the next episode is none of it
    found = risk.measures(gains, scale=unit, resamples=200)
    for name, value in [("mean", -911_227), ("std", 3.641286e11**0.5)]:
        assert found[name].low < value < found[name].high


def test_table_and_figure(tmp_path):
    rng = np.random.default_rng(0)
    of = {"careful": rng.normal(0.1, 1, (3, 300)), "bold": rng.normal(0.2, 3, (3, 300))}
    console = Console(width=120, record=True)
    console.print(risk.table(of, resamples=100))
    text = console.export_text()
    assert all(word in text for word in (*of, "CVaR 95%", "drawdown", ".."))
    draw_risk(of, tmp_path / "risk.png", unit="dollars", resamples=100)
    assert (tmp_path / "risk.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("gains", "options", "words"),
    [
        (np.zeros((3, 1)), {}, "episodes >= 2"),
        (np.full((3, 4), np.nan), {}, "gains: 12 of 12 are not finite"),
        (np.zeros((3, 4)), {"level": 1.0}, "level=1.0"),
        (np.zeros((3, 4)), {"scale": 0.0}, "scale=0.0"),
    ],
)
def test_bad_gains_are_named(gains, options, words):
    with pytest.raises(ValueError, match=words):
        risk.measures(gains, **options)
    with pytest.raises(ValueError, match="at least one"):
        risk.table({})
