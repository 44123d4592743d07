"""Faults in runs, sweeps and policies: nothing is lost or changed without a word."""

import pytest

from tests.faults import scorecard, suite


def failed(tried) -> list[str]:
    bad = (suite.SILENT, suite.BROKEN)
    return [f"{o.what}: {t.kind}: {t.name}: {o.note}" for t, o in tried if o.what in bad]


def test_a_few_faults(tmp_path):
    tried = suite.run_suite(tmp_path, quick=True)
    if tried is None:
        pytest.skip("no C compiler, or no Linux")
    assert not failed(tried)
    assert len(tried) > 20


@pytest.mark.slow
def test_faults_of_every_kind(tmp_path):
    """Every second of them; `python -m tests.faults` tries all."""
    tried = suite.run_suite(tmp_path, every=2)
    if tried is None:
        pytest.skip("no C compiler, or no Linux")
    card = scorecard.count((trial.kind, outcome.what) for trial, outcome in tried)
    print(scorecard.HEAD, *scorecard.rows(card), sep="\n")
    assert not failed(tried)
    assert card.keys() == scorecard.read().keys(), "`python -m tests.faults` writes it anew"


def test_the_scorecard_that_is_kept_has_nothing_silent_or_broken():
    for kind, row in scorecard.read().items():
        assert row["silent"] == row["broken"] == 0, kind
        assert row["tried"] == row["held"] + row["refused"] > 0, kind
