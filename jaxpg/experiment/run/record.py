"""Record of a run, run.json: what is asked of it, and the way back to objects."""

import contextlib
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxpg.core import env as E
from jaxpg.core.blocks import MOST, block_length
from jaxpg.core.checks import require_bool, require_integer, require_number, show
from jaxpg.core.parallel.lanes import has_lanes
from jaxpg.core.run import Callback
from jaxpg.core.train import num_iterations
from jaxpg.core.types import Agent, Key
from jaxpg.experiment.callbacks import make_loggers
from jaxpg.experiment.files import FAILURE, RUN
from jaxpg.experiment.files.atomic import write_json
from jaxpg.experiment.files.rows import RECORD
from jaxpg.experiment.run import provenance, seal
from jaxpg.experiment.text import warn


class Settings(NamedTuple):
    """Settings of a run folder, see `jaxpg.run`; run.json keeps them under these names."""

    chunk: int | None = None  # `core.run` chooses
    evaluations: int | None = None  # see `count_evaluations`
    episodes: int = 128
    checkpoints: int = 5
    keep: int = 3
    target: float | None = None
    data_parallel: bool = False
    log_every: int | None = None  # `core.blocks` chooses
    log: Sequence[str] = ()
    name: str | None = None  # not in the record if there is none, as the tags
    tags: Sequence[str] = ()
    keep_best: bool = False
    checkpoint_minutes: float | None = 10.0
    preset: str | None = None  # the file that the config began with; as the name


# What loggers show of a record.
LOGGED = ("agent", "config", "environment", "total_steps", "tags", "made_with")


def count_evaluations(asked: Settings, out: str | Path | None) -> Settings:
    """Settles how many evaluations there are where none are asked for: 10 of a run with a folder or
    a target, none of another, which may be there to be fast."""
    if asked.evaluations is not None:
        return asked
    return asked._replace(evaluations=0 if out is None and asked.target is None else 10)


class RunFolder(NamedTuple):
    """Open run folder: what its record says, as objects."""

    out: Path
    agent: Agent
    cfg: Any  # as it was given: without the horizon, which follows from total_steps
    env: E.Env
    key: Key
    record: dict  # run.json
    digest: str  # of run.json

    @property
    def num_iters(self) -> int:
        return num_iterations(self.agent, self.cfg, self.record["total_steps"])

    @property
    def log_every(self) -> int:
        """Iterations of a row of the metrics: those that were settled when the run began."""
        return self.record.get("log_every", 1)

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats of the metrics' rows. A run of before rows could be blocks has both."""
        asked = self.record.get("log") or () if "log_every" in self.record else ("jsonl",)
        return ("csv", *(["jsonl"] if "jsonl" in asked else []))

    @property
    def target(self) -> float | None:
        """Return at which the run ends; None for lanes, which end one by one."""
        return None if has_lanes(self.cfg) else self.record.get("target")

    def loggers(self) -> list[Callback]:
        """Loggers that the record asks for. Raises ValueError for an unknown one, ImportError for
        one whose package is missing."""
        before = ["tensorboard"] if self.record.get("tensorboard") else []  # of an older record
        about = {name: self.record[name] for name in LOGGED if name in self.record}
        names = self.record.get("log", before)
        labels = {label: self.record.get(label) for label in ("name", "tags")}
        return make_loggers(names, self.out, self.record.get("log_id"), about, **labels)


def new_record(
    agent: Agent, cfg, env: E.Env, key: Key, total_steps: int, asked: Settings
) -> dict[str, Any]:
    """Makes the record of a run."""
    about = provenance.describe_run(agent, cfg, env, key)
    every = block_length(num_iterations(agent, cfg, total_steps), asked.log_every)
    asked = asked._replace(log_every=every)
    tracked = {"wandb", "mlflow"} & {*asked.log}
    known = {"log_id": secrets.token_hex(8)} if tracked else {}  # by which its series go on
    labels = check_labels(asked.name, asked.tags)
    labels |= {} if asked.preset is None else {"preset": asked.preset}
    left = ("name", "tags", "preset")
    settings = {n: x for n, x in asked._asdict().items() if n not in left} | labels
    return {**about, "total_steps": int(total_steps), **settings, **known, "rows": RECORD}


