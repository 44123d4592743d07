"""Tables of README and pages, against agents and measurements. A failure prints the rows."""

import dataclasses
import json
import sys

import jax
import pytest

import jaxpg
from jaxpg import agents, presets
from tests.conftest import INSTALLED
from tests.pages import PAGES, ROOT

SPACES = {"discrete": ("CartPole-v1", "Cliff-jaxpg"), "continuous": ("Pendulum-v1",)}


def rows(page, head):
    """The rows of the table whose first line begins with `head`."""
    lines = (ROOT / page).read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(head))
    last = next(i for i in range(first, len(lines)) if not lines[i].startswith("|"))
    return lines[first + 2 : last]


def same(page, found, expected):
    assert found == expected, f"{page} should have\n" + "\n".join(expected)


def fits(agent, env_name):
    env = jaxpg.make(env_name)
    try:
        jax.eval_shape(lambda key: agent.init(agent.Config(), env, key), jax.random.key(0))
    except ValueError:
        return False
    return True


def test_agents_of_the_readme():
    """A row an agent. What it is, is said by hand: a new one gets the first line of its file."""
    found = rows("README.md", "| agent | what it is |")
    said = {row.split("`")[1]: row.split(" | ")[1] for row in found}
    expected = []
    for name in agents.NAMES:
        agent = agents.get(name)
        title = sys.modules[agent.init.__module__].__doc__.splitlines()[0]
        kinds = SPACES
        if name in INSTALLED:
            kinds = [x for x in SPACES if any(fits(agent, env) for env in SPACES[x])]
        page = f"docs/{name}.md"
        expected.append(
            f"| `{name}` | {said.get(name, title)} | {', '.join(kinds)} | [{page}]({page}) |"
        )
    same("README.md", found, expected)


def test_results_of_the_readme():
    """A row a preset, in the order of the presets, from benchmarks/learning.json."""
    measured = json.loads((ROOT / "benchmarks" / "learning.json").read_text())
    expected = []
    for name in agents.NAMES:
        for env in presets.table(name):
            one = measured[f"{name}/{env}"]
            mean, worst = sum(one["greedy"]) / len(one["greedy"]), min(one["greedy"])
            expected.append(
                f"| `{name}` | {env} | {one['env_steps']:,} | {mean:.1f} | {worst:.1f} |"
            )
    same("README.md", rows("README.md", "| agent | environment | env steps |"), expected)
    assert len(measured) == len(expected) + 1  # the versions


def test_schedules_of_the_page():
    """A row for the agents that have schedules of the same numbers."""
    groups = {}
    for name in agents.NAMES:
        fields = [x.name for x in dataclasses.fields(agents.get(name).Config)]
        numbers = ", ".join(f"`{x}`" for x in sorted(fields) if f"{x}_schedule" in fields)
        groups.setdefault(numbers, []).append(f"`{name}`")
    expected = [
        f"| {', '.join(names)} | {numbers} |" for numbers, names in groups.items() if numbers
    ]
    same("docs/schedules.md", rows("docs/schedules.md", "| agent | numbers with"), expected)


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_every_page_is_found_from_the_index(page):
    name = page.removeprefix("docs/")
    if name != "index.md":
        assert f"]({name}" in (ROOT / "docs" / "index.md").read_text()


@pytest.mark.parametrize("name", agents.NAMES)
def test_every_agent_has_its_page_and_its_preset(name):
    assert (ROOT / "docs" / f"{name}.md").is_file()
    assert sum("learns" in preset for preset in presets.table(name).values()) == 1
