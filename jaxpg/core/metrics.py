"""Metrics of the episodes that end in a rollout: their mean return, length and signals."""

import jax.numpy as jnp

from jaxpg.core.types import Array, EnvState, Metrics, Transition


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