def check_labels(name: str | None, tags: Sequence[str]) -> dict[str, Any]:
    """The name and the tags of a run or sweep as its record has them, {} if there are none. Raises
    ValueError for what cannot be the name of a folder, and for tags that are no words."""
    fits = isinstance(name, str) and re.fullmatch(r"\w[\w .,=+@-]{0,99}", name)
    if name is not None and not (fits and name == name.strip()):
        raise ValueError(
            f"name={show(name)}: allowed is the name of a folder, up to 100 letters, digits and "
            "any of . , = + @ - _"
        )
    words = not isinstance(tags, str) and np.iterable(tags)
    if not words or not all(
        isinstance(x, str) and re.fullmatch(r"[\w.:=+@-]{1,50}", x) for x in tags
    ):
        raise ValueError(
            f"tags={show(tags)}: allowed is a list of words, each of up to 50 letters, digits and "
            "any of . : = + @ - _"
        )
    labels = {"name": name, "tags": list(dict.fromkeys(tags))}
    return {key: value for key, value in labels.items() if value}


def check_settings(asked: Settings, cfg: Any, out: str | Path | None) -> None:
    """Raises ValueError for settings that are not allowed, ImportError for a logger whose package
    is missing."""
    least = {"chunk": 1, "evaluations": 0, "episodes": 1, "checkpoints": 1, "keep": 1}
    for name, minimum in least.items():
        value = getattr(asked, name)
        if name == "chunk" and value is None:
            continue
        require_integer(name, value, minimum)
    for name in ("data_parallel", "keep_best"):
        require_bool(name, getattr(asked, name))
    if asked.keep_best and out is None:
        raise ValueError("keep_best=True: allowed only with a folder `out`")
    if asked.keep_best and has_lanes(cfg):
        raise ValueError("keep_best=True: of lanes allowed is False")
    if asked.keep_best and asked.evaluations == 0:
        raise ValueError("evaluations=0: with keep_best allowed is an integer >= 1")
    if (minutes := asked.checkpoint_minutes) is not None:
        require_number("checkpoint_minutes", minutes)
        if minutes <= 0:
            raise ValueError(f"checkpoint_minutes={minutes!r}: allowed is a number > 0, or None")
    block_length(1, asked.log_every)
    if check_labels(asked.name, asked.tags) and out is None:
        raise ValueError("name and tags: allowed only with a folder `out`")
    if (target := asked.target) is not None:
        require_number("target", target)
        if asked.evaluations == 0:
            raise ValueError("evaluations=0: with a target allowed is an integer >= 1")
    make_loggers(asked.log, Path())
    if asked.log and out is None:
        raise ValueError(f"log={asked.log!r}: allowed only with a folder `out`")


@contextlib.contextmanager
def record_failure(folder: Path) -> Iterator[None]:
    """Writes into the folder of a run why it failed, if it does: a kill leaves no such file."""
    path = folder / FAILURE
    path.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        with contextlib.suppress(OSError):  # of a full disk too: the error itself is raised
            write_failure(folder, f"{type(error).__name__}: {error}")
        raise


def write_failure(folder: Path, why: str) -> None:
    """Writes into the folder of a run why it failed, in one line."""
    write_json(folder / FAILURE, {"error": " ".join(why.split())})


def change_record(
    record: dict[str, Any], digest: str, total_steps: int | None, target: float | None
) -> dict[str, Any]:
    """Changes what is asked of a run that goes on, in its record, whose digest is kept in the new
    one. Raises ValueError for what is not allowed."""
    changed = {**record, "earlier": [digest, *record.get("earlier", [])]}
    if total_steps is not None:
        changed["total_steps"] = int(total_steps)
    if target is not None:
        asked = Settings(evaluations=record["evaluations"], target=target)
        check_settings(asked, None, Path())
        changed["target"] = float(target)
    return changed


def warn_of_many_rows(this: RunFolder) -> None:
    """Warns if a run that is made longer has far more rows than one that begins so long."""
    rows = -(-this.num_iters // this.log_every)
    if rows > 10 * MOST:
        said = f"{this.out}: it goes on with log_every={this.log_every}, as it began: that is "
        warn(f"{said}{rows:,} rows a seed in metrics.csv", stacklevel=6)


def open_folder(out: Path, agent: Agent | None, env: E.Env | None, trust: bool) -> RunFolder:
    """Opens the folder of a run. Raises CheckpointError for a damaged, missing or foreign one."""
    record = provenance.read_record(out / RUN, "run")
    agent, cfg, env, key = provenance.restore_objects(out / RUN, agent, env, trust)
    return RunFolder(out, agent, cfg, env, key, record, seal.read_seal(out).digests[0])
