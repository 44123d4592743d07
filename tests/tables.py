"""Tables of the pages that follow from data: agents, measurements, fields, rooms; and an import.

python -m tests.tables      writes them anew, where they have changed

What a row says in words is written by hand and kept; a new row gets the first line of its file.
"""

import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
import sys
import textwrap
from collections.abc import Callable
from typing import NamedTuple

import jax

import jaxpg
from jaxpg import agents
from jaxpg.experiment.tuning import space
from tests.conftest import INSTALLED
from tests.faults.scorecard import scorecard_rows
from tests.pages import ROOT
from tests.test_architecture import ALLOWED, package, room

sys.path.append(str(ROOT / "benchmarks"))  # for `gpu_lines` and results
GROUPS = ("Classic control", "bsuite", "MinAtar", "misc", "jaxpg's own")
SPACES = {"discrete": ("CartPole-v1", "Cliff-jaxpg"), "continuous": ("Pendulum-v1",)}


class Table(NamedTuple):
    """Lines of a page that are made from data: those between a head and the next empty line."""

    page: str
    head: str  # how the first line begins; it and, of a table, the line below it stay
    rows: Callable[[list[str]], list[str]]  # the lines, given those that are there


def find(table: Table) -> tuple[list[str], int, int]:
    """The lines of a page, and from where to where the table's are."""
    lines = (ROOT / table.page).read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(table.head)) + 1
    first += table.head.startswith("|")
    last = next((i for i in range(first, len(lines)) if not lines[i]), len(lines))
    return lines, first, last


def found_and_expected(table: Table) -> tuple[list[str], list[str]]:
    """The lines of a table as they are, and as they should be."""
    lines, first, last = find(table)
    return lines[first:last], table.rows(lines[first:last])


def write(table: Table) -> bool:
    """Writes a table anew, and returns whether it has changed."""
    lines, first, last = find(table)
    expected = table.rows(lines[first:last])
    (ROOT / table.page).write_text("\n".join([*lines[:first], *expected, *lines[last:]]) + "\n")
    return lines[first:last] != expected


def words(lines: list[str]) -> dict[str, str]:
    """What is said by hand: the second cell of every row, by the name in the first."""
    return {line.split("`")[1]: line.split(" | ")[1] for line in lines}


def fits(agent, env_name: str) -> bool:
    """Whether an agent takes the actions of an environment."""
    env = jaxpg.make(env_name)
    try:
        jax.eval_shape(lambda key: agent.init(agent.Config(), env, key), jax.random.key(0))
    except ValueError:
        return False
    return True


def spaces(name: str, cell: str) -> str:
    """The kinds of actions of an agent; of one that is not installed, as the cell says."""
    if name not in INSTALLED:
        return cell
    agent = agents.get(name)
    return ", ".join(x for x in SPACES if any(fits(agent, env) for env in SPACES[x]))


def agent_rows(found: list[str]) -> list[str]:
    """A row an agent, in the order of `agents.NAMES`."""
    said, cells = words(found), {row.split("`")[1]: row.split(" | ")[2] for row in found}
    lines = []
    for name in agents.NAMES:
        title = sys.modules[agents.get(name).init.__module__].__doc__.splitlines()[0]
        kinds = spaces(name, cells.get(name, ""))
        lines.append(f"| `{name}` | {said.get(name, title)} | {kinds} | [page]({name}.md) |")
    return lines


def measured() -> dict:
    """What was measured of every agent in every environment."""
    import learning_rows

    return learning_rows.load()


def result_table(head: str, name: str, *args: str, page: str = "docs/results.md") -> Table:
    """A table, or lines, of a function of benchmarks/learning_page.py."""

    def rows(found: list[str]) -> list[str]:
        import learning_page

        return getattr(learning_page, name)(*args, measured())

    return Table(page, head, rows)


def suite_rows(found: list[str]) -> list[str]:
    """A row for each environment of another suite that was measured."""
    import suites

    return suites.table_rows()


def held_out_rows(found: list[str]) -> list[str]:
    """A row for each environment that the search of PPO's profile left out."""
    import learning_page

    profiles = json.loads((ROOT / "benchmarks/profiles.json").read_text())
    return learning_page.held_out_rows("ppo", profiles)


def schedule_rows(found: list[str]) -> list[str]:
    """A row for the agents that have schedules of the same numbers."""
    groups = {}
    for name in agents.NAMES:
        fields = [x.name for x in dataclasses.fields(agents.get(name).Config)]
        numbers = ", ".join(f"`{x}`" for x in sorted(fields) if f"{x}_schedule" in fields)
        groups.setdefault(numbers, []).append(f"`{name}`")
    return [f"| {', '.join(names)} | {numbers} |" for numbers, names in groups.items() if numbers]


def optimizer_rows(found: list[str]) -> list[str]:
    """A row for the agents whose optimisers are of the same parts."""
    groups = {}
    for name in agents.NAMES:
        fields = {x.name: x for x in dataclasses.fields(agents.get(name).Config)}
        rules = [x for key, x in fields.items() if key.endswith("optimizer")]
        of = [x.metadata["help"].removeprefix("Optimiser of the ").rstrip(".") for x in rules]
        rates = [f"{part}learning_rate" for part in ("", "termination_", "critic_", "alpha_")]
        rates = [key for key in rates if key in fields]
        parts = "; ".join(
            f"{text} (`{rule.name}`)" if rule.name != "optimizer" else text
            for rule, text in zip(rules, of, strict=True)
        )
        row = parts, ", ".join(f"`{x}`" for x in rates)
        groups.setdefault(row, []).append(f"`{name}`")
    return [f"| {', '.join(n)} | {of} | {rates} |" for (of, rates), n in groups.items() if of]


