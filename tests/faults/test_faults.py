"""Faults in runs, sweeps and policies: nothing is lost or changed without a word."""

import json

import pytest

from tests.faults import suite


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
def test_all_faults(tmp_path):
    tried = suite.run_suite(tmp_path)
    if tried is None:
        pytest.skip("no C compiler, or no Linux")
    card = suite.scorecard(tried)
    print("| kind | tried | held | refused | silent | broken |", *suite.table(card), sep="\n")
    assert not failed(tried)
    known = json.loads(suite.SCORECARD.read_text())
    assert list(card) == list(known), "`python -m tests.faults` writes the scorecard anew"
