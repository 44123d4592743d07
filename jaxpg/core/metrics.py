"""Metrics of the episodes that end in a rollout: their mean return, length and signals."""

import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import show
from jaxpg.core.types import Array, EnvState, Metrics, Transition

COLUMNS = ("config", "seed", "iteration", "env_steps")  # that tables have beside the metrics


def require_metrics(shapes: Metrics) -> None:
    """Raises ValueError unless metrics are scalars with names that a table can have: "loss/policy".

    shapes: the metrics of one iteration, as `jax.eval_shape` gives them. Truths are written as 0
    and 1.
    """
    if not isinstance(shapes, dict) or not shapes:
        raise ValueError(f"metrics={show(shapes)}: allowed is a dict of scalars, at least one")
    for name, x in shapes.items():
        if (
            not isinstance(name, str)
            or not name.isprintable()
            or name != name.strip()
            or set(name) & set(',"')
            or name in ("", *COLUMNS)
            or name.startswith("eval/")
        ):
            raise ValueError(
                f"metric {show(name)}: allowed is a name in one line without commas, quotes and "
                f"blanks around it, and none of {', '.join(COLUMNS)} and eval/..."
            )
        if getattr(x, "shape", None) != () or not _is_real(x.dtype):
            raise ValueError(f"metric {show(name)} is {show(x)}: allowed is a scalar, real or bool")


def _is_real(dtype) -> bool:
    kinds = (np.bool_, np.integer, np.floating)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def ended_episodes(state: EnvState, t: Transition) -> dict[str, Array]:
    """Sums over the episodes that end with a step [N, ...] from `state`: `return`, `length`, every
    scalar signal, and `count`, how many they are."""
    ended = t.terminated | t.truncated
    sums = {k: ((x + t.signals[k]) * ended).sum() for k, x in state.episode_signals.items()}
    return sums | {
        "return": ((state.episode_return + t.reward) * ended).sum(),
        "length": ((state.episode_length + 1) * ended).sum(dtype=jnp.int32),
        "count": ended.sum(dtype=jnp.int32),
    }


def episode_metrics(sums: dict[str, Array]) -> Metrics:
    """Means an episode, from such sums: `episode/<name>`, and `episode/count`.

    0 / 0 is NaN: before the first episode ends there is no mean.
    """
    count = sums["count"]
    means = {f"episode/{name}": x / count for name, x in sums.items() if name != "count"}
    return means | {"episode/count": count}


def merge_metrics(metrics: Metrics) -> Metrics:
    """The metrics `episode/...` of one rollout from those of several, each [K]."""
    count = metrics["episode/count"]
    total = count.sum(dtype=jnp.int32)

    def mean(x):
        return jnp.where(count > 0, x * count, 0).sum() / total

    episodes = {k: mean(x) for k, x in metrics.items() if k.startswith("episode/")}
    return episodes | {"episode/count": total}
