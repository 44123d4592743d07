"""Hostile folders: names that mean something elsewhere, records that name others' code, links."""

import json
from pathlib import Path

import jaxpg
from jaxpg.core.config import to_dict
from jaxpg.experiment.files import RUN, SWEEP
from jaxpg.experiment.files.atomic import read_json, write_json
from jaxpg.experiment.report.build import report
from tests.conftest import TINY

NAMES = [
    "lr=[0.1]", "[", "a]b", "a\\b", "a*b", "a?b", "{a,b}", "$HOME", "$x_1$", "-out", " a ", "ünï",
    "новая", "new\nline", "tab\ta", "%41", "#1", "a'b\"c", "~", ".hidden", "a" * 200, "1e-3",
    "\x1b[31mred", "a:b", "a;b&c", "<a>",
]  # fmt: skip
FOREIGN = """
import pathlib
pathlib.Path(__file__).with_suffix(".ran").write_text("code of a stranger")
class Net: pass
"""
# Where a name of a class stands in a record, and which.
FORGERIES = [
    (RUN, "config", "foreign:Net"),
    (RUN, "config", "package.foreign:Net"),
    (RUN, "config", "subprocess:Popen"),
    (SWEEP, "config", "foreign:Net"),
    (SWEEP, "point", "foreign:Net"),
    (SWEEP, "agent", "foreign:Net"),
    (RUN, "agent", "foreign:Net"),
    (RUN, "environment", "foreign:Net"),
]


def kind_of(error: Exception) -> str:
    """The class of an error; of jaxpg's own "ours", of the system's "OSError"."""
    if type(error).__module__.startswith("jaxpg."):
        return "ours"
    return "OSError" if isinstance(error, OSError) else type(error).__name__


def forge(folder: str, file: str, where: str, name: str) -> None:
    """Writes a name into the record of a run or a sweep, with a digest that is right."""
    path = Path(folder, file)
    record = read_json(path)
    if where == "point":
        record["points"] = [{"net": name}] * len(record["points"])
    if where == "agent":
        record["agent"] = name
    elif where == "environment":
        record["environment"] = {**record["environment"], "name": name}
    else:
        record["agent"] = "ppo"
        record["config"] = to_dict(jaxpg.ppo.Config(**TINY["ppo"]))
        if where == "config":
            record["config"]["net"] = name
    write_json(path, record)


def read_everything(folder: str) -> list[list[str]]:
    """Reads a folder in all ways: what does it, and the error, [] if there was none."""
    ways = {
        "load": jaxpg.load,
        "resume": jaxpg.resume,
        "Policy.load": jaxpg.Policy.load,
        "sweep.result": lambda path: jaxpg.sweep.result(path, 0),
        "result of the report": lambda path: report([path], Path(path, "report.html")),
    }
    found = []
    for way, read in ways.items():
        try:
            read(folder)
            found.append([way])
        except Exception as error:
            found.append([way, kind_of(error), str(error)])
    return json.loads(json.dumps(found))
