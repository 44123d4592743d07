"""Metrics of the episodes that end in a rollout: their mean return, length and signals; and what
says "no data" where there is nothing to take the mean of."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import signals, sums
from jaxpg.core.checks import require_integer, show
from jaxpg.core.types import Array, EnvState, Metrics, Transition

MOST = 10**6  # episodes of a mean: more are not "recent", and their sums might overflow
ACTIVE = "lane/active"  # the metric that says in which rows a lane still learnt
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


def is_count(name: str) -> bool:
    """True for a metric that counts, `episode/count` or any other "group/count": of several
    iterations it is the sum, of others a mean."""
    return name.endswith("/count") or name in (ACTIVE, "population/env_steps")


def weigh(series: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Terms and weights of the mean of a series over iterations, float64 and on the host: in a
    metric of episodes each episode counts once, in others each iteration; NaN ("no data") and lanes
    that have ended do not count."""
    values = series[name].astype(float)
    weight = ~np.isnan(values)
    if ACTIVE in series and not is_count(name):
        weight = weight & (series[ACTIVE] > 0)
    if name.startswith("episode/") and not is_count(name):
        weight = series.get("episode/count", weight)
    return np.where(weight > 0, values, 0) * weight, weight


def add_step(state: EnvState, t: Transition) -> tuple[dict[str, Array], dict[str, Array]]:
    """Sums over the running episodes [N] with the step t from `state`, `return` and those of
    `signals.summed`; and what rounding lost of each."""
    so_far = {"return": state.episode_return} | state.episode_signals
    step = {"return": t.reward} | signals.terms(t.signals, state.episode_signals)
    both = {k: sums.add(x, state.episode_lost[k], step[k]) for k, x in so_far.items()}
    return {k: x for k, (x, _) in both.items()}, {k: lost for k, (_, lost) in both.items()}


def ended_episodes(state: EnvState, t: Transition, apart: bool = False) -> dict[str, Array]:
    """Sums over the episodes that end with a step [N, ...] from `state`: `return`, `length`, every
    scalar signal, and `count`, how many they are. apart: of each environment by itself, [N]."""

    def total(x: Array, dtype=None) -> Array:
        return x.astype(dtype or x.dtype) if apart else x.sum(dtype=dtype)

    ended = t.terminated | t.truncated
    totals = {k: total(jnp.where(ended, x, 0)) for k, x in add_step(state, t)[0].items()}
    return totals | {
        "length": total(jnp.where(ended, sums.one_more(state.episode_length), 0), float),
        "count": total(ended, jnp.int32),
    }


def no_episodes(state: EnvState, apart: bool = False) -> dict[str, Array]:
    """Such sums before the first episode ends."""
    shape = state.episode_return.shape if apart else ()
    totals = dict.fromkeys(("return", "length", *state.episode_signals), jnp.zeros(shape, float))
    return totals | {"count": jnp.zeros(shape, jnp.int32)}


def episode_metrics(sums: dict[str, Array]) -> Metrics:
    """Means an episode, from such sums: `episode/<name>`, and `episode/count`."""
    sums = {name: x.sum(dtype=x.dtype) if x.ndim else x for name, x in sums.items()}
    count = sums["count"]
    means = {f"episode/{n}": mean_if_any(x, count) for n, x in sums.items() if n != "count"}
    return means | {"episode/count": count}


def merge_metrics(metrics: Metrics) -> Metrics:
    """The metrics `episode/...` of one rollout from those of several, each [K]."""
    count = metrics["episode/count"]
    total = count.sum(dtype=jnp.int32)

    def mean(x):
        return mean_if_any(jnp.where(count > 0, x * count, 0).sum(), total)

    episodes = {k: mean(x) for k, x in metrics.items() if k.startswith("episode/")}
    return episodes | {"episode/count": total}


