"""Faults of time limits. The same episodes are played with a shorter limit: where one ends earlier,
the limit has ended it, and nothing else has."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from jaxpg.core.env import Env
from jaxpg.core.protocol import Fault
from jaxpg.envs.contract.ends import not_equal, numbers
from jaxpg.envs.contract.play import Steps
from jaxpg.envs.recipes import fields_of, put, take
from jaxpg.envs.wrappers.params import repeats_of

NAME = "max_steps_in_episode"
SHORT = 10  # steps, at most


def with_limit(env: Env) -> tuple[int, Env] | None:
    """A limit and the environment with it; None where there is none to make shorter. Where actions
    are repeated, in steps of the agent; no repetition is cut in half."""
    limit, repeats = _limit_of(env), repeats_of(env.params)
    if limit is None or limit <= repeats:
        return None
    short = max(min(SHORT, limit - 1) // repeats, 1) * repeats
    value = take(env.params, NAME)
    value = (
        type(value)(short) if isinstance(value, (int, float)) else np.asarray(short, value.dtype)
    )
    return short // repeats, dataclasses.replace(env, params=put(env.params, {NAME: value}))


def _limit_of(env: Env) -> int | None:
    """The time limit that parameters have, if they have one."""
    if NAME not in fields_of(env.params):
        return None
    value = take(env.params, NAME)
    return int(value) if np.ndim(value) == 0 and np.isfinite(value) else None


def find_faults(name: str, limit: int, long: Steps, short: Steps) -> Iterator[Fault]:
    """Compares first episodes with and without a short limit."""
    ends, usual = _first_ends(short), _first_ends(long)
    if (ends > limit).any():
        text = (
            f"{name}: with {NAME}={limit} an episode goes on beyond it: allowed is to set truncated"
        )
        yield Fault("time limit", f"{text} there, or to have no parameter of that name")
    cut = np.flatnonzero(ends < np.minimum(usual, len(short.reward)))
    if not len(cut):
        return
    at = ends[cut], cut
    if short.terminated[at].any():
        text = f"{name}: terminated is set where {NAME}={limit} alone ends an episode: allowed is "
        text += (
            "truncated and not terminated there (if the task itself ends then, give the parameter "
        )
        yield Fault("time limit", f"{text}another name)")
    final, true = (numbers(x.final, 2)[at] for x in (short, long))
    if not_equal(final, true).any() and not _alike_before(long, short, ends, cut):
        text = (
            f"{name}: final_observation where {NAME} ends an episode is not what the step led to: "
        )
        text += "allowed is the last observation of that episode, as if it had gone on"
        yield Fault("final observation", text)


def _first_ends(steps: Steps) -> np.ndarray:
    """The step [N] with which each first episode ends; T if none does."""
    ended = steps.ended
    return np.where(ended.any(0), ended.argmax(0), len(ended))


def _alike_before(long: Steps, short: Steps, ends: np.ndarray, cut: np.ndarray) -> bool:
    """True if the limit is seen, or changes anything, before it is reached."""
    before = np.arange(len(long.reward))[:, None] < ends[cut]
    differs = not_equal(*(numbers(x.obs, 2)[:, cut] for x in (long, short))).any(-1)
    return bool((differs & before).any())


def find_both_flags(name: str, env: Env, steps: Steps) -> Iterator[Fault]:
    """Looks for ends that are both, terminated and truncated, without being at a limit."""
    limit, ends = _limit_of(env), _first_ends(steps)
    lanes = np.flatnonzero(ends < len(steps.reward))
    if limit is None:
        both, ended = steps.terminated & steps.truncated, steps.ended
        wrong = ended.sum() > 3 and (both == ended).all()
    else:
        at = ends[lanes], lanes
        wrong = (steps.terminated[at] & steps.truncated[at] & (ends[lanes] + 1 < limit)).any()
    if wrong:
        text = f"{name}: terminated and truncated are both set at an end that is no time limit: "
        yield Fault(
            "time limit", f"{text}allowed is terminated where the task ends, truncated if not"
        )
