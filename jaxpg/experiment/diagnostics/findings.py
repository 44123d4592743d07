"""Findings of a run that learnt nothing: what its metrics show, and what to try."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.core import episodes
from jaxpg.core.env import Env
from jaxpg.core.parallel.lanes import has_lanes
from jaxpg.core.run import Result
from jaxpg.core.single import may_terminate
from jaxpg.core.train import initial_state
from jaxpg.core.types import Agent, Array, Key
from jaxpg.envs import registry
from jaxpg.experiment.analysis.thresholds import solved
from jaxpg.experiment.diagnostics import verdicts
from jaxpg.experiment.diagnostics.verdicts import Series, World

UNTRAINED = 32, 10_000  # episodes of the policy before it learnt, and the longest that are played
_PLAY = 0xF1D  # folded into the key: what is played here shares no key with training

# What to try, by finding: fields of configs and what they are to become, the first FIELDS of those
# that an agent has. "higher" and "lower" are of what it is.
FIELDS = 3
TRY: dict[str, tuple[tuple[str, Any], ...]] = {
    "goal": (
        ("normalize_obs", True), ("normalize_reward", True), ("initial_value", "higher"),
        ("bonus", "rnd"), ("entropy_coef", "higher"), ("exploration_fraction", "higher"),
        ("epsilon", "higher"), ("noise_std", "higher"), ("alpha", "higher"), ("sigma", "higher"),
        ("slots", "higher"),
    ),
    "return": (
        ("memory", "gru"), ("normalize_obs", True), ("normalize_reward", True), ("bonus", "rnd"),
        ("learning_rate", "higher"), ("max_kl", "higher"), ("sigma", "higher"),
    ),
    "fall": (
        ("learning_rate", "lower"), ("max_kl", "lower"), ("max_grad_norm", "lower"),
        ("tau", "lower"), ("sigma", "lower"),
    ),
    "way": (("trajectory_steps", "higher"), ("slots", "higher"), ("num_steps", "higher")),
    "critic": (
        ("normalize_reward", True), ("clip_value", False), ("normalize_obs", True),
        ("critic_learning_rate", "higher"), ("value_coef", "higher"),
    ),
    "policy": (
        ("normalize_advantage", True), ("normalize_reward", True), ("learning_rate", "higher"),
        ("max_kl", "higher"),
    ),
    "entropy": (("entropy_coef", "higher"), ("alpha", "higher"), ("learning_rate", "lower")),
}  # fmt: skip


class Change(NamedTuple):
    """Change of a config's field."""

    field: str
    to: Any  # a value, or "higher" or "lower" than it is
    value: Any  # that it has

    def describe(self, option: bool = False) -> str:
        """Says it as in Python or, with `option`, as an option of the command."""
        name = f"--config.{self.field.replace('_', '-')}" if option else self.field
        if self.to in ("higher", "lower"):
            return f"a {self.to} {name} than {self.value:g}"
        if not option:
            return f"{name}={self.to!r}"
        if isinstance(self.to, bool):
            return name if self.to else name.replace(".", ".no-", 1)
        return f"{name} {self.to}"


class Finding(NamedTuple):
    """Finding about a run that learnt nothing, in which of its seeds it holds, and what to try."""

    name: str  # "goal", "return", "fall", "way", "critic", "policy" or "entropy"
    seeds: np.ndarray  # [seeds] bool
    text: str  # what is found, a sentence
    changes: tuple[Change, ...]

    @property
    def sentence(self) -> str:
        """Sentence of what is found, and in how many of several seeds."""
        if len(self.seeds) == 1:
            return self.text
        return f"{self.text.removesuffix('.')} ({self.seeds.sum()} of {len(self.seeds)} seeds)."

    def advise(self, options: bool = False) -> str:
        """Says what to try, by the names of fields or of the command's options."""
        words = [x.describe(options) for x in self.changes] or ["more steps"]
        return f"Try {' or '.join(x for x in (', '.join(words[:-1]), words[-1]) if x)}."