def gpu_lines(found: list[str]) -> list[str]:
    """The bars of a GPU, and how they stand by what is measured."""
    import gpu

    return gpu.bar_lines(gpu.recorded(ROOT / "benchmarks" / "gpu.json"))


def name_lines(found: list[str]) -> list[str]:
    """The agents' pages in the order of the alphabet."""
    links = ", ".join(f"[{name}]({name}.md)" for name in sorted(agents.NAMES))
    return textwrap.wrap(links + ".", 100, break_on_hyphens=False)


def browser_rows(found: list[str]) -> list[str]:
    """What the policies of the page reach that act in the browser."""
    import browser_policies

    return list(browser_policies.table())


def space_rows(found: list[str]) -> list[str]:
    """A row for each field that a tuning searches."""
    lines, words = [], ("", " of agents that learn from rollouts", " of a table")
    parts = zip((space.STANDARD, space.ON_POLICY, space.TABULAR), words, strict=True)
    for name, rule, only in ((n, x, only) for part, only in parts for n, x in part.items()):
        if isinstance(rule, space.Around):
            values = f"{rule.low:g} to {rule.high:g} times the config's, uniform in the logarithm"
        elif isinstance(rule, space.Times):
            values = f"{', '.join(f'{x:g}' for x in rule.factors)} times the config's"
        else:
            values = f"{', '.join(map(str, rule))}, and the config's"
        lines.append(f"| `{name}`{only} | {values} |")
    return lines


def room_rows(found: list[str]) -> list[str]:
    """A row a room, with the rooms that it may import."""
    said, modules = words(found), {room(name): name for name in sorted(package(), reverse=True)}
    lines = []
    for name, allowed in ALLOWED.items():
        title = (importlib.import_module(modules[name]).__doc__ or "").partition("\n")[0]
        others = ", ".join(f"`{x}`" for x in allowed.split()) or "nothing of ours"
        lines.append(f"| `{name}` | {said.get(name, title)} | {others} |")
    return lines


def name_rows(found: list[str]) -> list[str]:
    """A row for each public name that stands there, with the first line of its docstring."""
    lines = []
    for name in (row.split("`")[1] for row in found):
        said = inspect.getdoc(pkgutil.resolve_name(name)) or ""
        words = said.partition("\n\n")[0].replace("\n", " ")
        first, *_ = re.split(r"(?<=[a-z)`]\.) ", words)
        lines.append(f"| `{name}` | {first} |")
    return lines


def face_lines(found: list[str]) -> list[str]:
    """The imports by which type checkers see the agents, and what stands there beside them."""
    own = "    from jaxpg.agents."
    lines = [f"{own}{name} import {name} as {name}" for name in sorted(agents.NAMES)]
    return lines + [line for line in found if not line.startswith(own)]


# The tables of the reference by how their heads begin; which names are in one is said by hand.
NAMES = {
    "docs/api.md": ("name", "environments", "wrapper", "of your own", "experiments", "the machine"),
    "docs/api_modules.md": ("module",),
}

TABLES = {
    "agents": Table("docs/agents.md", "| agent | what it is |", agent_rows),
    "glance": result_table("| environment | PPO |", "glance_rows"),
    "in short": result_table("In short:", "summary_lines"),
    **{group: result_table(f"| {group} |", "group_rows", group) for group in GROUPS},
    "short": result_table("These rows are short, and this was tried:", "short_lines"),
    "cannot": result_table("By these agents, with these settings", "failure_lines"),
    "suites": Table("docs/suites.md", "| environment | package |", suite_rows),
    "left out": Table("docs/tuning.md", "| left out |", held_out_rows),
    "not measured": result_table("Rows of the table that are still to come:", "missing_lines"),
    "schedules": Table("docs/schedules.md", "| agent | numbers with", schedule_rows),
    "optimizers": Table("docs/optimizers.md", "| agent | optimiser of", optimizer_rows),
    "names": Table("docs/index.md", "By name:", name_lines),
    "face": Table("jaxpg/__init__.py", "    # isort: off", face_lines),
    "space": Table("docs/tuning.md", "| field | values |", space_rows),
    "browser": Table("docs/play.md", "| episodes of learning |", browser_rows),
    "faults": Table("docs/reliability.md", "| kind of fault | tried |", scorecard_rows),
    "gpu": Table("benchmarks/README.md", "What has to hold there, as `--bars`", gpu_lines),
    **{
        head: Table(page, f"| {head} | what it is |", name_rows)
        for page, heads in NAMES.items()
        for head in heads
    },
    "rooms": Table("docs/architecture.md", "| room | what is in it |", room_rows),
}

if __name__ == "__main__":
    for name, table in TABLES.items():
        print(f"{table.page}: {name}", "written" if write(table) else "as it was")
    open_ends = set(re.findall(r"docs/\w+\.md", (ROOT / "README.md").read_text()))
    for page in sorted(page for page in open_ends if not (ROOT / page).exists()):
        print(f"{page}: still to be written")
