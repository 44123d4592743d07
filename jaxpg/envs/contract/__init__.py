"""The contract of environments, line by line: `jaxpg.check_env`.

traces.py    what two traces show: side effects, randomness of its own, NumPy where JAX is meant
play.py      random episodes, in one compiled program
episodes.py  what they show: bounds, numbers that are not finite, auto-resets, time limits, masks
goals.py     what environments with goals promise beside
strict.py    what training forgives, and other libraries do not
"""

from typing import Any

import jax
import jax.core

from jaxpg.core import protocol, resets, signals, spaces
from jaxpg.core.checks import show
from jaxpg.core.env import Env
from jaxpg.core.game_rules import find_game_faults, is_game
from jaxpg.core.gymnax_import import has_own_step
from jaxpg.core.protocol import METHODS, Fault
from jaxpg.core.single import is_batched, name_of
from jaxpg.envs import registry
from jaxpg.envs.contract import episodes, goals, strict, traces

RULES = {  # as docs/environments.md states them
    "methods": "reset, step, the two spaces and default_params, with gymnax's arguments",
    "hash": "a core has a hash, which stays the same",
    "parameters": "a pytree of numbers",
    "action space": "Discrete, MultiDiscrete, MultiBinary or Box, with bounds that fit",
    "observation space": "one of these, or a Dict or Tuple of them",
    "traceable": "reset and step can be traced by JAX",
    "values": "reset gives two values, step six",
    "reward": "one real number",
    "ends": "terminated and truncated are one bool each",
    "observation": "of one structure, shape and dtype, as its space says",
    "final observation": "info has the true successor, also at an end",
    "state": "of one structure, shapes and dtypes",
    "signals": "names of real arrays in info",
    "goals": "reward and terminated are those of goal_reward and goal_reached",
    "reset pool": "an integer >= 1",
    "pure": "same key, same result; nothing is kept in the object",
    "keys": "what is random is drawn from the key that is given",
    "finite": "no NaN and no infinity in observations, rewards and signals",
    "bounds": "observations lie in their space",
    "auto-reset": "after an end follows a new episode",
    "time limit": "truncated, and not terminated, where max_steps_in_episode cuts an episode short",
    "mask": "one entry for every action, and at least one action is legal",
    "players": "of a game: a row of observations, an action and a reward for each",
}


def check_env(env: Env | Any) -> None:
    """Checks an environment against the contract, line by line, and runs it for some steps.

    env: an Env, a core (then with its default parameters), or a name as `jaxpg.make` takes it.
    Looks at shapes, traces `reset` and `step` twice, and plays a few random episodes, some of them
    under a short time limit. Raises one ValueError with all faults, each in one sentence that says
    what to change, and for an environment on the host. The lines of the contract are in
    docs/environments.md.

    >>> jaxpg.check_env(jaxpg.make("Cliff-jaxpg"))
    >>> class Core:
    ...     default_params = ()
    >>> try:
    ...     jaxpg.check_env(Core())
    ... except ValueError as error:
    ...     print(str(error).split(":")[0])
    Core breaks the contract of environments
    """
    env = _as_env(env)
    name = name_of(env.core)
    if is_batched(env.core):
        raise ValueError(
            f"{name} is on the host, where the contract of JAX's environments cannot hold: allowed "
            "are those in JAX; for this one there is gymnasium.utils.env_checker.check_env"
        )
    if found := _find_faults(env):
        lines = [f"- {rule}: {text.removeprefix(name).lstrip(': ')}" for rule, text in found]
        raise ValueError("\n".join([f"{name} breaks the contract of environments:", *lines]))


def _as_env(env: Any) -> Env:
    """The Env of what `check_env` takes."""
    if isinstance(env, str):
        return registry.make(env)
    if isinstance(env, type):
        raise ValueError(f"env={show(env)}: allowed is an instance of that class, not the class")
    if not isinstance(env, Env):
        if not any(hasattr(env, name) for name in [*METHODS, "default_params"]):
            raise ValueError(
                f"env={show(env)}: allowed is what jaxpg.make gives, a name that it takes, a "
                f"jaxpg.Env, or a core, with {', '.join(METHODS)} and default_params"
            )
        try:
            env = Env(env.default_params, env)
        except Exception:  # which the faults will say
            env = Env((), env)
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(env.params)):
        raise ValueError(f"{env.name}: its parameters are traced, allowed are numbers")
    return env


def _find_faults(env: Env) -> list[Fault]:
    """Finds all faults. What is wrong in shapes or traces keeps the environment from being run."""
    if found := protocol.find_faults(env):
        return found
    found = strict.find_faults(env)
    if spaces.kind(env.action_space) not in spaces.KINDS:
        return found  # nobody can act
    judges = {
        "signals": lambda: signals.shapes(env.core, env.params),
        "reset pool": lambda: resets.pool_size(env.core),
    }
    for rule, judge in judges.items():
        try:
            judge()
        except ValueError as error:
            found.append(Fault(rule, str(error)))
    if is_game(env.core) and "signals" not in {rule for rule, _ in found}:
        found += [Fault("players", text) for text in find_game_faults(env)]
    found += [*goals.find_faults(env), *traces.find_faults(env)]
    unplayable = {"goals", "pure", "mask", "observation space"}
    if not has_own_step(env.core):  # gymnax's step selects, which takes one dtype
        unplayable.add("final observation")
    if not unplayable & {rule for rule, _ in found}:
        found += episodes.find_faults(env)
    return found
