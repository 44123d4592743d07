"""Faults that training forgives: dtypes that change, spaces of no kind, a limit by oversight."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import protocol, single, spaces
from jaxpg.core.env import Env
from jaxpg.core.gymnax_import import inherits
from jaxpg.core.protocol import Fault
from jaxpg.core.types import Tree


def find_faults(env: Env) -> list[Fault]:
    """Finds them in an environment that `core.protocol` finds nothing wrong with."""
    name, core = single.name_of(env.core), env.core
    found, space = [], env.action_space
    if spaces.kind(space) not in spaces.KINDS or (hasattr(space, "n") and space.shape != ()):
        text = (
            f"{name} action space {space}: allowed is Discrete, MultiDiscrete, MultiBinary or Box"
        )
        return [Fault("action space", f"{text} (jaxpg.core.spaces, gymnax.environments.spaces)")]
    of_observations = core.observation_space(core.default_params)
    for what, one in leaf_spaces(f"{name} observation space", of_observations):
        if not any(hasattr(one, kind) for kind in ("n", "nvec", "low")) and not is_binary(one):
            text = f"{what} is a {type(one).__name__}: allowed is a Box, Discrete, Dict or Tuple"
            found.append(Fault("observation space", text))
        for text in protocol.find_bounds(what, one):
            found.append(Fault("observation space", text))
    first, after = single.trace_step(core, env.params)
    obs, final = first[0], after[-1]["final_observation"]
    for text in _find_parts(f"{name} observation", of_observations, obs):
        found.append(Fault("observation space", text))
    for text in _find_dtypes(f"{name} observation", of_observations, obs):
        found.append(Fault("observation", text))
    for where, other in {"step": after[0], "info": final}.items():
        what = f"{name}: observations of reset and {where}"
        rule = "observation" if where == "step" else "final observation"
        found += [Fault(rule, text) for text in protocol.find_difference(what, obs, other, str)]
    return found + list(_find_inherited_limit(name, env))


def is_binary(space: Any) -> bool:
    return isinstance(space, spaces.MultiBinary)


def leaf_spaces(what: str, space: Any) -> Iterator[tuple[str, Any]]:
    """The spaces of a space's arrays, with their names."""
    inner = getattr(space, "spaces", None)
    if inner is None:
        yield what, space
        return
    for name, one in inner.items() if isinstance(inner, Mapping) else enumerate(inner):
        yield from leaf_spaces(f"{what} {name!r}", one)


def _find_parts(what: str, space: Any, obs: Tree) -> Iterator[str]:
    """Looks whether an observation of parts has a space of parts."""
    inner = getattr(space, "spaces", None)
    if inner is None and isinstance(obs, (dict, tuple)):
        kind = "Dict" if isinstance(obs, dict) else "Tuple"
        yield f"{what} is a {kind.lower()}, its space a {type(space).__name__}: allowed is a {kind}"
    elif inner is not None:
        for name in inner if isinstance(inner, Mapping) else range(len(inner)):
            if name != "action_mask":
                yield from _find_parts(f"{what} {name!r}", inner[name], obs[name])


def _find_dtypes(what: str, space: Any, obs: Tree) -> Iterator[str]:
    """Looks whether observations are real numbers, and integers where their space says so."""
    inner = getattr(space, "spaces", None)
    if inner is not None:
        names = inner if isinstance(inner, Mapping) else range(len(inner))
        for name in names:
            if name != "action_mask":
                yield from _find_dtypes(f"{what} {name!r}", inner[name], obs[name])
        return
    for x in jax.tree.leaves(obs):
        if not any(jnp.issubdtype(x.dtype, kind) for kind in protocol.REAL):
            yield f"{what} is of {x.dtype}: allowed are real numbers and bools"
        elif hasattr(space, "n") and not jnp.issubdtype(x.dtype, np.integer):
            yield f"{what} is of {x.dtype}, its space Discrete: allowed is an integer"


def _find_inherited_limit(name: str, env: Env) -> Iterator[Fault]:
    """Looks for gymnax's usual time limit, one step, where nobody has set another."""
    from gymnax.environments.environment import EnvParams

    params = env.params
    own = [kind for kind in type(params).__mro__ if "max_steps_in_episode" in vars(kind)]
    if own != [EnvParams] or not inherits(env.core, "is_truncated"):
        return
    if params.max_steps_in_episode == 1:
        text = f"{name}: max_steps_in_episode is 1, as gymnax's EnvParams has it, so that every "
        yield Fault("time limit", f"{text}episode ends after one step: give it in the parameters")
