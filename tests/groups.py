"""How tests are shared out to processes, and what each group of them costs.

Tests that share programs are a group: those of a file; of an agent, or of a suite of environments,
in files that test every one; and a page of the documents is one of its own. With
`pytest -n 2 --dist loadgroup` a group runs in one process, or both would trace and compile its
programs; the longest begin first. Functions whose names begin with `pytest_` are hooks, which
conftest imports. (pytest-xdist's own groups rest on a private attribute of pytest's that is no more
in pytest 9.2.)
"""

import gc
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from jaxpg import agents

# What a run of the tests took lies in pytest's cache under this name: seconds of each test.
KEPT = "jaxpg/seconds"
# The tests of what every agent promises, of one agent, and what they may cost.
CONTRACT, ALLOWED = "test_contract", 20.0
# Files whose tests share nothing but what is of one agent, or of one suite (of Brax: one backend),
# and those whose tests share nothing.
BY_AGENT, BY_SUITE, ALONE = (
    (CONTRACT, "test_learning"),
    ("test_suites", "test_brax"),
    ("test_pages",),
)
OF_SITE = "test_site", "test_course", "test_play"  # it is built once for them
# Begin first where nothing is known of them yet, as in a fresh clone: a long one at the end would
# keep one process waiting for the other.
LONG = (
    "test_host_envs", "test_suites", "test_brax", "test_jaxmarl", "test_playground", "test_site",
    "test_faults", "test_pythons", "test_gpu_benchmark", "test_distributed", "test_sweep",
    "test_heads", "test_offpolicy", "test_policy_export", "test_seal", "test_memory",
    "test_almgren_chriss", "test_wrappers", "test_opponents", "test_runs", "test_presets",
    "test_normalize_agents", "test_maddpg", "test_tuning", "test_cli", "test_diagnostics",
    "test_population", "test_replay_loop", "test_networks", "test_tabular_agents", "test_gsde",
    "test_learning", "test_masks", "test_nets", "test_signals", "test_policy_search",
    "test_family", "test_trust_region", "test_tabular_envs", "test_termination", "test_pictures",
    "test_cli_experiments", "test_devices", "test_trackers", "test_days", "test_checkers",
    "test_whole_episodes",
)  # fmt: skip


def group(nodeid: str) -> str:
    """`test_contract ppo` for `tests/test_contract.py::test_nan_is_caught[ppo]`."""
    path, _, test = nodeid.partition("::")
    file, words = Path(path).stem, re.split(r"[-\[\]]", test)[1:]
    if file in ALONE:
        return f"{file} {test}"
    if file in OF_SITE:
        return OF_SITE[0]
    if file in BY_SUITE:
        return " ".join([file, *words[:1]]).partition("/")[0]
    named = next((word for word in words if word in agents.NAMES), "")
    return f"{file} {named}" if named and file in BY_AGENT else file


def totals(seconds: dict[str, float]) -> Counter:
    """Seconds of every group, of those of every test."""
    found = Counter()
    for nodeid, cpu in seconds.items():
        found[group(nodeid)] += cpu
    return found


def longest_first(names: list[str], seconds: dict[str, float]) -> list[str]:
    """Groups by what they took last; before them all that are not known, those of LONG first."""
    known = totals(seconds)

    def rank(name):
        first = name.split()[0]
        return known.get(name, float("inf")), -LONG.index(first) if first in LONG else -len(LONG)

    return sorted(names, key=rank, reverse=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    seconds = config.cache.get(KEPT, {}) if hasattr(config, "cache") else {}

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group(nodeid)

        def _assign_work_unit(self, node):
            """The longest group that waits, by its tests of this session: those of the quick part
            say nothing of the slow one."""
            here = {x: seconds[x] for unit in self.workqueue.values() for x in unit if x in seconds}
            for name in reversed(longest_first(list(self.workqueue), here)):
                self.workqueue.move_to_end(name, last=False)
            super()._assign_work_unit(node)

    return Groups(config, log)


# What tests cost.


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    return sum(os.times()[:4])


LAST = [cpu_seconds()]
SPENT: dict[str, float] = Counter()


def pytest_collection_finish():
    """What comes before the first test is no test's. Garbage is looked for as in the command: what
    is imported stays, and programs that are kept for other tests were gone through again and again.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    LAST[0] = cpu_seconds()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Fixtures count for the test that asks for them first."""
    report = yield
    now = cpu_seconds()
    report.user_properties.append(("cpu", now - LAST[0]))
    LAST[0] = now
    return report


def pytest_runtest_logreport(report):
    if properties := report.user_properties[:]:
        SPENT[report.nodeid] += dict(properties[-1:]).get("cpu", 0.0)


def pytest_sessionfinish(session):
    config = session.config
    if SPENT and not hasattr(config, "workerinput") and hasattr(config, "cache"):
        config.cache.set(KEPT, config.cache.get(KEPT, {}) | SPENT)


def pytest_terminal_summary(terminalreporter):
    if len(SPENT) < 2:
        return
    say, found = terminalreporter.write_line, totals(SPENT)
    terminalreporter.section("CPU-seconds")
    say(f"{sum(found.values()):8.1f} in all; the ten longest groups:")
    for name, cpu in found.most_common(10):
        say(f"{cpu:8.1f} {name}")
    for name, cpu in found.items():
        if name.startswith(f"{CONTRACT} ") and cpu > ALLOWED:
            say(f"{cpu:8.1f} {name}: the contract of one agent may cost {ALLOWED:.0f}", red=True)
