"""Any algorithm of evosax (Lange 2022, arXiv:2212.04180) by its name: CMA_ES, PGPE, SNES, ...

evosax asks and is told; the fitness is ours. It minimises, so it is told minus the return, and a
candidate that is not finite as the worst that was. Algorithms that keep a distribution act by its
mean (or, with `use_best`, by the best candidate that was ever met), those that keep a population
by its best member; they begin with a first population, whose episodes `init` plays.

    pip install 'jaxpg[evosax]'
"""

import importlib
import inspect
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import fields
from jaxpg.core.checks import show
from jaxpg.core.config import config, number, static, unknown
from jaxpg.core.env import Env
from jaxpg.core.train import episode_steps
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Tree
from jaxpg.loops import population
from jaxpg.loops.optimizers import build_optimizer
from jaxpg.nets.networks import MLP
from jaxpg.ops.normalize import RunningStats, init_stats


@config
class Config:
    strategy: str = static("CMA_ES", help="Class of evosax, by its name.")
    population: int = static(64, ge=2, help="Candidates of an iteration.")
    sigma: float = number(0.3, ge=0, help="First deviation, if the algorithm has one.")
    learning_rate: float | None = number(
        None, ge=0, help="Learning rate of the optimiser; None is the algorithm's own rule."
    )
    optimizer: Optimizer = fields.optimizer("adam", of="mean, where there is a learning rate")
    use_best: bool = static(
        False, help="The policy is the best candidate, else the mean of the search."
    )
    normalize_obs: bool = fields.normalize_obs(False)
    episodes: int = fields.episodes(4)
    num_steps: int | None = fields.episode_steps(None)
    greedy: bool = fields.greedy(True)
    common_random_numbers: bool = fields.common_random_numbers(True)
    slice_size: int | None = fields.slice_size(None)
    devices: int = fields.devices(1)
    head: str = fields.point_head("auto")
    temperature: float = fields.temperature(1.0)
    net: fields.Net = fields.net(MLP)
    hidden: tuple[int, ...] = fields.hidden(())
    activation: fields.Activation = fields.activation("tanh")
    kernel_init: fields.Initializer = fields.kernel_init("orthogonal")
    layer_norm: bool = fields.layer_norm(False)

    shared: ClassVar[bool] = False  # one network
    memory: ClassVar[str] = "none"  # candidates act on one observation at a time
    batch_norm: ClassVar[bool] = False  # a search has no batch to take statistics of


class TrainState(NamedTuple):
    params: Array  # [D] what acts
    search: Tree  # evosax's own state
    obs_stats: RunningStats | tuple[()]  # () when off
    iteration: Array  # [] int32
    key: Key


def strategies() -> dict[str, type]:
    """evosax's algorithms that need no more than a population and a solution, by name.

    Raises ValueError if evosax is not installed.
    """
    try:
        algorithms = importlib.import_module("evosax.algorithms").algorithms
    except ImportError as error:
        raise ValueError("the agent evosax needs: pip install 'jaxpg[evosax]'") from error

    def needed(cls) -> int:
        parameters = inspect.signature(cls).parameters.values()
        return sum(p.default is p.empty for p in parameters)

    return {name: cls for name, cls in algorithms.items() if needed(cls) == 2}


def algorithm(cfg: Config, env: Env, params: Array):
    """The algorithm for parameters like `params` [D], and the numbers that it takes.

    Where an optimiser moves a mean, `params` is that mean: decay of weights reads it.
    """
    if cfg.strategy not in strategies():
        raise unknown("evosax.Config strategy", cfg.strategy, strategies())
    cls, options = strategies()[cfg.strategy], {}
    if cfg.learning_rate is not None:
        options["optimizer"] = optimizer(cfg, env, params)
    elif cfg.optimizer != "adam":
        raise ValueError(
            f"evosax.Config learning_rate=None: with optimizer={show(cfg.optimizer)} allowed is a "
            "number >= 0; without one it is the algorithm's own rule that moves the mean"
        )
    options["std_schedule"] = lambda _: jnp.asarray(cfg.sigma, params.dtype)
    known = inspect.signature(cls).parameters
    options = {name: value for name, value in options.items() if name in known}
    try:
        it = cls(cfg.population, jnp.zeros_like(params), **options)
    except AssertionError as error:
        raise ValueError(f"evosax.Config population={cfg.population}: {error}") from error
    numbers = it.default_params
    if hasattr(numbers, "std_init"):
        numbers = numbers.replace(std_init=jnp.asarray(cfg.sigma, params.dtype))
    return it, numbers


def optimizer(cfg: Config, env: Env, mean: Array) -> optax.GradientTransformation:
    """The optimiser of the mean [D] of a search. evosax gives it no parameters, so it has them."""
    unravel = population.unraveller(cfg, env)
    rule = build_optimizer(cfg.optimizer, cfg.learning_rate, unravel=unravel)

    def update(updates, state, params=None):
        return rule.update(updates, state, mean)

    return optax.GradientTransformation(rule.init, update)


def call(method, *args):
    """One of evosax's methods, without its own `jit`, which would keep every trace for ever."""
    return inspect.unwrap(method.__func__)(method.__self__, *args)


def incumbent(cfg: Config, search: Tree, params: Array) -> Array:
    """Parameters that act: the mean of the distribution, or else the best candidate so far."""
    mean = search.best_solution if cfg.use_best else getattr(search, "mean", search.best_solution)
    return mean.astype(params.dtype)


def init(cfg: Config, env: Env, key: Key) -> TrainState:
    key, k_params, k_search, k_noise, k_eval = jax.random.split(key, 5)
    params = population.initial_params(cfg, env, k_params)
    stats = init_stats(env.example_obs, cfg.normalize_obs)
    it, numbers = algorithm(cfg, env, params)
    begin = (params,)
    if "population" in inspect.signature(inspect.unwrap(type(it).init)).parameters:
        first = population.neighbours(params, cfg.sigma, k_noise, cfg.population)
        value, stats, _ = population.fitness(cfg, env, first, stats, k_eval)
        begin = first, -population.bounded(value)
    search = jax.tree.map(jnp.asarray, call(it.init, k_search, *begin, numbers))
    return TrainState(params, search, stats, jnp.zeros((), jnp.int32), key)


def step(cfg: Config, env: Env, state: TrainState) -> tuple[TrainState, Metrics]:
    key, k_ask, k_eval, k_tell = jax.random.split(state.key, 4)
    mean = getattr(state.search, "mean", state.params).astype(state.params.dtype)
    it, numbers = algorithm(cfg, env, mean)
    candidates, search = call(it.ask, k_ask, state.search, numbers)
    candidates = candidates.astype(state.params.dtype)
    value, stats, metrics = population.fitness(cfg, env, candidates, state.obs_stats, k_eval)
    told = -population.bounded(value)
    search, _ = call(it.tell, k_tell, candidates, told, search, numbers)
    search = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), search, state.search)
    params = incumbent(cfg, search, state.params)
    return TrainState(params, search, stats, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return population.act(cfg, env, state.params, state.obs_stats, obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """Upper bound: every episode at full length. `population/env_steps` counts the steps taken."""
    return cfg.population * cfg.episodes * episode_steps(cfg)


evosax = Agent("evosax", Config, init, step, act, steps_per_iter)
