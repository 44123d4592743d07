"""Loggers of a sweep: a series for each config and seed, with the settings of that config."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxpg.core.parallel.lanes import take_lane
from jaxpg.core.run import Callback
from jaxpg.experiment.callbacks import Series, make_loggers
from jaxpg.experiment.run import checkpoint
from jaxpg.experiment.sweeps.tables import SweepFolder


def ask_for_loggers(loggers: Sequence[str], out: str | Path | None) -> dict[str, Any]:
    """What the record of a sweep says of its loggers; nothing without any. Raises ValueError for an
    unknown one or for a sweep without a folder, ImportError for one whose package is missing."""
    make_loggers(loggers, Path())
    if loggers and out is None:
        raise ValueError(f"loggers={loggers!r}: allowed only with a folder `out`")
    return {"loggers": list(loggers), "log_id": secrets.token_hex(8)} if loggers else {}


def loggers_of_part(this: SweepFolder, part: int) -> list[Callback]:
    """Makes the loggers of a part that the record of its sweep asks for."""
    record = this.record
    if not record.get("loggers"):
        return []
    _, agent, cfg, env, _ = this.part(part)
    series = []
    for lane, (point, seed) in enumerate(record["parts"][part]["lanes"]):
        own = checkpoint.describe(agent, *take_lane((cfg, env), lane))
        own |= {"point": record["points"][point], "seed": seed}
        series.append(Series(f"config-{point}-seed-{seed}", own))
    shared = ("total_steps", "tags", "made_with")
    about = {name: record[name] for name in shared if name in record}
    labels = {label: record.get(label) for label in ("name", "tags")}
    return make_loggers(record["loggers"], this.out, record["log_id"], about, series, **labels)
