"""TensorBoard files."""

from pathlib import Path

import numpy as np

from jaxpg.core.run import Callback, Event
from jaxpg.experiment.callbacks.metrics import mean_metric, split_metrics
from jaxpg.experiment.extras import require_extra


def tensorboard(folder: str | Path) -> Callback:
    """Writes TensorBoard files, a sub-folder per seed, with a point per metric and chunk (means).

    Every iteration's numbers are in `metrics.csv`. Raises ImportError without tensorboardX.
    """
    require_extra("tensorboard", "tensorboardX", "TensorBoard")
    from tensorboardX import SummaryWriter

    writers = []

    def write(event: Event) -> None:
        series, measured = split_metrics(event)
        seeds, count = next(iter(series.values())).shape
        if not writers:  # what a killed run wrote after the point of resumption is hidden
            begin = event.env_steps - count * (event.env_steps // event.iteration)
            more = {"purge_step": begin, "filename_suffix": f".{begin}"}  # names are of the second
            for seed in range(seeds):
                writers.append(SummaryWriter(str(Path(folder, f"seed-{seed}")), **more))
        means = {name: mean_metric(series, name) for name in series} | measured
        for seed, writer in enumerate(writers):
            for name, values in means.items():
                if not np.isnan(values[seed]):
                    writer.add_scalar(name, values[seed], event.env_steps)

    return Callback(on_metrics=write, on_end=lambda _: [w.close() for w in writers])
