"""Tables of README and pages, against agents and measurements: tests/tables.py writes them."""

import pytest

from jaxpg import agents
from jaxpg.envs import registry
from tests import tables
from tests.pages import ROOT
from tests.test_architecture import ALLOWED
from tests.test_learning import bars


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_table_is_as_its_data(name):
    found, expected = tables.found_and_expected(tables.TABLES[name])
    assert found == expected, "`python -m tests.tables` writes it anew"


@pytest.mark.parametrize("name", agents.NAMES)
def test_every_agent_has_its_page_and_its_preset(name):
    assert (ROOT / "docs" / f"{name}.md").is_file()
    assert bars(name)
    for _, env, bar in bars(name):
        assert bar.keys() - {"env"} == {"total_steps", "least", "seeds"}, env
        assert registry.is_registered(env)


def test_the_picture_of_the_rooms_is_the_table_of_imports():
    """An import goes from a line of the picture to one below it."""
    picture = (ROOT / "docs" / "architecture.md").read_text().partition("## The rooms")[2]
    lines = picture.split("```")[1].splitlines()[1:]
    height = {name: i for i, line in enumerate(lines) for name in line[:44].split()}
    assert height.keys() == ALLOWED.keys()
    up = [(a, b) for a, others in ALLOWED.items() for b in others.split() if b != "face"]
    assert not [(a, b) for a, b in up if height[a] >= height[b]]