def mean_if_any(total: Array, count: Array) -> Array:
    """Mean of `count` [] numbers, given their total; "no data" if there are none."""
    x = total / jnp.maximum(count, 1)
    return jnp.where(count > 0, x, no_data(x.dtype))


def no_data(dtype) -> float:
    """Number that stands for "no data" in a float metric: NaN.

    Under `jax_debug_nans`, which takes every NaN that a program returns for an error, it is the
    lowest finite number until `nan_for_no_data` is called on the host.
    """
    return float(jnp.finfo(dtype).min) if jax.config.values["jax_debug_nans"] else np.nan


def nan_for_no_data(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics on the host with NaN for "no data", whatever stood for it on the device."""
    if not jax.config.values["jax_debug_nans"]:
        return metrics

    def mend(x: np.ndarray) -> np.ndarray:
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return np.where(x == no_data(x.dtype), x.dtype.type(np.nan), x) if floating else x

    return {name: mend(x) for name, x in metrics.items()}


class Recent(NamedTuple):
    """Mean over the episodes that ended last, and how old it is.

    >>> metrics = {"episode/return": jax.numpy.array([10.0, jax.numpy.nan, 20.0, jax.numpy.nan])}
    >>> metrics["episode/count"] = jax.numpy.array([2, 0, 1, 0])
    >>> recent = jaxpg.recent_mean(metrics, episodes=1)
    >>> float(recent.mean), int(recent.episodes), int(recent.age)
    (20.0, 1, 1)
    """

    mean: Any  # [], or [seeds]; NaN if no episode has ended at all
    episodes: Any  # int, how many they are
    age: Any  # int, rows of the metrics since the newest of them ended: 0 is the last one


def recent_mean(
    metrics: Mapping[str, Any], name: str = "episode/return", episodes: int = 100
) -> Recent:
    """Mean of a metric over the episodes that ended last: the return that training has come to.

    In an iteration in which no episode ended `episode/return` is NaN, and the last iteration may be
    one: `metrics["episode/return"][-1]` is the return of a few episodes, or of none. This goes back
    from the end of the run over whole iterations until they hold `episodes` episodes, or over all
    of them if there are not as many, and counts every episode once.

    metrics: of `jaxpg.train` or `jaxpg.run`, each [rows] or [..., rows], a row for each iteration
    or, of a long run, for a block of them; the answer is [] or [...]. Pure, so it works under `jit`
    and `vmap`; of NumPy arrays it is NumPy. Raises ValueError for a name that is no mean over
    episodes, and for `episodes` < 1.

    >>> env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    >>> _, metrics = jaxpg.train(jaxpg.q_learning, cfg, env, jax.random.key(0), total_steps=1000)
    >>> recent = jaxpg.recent_mean(metrics, episodes=10)
    >>> bool(jax.numpy.isfinite(recent.mean)), recent.episodes.shape
    (True, ())
    """
    require_integer("episodes", episodes, 1, MOST)
    known = [x for x in metrics if x.startswith("episode/") and x != "episode/count"]
    if name not in known or "episode/count" not in metrics:
        some = ", ".join(known) or "none here, for nothing counts episodes"
        raise ValueError(f"name={show(name)}: allowed is a mean over episodes: {some}")
    x, count = metrics[name], metrics["episode/count"]
    xp = np if isinstance(x, np.ndarray) else jnp
    few = xp.minimum(count, episodes)  # as good a count for this, and no sum of it overflows
    later = xp.flip(xp.cumsum(xp.flip(few, -1), -1), -1) - few  # episodes that ended after it
    weight = xp.where(later < episodes, count, 0)
    total = weight.sum(-1)
    mean = xp.where(weight > 0, x, 0) * weight
    mean = mean.sum(-1) / xp.maximum(total, 1)
    nothing = np.nan if xp is np else no_data(x.dtype)
    age = (later + few == 0).sum(-1)
    return Recent(xp.where(total > 0, mean, nothing).astype(x.dtype), total, age)
