"""Record of a run, run.json: what is asked of it, and the way back to objects."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxpg.core import env as E
from jaxpg.core.blocks import MOST, block_length
from jaxpg.core.checks import require_bool, require_integer, require_number
from jaxpg.core.parallel.lanes import has_lanes
from jaxpg.core.run import Callback
from jaxpg.core.train import num_iterations
from jaxpg.core.types import Agent, Key
from jaxpg.experiment.callbacks import make_loggers
from jaxpg.experiment.files import RUN
from jaxpg.experiment.files.rows import RECORD
from jaxpg.experiment.run import provenance, seal
from jaxpg.experiment.text import warn


class Settings(NamedTuple):
    """Settings of a run folder, see `jaxpg.run`; run.json keeps them under these names."""

    chunk: int | None = None  # `core.run` chooses
    evaluations: int = 10
    episodes: int = 128
    checkpoints: int = 5
    keep: int = 3
    target: float | None = None
    data_parallel: bool = False
    log_every: int | None = None  # `core.blocks` chooses
    log: Sequence[str] = ()
    keep_best: bool = False
    checkpoint_minutes: float | None = 10.0


# What loggers show of a record.
LOGGED = ("agent", "config", "environment", "total_steps", "made_with")


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
        return make_loggers(names, self.out, self.record.get("log_id"), about)


def new_record(
    agent: Agent, cfg, env: E.Env, key: Key, total_steps: int, asked: Settings
) -> dict[str, Any]:
    """Makes the record of a run."""
    about = provenance.describe_run(agent, cfg, env, key)
    every = block_length(num_iterations(agent, cfg, total_steps), asked.log_every)
    asked = asked._replace(log_every=every)
    tracked = {"wandb", "mlflow"} & {*asked.log}
    known = {"log_id": secrets.token_hex(8)} if tracked else {}  # by which its series go on
    return {**about, "total_steps": int(total_steps), **asked._asdict(), **known, "rows": RECORD}


def check_settings(asked: Settings, cfg, out: str | Path | None) -> None:
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
    if (target := asked.target) is not None:
        require_number("target", target)
        if out is None and not has_lanes(cfg):
            raise ValueError(f"target={target!r}: allowed only with lanes or a folder `out`")
        if asked.evaluations == 0:
            raise ValueError("evaluations=0: with a target allowed is an integer >= 1")
    make_loggers(asked.log, Path())
    if asked.log and out is None:
        raise ValueError(f"log={asked.log!r}: allowed only with a folder `out`")


def change_record(
    record: dict[str, Any], digest: str, cfg, total_steps: int | None, target: float | None
) -> dict[str, Any]:
    """Changes what is asked of a run that goes on, in its record, whose digest is kept in the new
    one. Raises ValueError for what is not allowed."""
    changed = {**record, "earlier": [digest, *record.get("earlier", [])]}
    if total_steps is not None:
        changed["total_steps"] = int(total_steps)
    if target is not None:
        asked = Settings(evaluations=record["evaluations"], target=target)
        check_settings(asked, cfg, Path())
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