def find_failures(
    metrics: Mapping[str, Any],
    evaluations: Mapping[str, Any] | None = None,
    world: World | None = None,
    config: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Finds what shows that a run learnt nothing; [] of one that learnt, or is too short to judge.

    metrics: of `jaxpg.run`, each [rows] or [seeds, rows]. evaluations: of its result, each [k] or
    [seeds, k]. config: the fields of the agent's by name, for what to try. What is judged by which
    threshold is in docs/diagnostics.md. Pure: nothing is trained or played.

    >>> metrics = {"episode/return": np.full(50, -200.0), "episode/length": np.full(50, 200.0)}
    >>> metrics["episode/count"] = np.full(50, 3)
    >>> world, config = World(limit=200), {"normalize_obs": False}
    >>> for finding in find_failures(metrics, {}, world, config):
    ...     print(finding.text, finding.advise())
    No episode reached its goal: all 150 lasted to the limit of 200 steps. Try normalize_obs=True.
    """
    world, config = world or World(), config or {}
    series = {name: np.atleast_2d(np.asarray(x)) for name, x in metrics.items()}
    if not {"episode/return", "episode/count"} <= {*series}:
        return []
    count = len(series["episode/count"])
    played = {name: np.atleast_2d(np.asarray(x, float)) for name, x in (evaluations or {}).items()}
    played = {name: x for name, x in played.items() if len(x) == count}  # not the steps of all
    judged = []
    for i in range(count):
        mine, own = ({k: x[i] for k, x in part.items()} for part in (series, played))
        judged.append(verdicts.judge_seed(mine, own, world))
    held = {
        name: np.array([x == name for x in judged]) for name in ("goal", "return", "fall", "way")
    }
    failed = np.any([*held.values()], 0)
    held |= {name: failed & x for name, x in verdicts.judge_learner(series, world).items()}
    found, named = [], []
    for name, seeds in held.items():
        if seeds.any():
            text = _describe(name, {k: x[seeds] for k, x in series.items()}, world)
            found.append(Finding(name, seeds, text, _changes(name, config, named)))
            named += [x.field for x in found[-1].changes]
    return found


def diagnose(result: Result, from_start: bool = False) -> list[Finding]:
    """Finds what shows that a run learnt nothing, as `find_failures`, with what is known of its
    environment and its config; what `jaxpg train` says at its end.

    from_start: the metrics begin with a policy that had learnt nothing, as those of a run folder
    do. Else, if something is found, such a policy plays: a run that is better than it is no failure
    (`jaxpg.core.run.run(state=...)` may begin with one that is good).

    >>> env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    >>> result = jaxpg.run(jaxpg.q_learning, cfg, env, jax.random.key(0), total_steps=9000)
    >>> jaxpg.diagnostics.diagnose(result)
    []
    """
    cfg, env = result.cfg, result.env
    config = {field.name: getattr(cfg, field.name) for field in dataclasses.fields(cfg)}
    limit = getattr(env.params, "max_steps_in_episode", None)
    limit = None if limit is None or np.ndim(limit) else float(limit)
    world = World(
        limit=limit,
        terminates=may_terminate(env.core, env.params),
        solved=solved(registry.to_dict(env)) if env.made_of else None,
        actions=getattr(env.action_space, "n", None),
    )
    found = find_failures(result.metrics, result.evaluations, world, config)
    many, longest = UNTRAINED
    if from_start or not found or limit is None or limit > longest or has_lanes(cfg):
        return found
    key = jax.random.fold_in(jax.random.key(0), _PLAY)
    returns, lengths = map(
        np.asarray, _play_untrained(result.agent, cfg, env, key, many, int(limit))
    )
    world = world._replace(returns=returns, lengths=lengths)
    return find_failures(result.metrics, result.evaluations, world, config)


@functools.partial(jax.jit, static_argnames=("agent", "count", "num_steps"))
def _play_untrained(
    agent: Agent, cfg: Any, env: Env, key: Key, count: int, num_steps: int
) -> tuple[Array, Array]:
    """Returns and lengths [count] of episodes under the policy with which a run begins."""
    k_init, k_play = jax.random.split(key)
    policy = episodes.policy_of(
        agent, cfg, env, initial_state(agent, cfg, env, k_init), greedy=False
    )
    t, _, mask = episodes.play(env, policy, k_play, count, num_steps)
    return (t.reward * mask).sum(0), mask.sum(0)


def name_failed(findings: list[Finding]) -> str:
    """Says that seeds learnt nothing, and how many they are."""
    failed = np.any([x.seeds for x in findings], 0)
    several = f"{failed.sum()} of {len(failed)} seeds" if len(failed) > 1 else "This run"
    return f"{several} learnt nothing."


def _describe(name: str, series: Series, world: World) -> str:
    """Says what is found, with the numbers of the seeds in which it holds."""
    if name == "goal":
        count = int(series["episode/count"].sum())
        said = f"all {count:,} lasted to the limit of {world.limit:g} steps"
        return f"No episode reached its goal: {said}."
    if name in ("return", "fall"):
        return _describe_returns(name, series)
    if name == "way":
        lengths = series["episode/best_length"][:, -1]
        if np.isnan(lengths).any():
            return "No way in the archive leads to the end of an episode."
        said = f"the best episode lasted to the limit of {world.limit:g} steps"
        return f"No way in the archive leads to a goal: {said}."
    if name == "critic":
        explained = verdicts.late_median(series["value/explained_variance"]).mean()
        (said,) = _round(explained, digits=2)
        return f"The critic explains nothing: its explained variance is {said}."
    if name == "entropy":
        left = verdicts.late_median(series["policy/entropy"]).mean()
        return f"The policy stopped exploring: its entropy is {left:.2g} nats."
    kl = verdicts.find_kl(series)
    if (kl < verdicts.MOVED).any():
        return f"The policy did not move: an update is a KL of {np.nanmean(kl):.1g} nats."
    return "The policy did not move: its entropy stayed that of random actions."


def _describe_returns(name: str, series: Series) -> str:
    rows = [{k: x[i] for k, x in series.items()} for i in range(len(series["episode/count"]))]
    curves = [x for x in map(verdicts.split_curve, rows) if x]
    parts = [[x.starts[0].mean, max(y.mean for y in x.tenths), x.end.mean] for x in curves]
    mean = np.mean(parts, 0)
    first, best, last = _round(*mean, digits=3 - int(np.log10(np.abs(mean).max() or 1)))
    if name == "fall":
        return f"Returns rose from {first} to {best}, and fell back to {last}."
    return f"Returns did not rise: {first} in the first episodes, {last} in the last."


def _round(*numbers: float, digits: int) -> list[str]:
    """Numbers with so many digits behind the point, at most; none is -0."""
    return [f"{round(float(x), digits) + 0.0:.6g}" for x in numbers]


def _changes(name: str, config: Mapping[str, Any], named: list[str]) -> tuple[Change, ...]:
    """Fields to try, those that the agent has, that are not so already, and that are not named yet;
    if none is left, one of those."""
    known = [Change(field, to, config[field]) for field, to in TRY[name] if field in config]
    known = [x for x in known if _is_open(x)]
    return tuple([x for x in known if x.field not in named][:FIELDS] or known[:1])


def _is_open(change: Change) -> bool:
    """True unless a field is so already, is off, or differs between lanes."""
    _, to, value = change
    if to in ("higher", "lower"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return bool(value == ("none" if isinstance(to, str) else not to))
