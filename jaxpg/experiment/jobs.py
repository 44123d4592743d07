"""Jobs: experiments that share nothing, each in a process of its own, by SLURM or on this machine.

The jobs are submitit's (extra `submitit`): it pickles the function, and writes logs and results.
"""

import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jaxpg.core.checks import require_folder, require_integer
from jaxpg.core.interrupt import hand_on
from jaxpg.experiment.extras import require_extra

CLUSTERS = (None, "slurm", "local")
DAY = 24 * 60  # minutes; submitit's own limit is 5
RULE = "\n" + "-" * 22 + "\n"


def fan_out(
    function: Callable[[Any], Any],
    arguments: Iterable[Any],
    folder: str | Path,
    *,
    cluster: str | None = None,
    at_once: int | None = None,
    **resources: Any,
) -> list[Any]:
    """Calls function(argument) for each argument in a job of its own; returns the results, in
    order.

    It waits for all jobs. folder: for logs and pickled results; every job has to see it. cluster:
    "slurm", "local" (processes of this machine), or None for SLURM where there is one, else local.
    at_once: how many jobs may run at a time; None is no limit. resources: as submitit names them,
    such as timeout_min=60, cpus_per_task=4, gpus_per_node=1, slurm_partition="..."; a job ends
    after a day if nothing else is said.

    A job that is to make room gets submitit's signal: a run of jaxpg in it ends after the chunk in
    hand, with a checkpoint, and SLURM queues the job again, which calls the function anew. So let
    the function resume a run folder that is there. If it has a method `checkpoint`, as submitit
    asks for, a job whose time is up is queued again too.

    Raises ImportError without submitit, ValueError for a cluster or number that is not allowed, and
    RuntimeError, when all jobs have ended, if some failed: which, why, and where the logs are.

    >>> jaxpg.fan_out(abs, [-1, 2], "jobs", cluster="local")
    [1, 2]
    """
    if cluster not in CLUSTERS:
        raise ValueError(f"cluster={cluster!r}: allowed is one of {CLUSTERS}")
    require_folder("folder", folder)
    if at_once is not None:
        require_integer("at_once", at_once, 1)
    require_extra("submitit", "submitit", "fan_out")
    import submitit

    executor = submitit.AutoExecutor(folder, cluster=cluster)
    if at_once and executor.cluster == "slurm":
        resources["slurm_array_parallelism"] = at_once
    executor.update_parameters(**{"timeout_min": DAY, **resources})
    arguments, jobs, task = list(arguments), [], _Task(function)
    if executor.cluster == "slurm":
        jobs = executor.map_array(task, arguments)
    else:
        for argument in arguments:
            if at_once and len(jobs) >= at_once:
                jobs[-at_once].wait()
            jobs.append(executor.submit(task, argument))

    failed = {i: error for i, job in enumerate(jobs) if (error := job.exception()) is not None}
    if failed:
        why = [f"{arguments[i]!r}: {_last_error_line(e)}" for i, e in failed.items()]
        raise RuntimeError(
            f"{len(failed)} of {len(jobs)} jobs failed, logs are in {folder}: " + "; ".join(why)
        )
    return [job.result() for job in jobs]


class _Task:
    """Function of a job, whose runs end in good order at the signal that submitit sends. Its own
    handler of that, which queues the job again, is called when they have."""

    def __init__(self, function: Callable[[Any], Any]):
        self.function = function

    def __call__(self, argument: Any) -> Any:
        names = ("SIGUSR1", "SIGUSR2")  # by default the second; SUBMITIT_PREEMPT_SIGNAL says it
        with hand_on(getattr(signal, name) for name in names if hasattr(signal, name)):
            return self.function(argument)

    def __getattr__(self, name: str) -> Any:
        if name != "checkpoint":
            raise AttributeError(name)
        return self.function.checkpoint  # type: ignore


def _last_error_line(error: Exception) -> str:
    """Last line of the traceback that submitit has between two rules; or, where a job left none,
    what it says of that."""
    before, *trace = str(error).split(RULE)
    return (trace[0].splitlines()[-1] if trace else before.splitlines()[0]).strip()
