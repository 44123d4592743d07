"""TensorBoard files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxpg.core.run import Callback, Result
from jaxpg.experiment.callbacks.series import (
    POINTS,
    Backend,
    Row,
    Series,
    describe_end,
    flatten,
    log_series,
)
from jaxpg.experiment.extras import require_extra


def tensorboard(
    folder: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    series: Sequence[Series] | None = None,
    points: int = POINTS,
) -> Callback:
    """Writes TensorBoard files, a sub-folder for each seed: `tensorboard --logdir FOLDER`.

    config: settings to show under HPARAMS, nested or not. series, points: as of `log_series`. A run
    with a folder has its rows in `metrics.csv` too. A run that goes on hides what was written after
    the point from which it does. Raises ImportError without tensorboardX, ValueError for points
    below 1.

    >>> env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(0)
    >>> log = [jaxpg.callbacks.tensorboard("tb", config={"learning_rate": cfg.learning_rate})]
    >>> _ = jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=1000, callbacks=log)
    >>> os.listdir("tb")
    ['seed-0']
    """
    require_extra("tensorboard", "tensorboardX", "TensorBoard")
    from tensorboardX import SummaryWriter
    from tensorboardX.summary import hparams

    writers: list[Any] = []

    def begin(shown: Sequence[Series], env_steps: int) -> None:
        # What a killed run wrote after the point of resumption is hidden: from that step on.
        more: dict[str, Any] = {"purge_step": env_steps + 1}
        more["filename_suffix"] = f".{env_steps}"  # the names are of the second
        for one in shown:
            writer: Any = SummaryWriter(str(Path(folder, one.name)), **more)
            writers.append(writer)
            if config is not None:
                about = flatten({**config, **one.config})
                for summary in hparams(about, dict.fromkeys(("episode/return", "eval/greedy")))[:2]:
                    writer.file_writer.add_summary(summary)

    def write(env_steps: int, rows: Sequence[Row]) -> None:
        for writer, row in zip(writers, rows, strict=True):
            for name, value in row.items():
                writer.add_scalar(name, value, env_steps)

    def close(result: Result, rows: Sequence[Row]) -> None:
        for writer in writers:
            if config is not None:
                text = ", ".join(f"{name} {x}" for name, x in describe_end(result).items())
                writer.add_text("ended", text, result.env_steps)
                writer.file_writer.add_summary(_session_end(result.stopped == "error"))
            writer.close()

    return log_series(Backend(begin, write, close), series, points)


def _session_end(failed: bool) -> Any:
    """Summary by which HPARAMS shows that a run has ended, well or not."""
    from tensorboardX.proto import api_pb2, plugin_hparams_pb2
    from tensorboardX.summary import hparams

    api, plugin = vars(api_pb2), vars(plugin_hparams_pb2)  # made when they are imported

    summary = hparams({}, {})[2]
    data = summary.value[0].metadata.plugin_data
    content = plugin["HParamsPluginData"].FromString(data.content)
    status = f"STATUS_{'FAILURE' if failed else 'SUCCESS'}"
    content.session_end_info.status = api["Status"].Value(status)
    data.content = content.SerializeToString()
    return summary
