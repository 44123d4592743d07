"""JaxMARL (Rutherford et al. 2024): the environments of MPE, games of several agents.

Agents come in the order of JaxMARL's own list, for those of its dicts differ. Kinds, as their names
say (`adversary_0`, `agent_1`), are groups. It ends an episode at its time limit, one step late, as
if that were the task's end: here that is out of reach, and the adapter's clock truncates.
"""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from jaxmarl import registration

from jaxpg.core.spaces import MultiDiscrete
from jaxpg.envs.suites.base import Adapter


def names() -> list[str]:
    return [name for name in registration.registered_envs if name.startswith("MPE_")]


def find_constructor(name: str) -> Callable[..., Any]:
    """The class of "MPE_simple_spread_v3" is SimpleSpreadMPE, that of "..._3a_v1" ends in MPE3a."""
    words = name.split("_")[1:-1]
    kind = "".join(word.capitalize() for word in words if word[0].isalpha())
    found = getattr(registration, f"{kind}MPE{''.join(w for w in words if w[0].isdigit())}")
    if "action_type" in inspect.signature(found).parameters:  # one has continuous ones by default
        found = functools.partial(found, action_type="Discrete")
    return found


class Core(Adapter):
    signals = ("rewards",)

    def __init__(self, name: str, inner: Any):
        """Raises ValueError where continuous actions differ in size from agent to agent."""
        super().__init__(name, inner, inner.max_steps)
        inner.max_steps = np.iinfo(np.int32).max
        self.players, kinds = len(inner.agents), {}
        for agent in inner.agents:
            kinds.setdefault(re.sub(r"_\d+$", "", agent), []).append(agent)
        self.members = kinds  # names of agents, of each kind
        if len(kinds) > 1:
            self.groups = {kind: len(agents) for kind, agents in kinds.items()}
        first = jax.eval_shape(lambda key: self._see(inner.reset(key)[0]), jax.random.key(0))
        boxes = jax.tree.map(lambda x: spaces.Box(-np.inf, np.inf, x.shape), first)
        self.obs = spaces.Dict(boxes) if len(kinds) > 1 else boxes
        own = [inner.action_space(agent) for agent in inner.agents]
        self.discrete = all(hasattr(space, "n") for space in own)
        if self.discrete:
            self.actions = MultiDiscrete([space.n for space in own])
            return
        if len(sizes := {space.shape for space in own}) > 1:
            raise ValueError(
                f"{name}: its agents have continuous actions of {sorted(sizes)}: allowed are those "
                "of one size, and action_type='Discrete'"
            )
        self.actions = spaces.Box(own[0].low, own[0].high, (len(own), *own[0].shape))

    def _see(self, obs: dict[str, Any]) -> Any:
        """Observations [P, D], of kinds a dict of them."""
        rows = {kind: jnp.stack([obs[x] for x in names]) for kind, names in self.members.items()}
        return rows if len(rows) > 1 else next(iter(rows.values()))

    def begin(self, key, params):
        obs, state = self.inner.reset(key)
        return self._see(obs), state

    def move(self, key, state, action, params):
        agents = self.inner.agents
        told = {agent: action[i] for i, agent in enumerate(agents)}
        obs, state, rewards, _, _ = self.inner.step_env(key, state, told)
        each = jnp.stack([rewards[agent] for agent in agents])
        return self._see(obs), state, each.mean(), jnp.zeros((), bool), {"rewards": each}
