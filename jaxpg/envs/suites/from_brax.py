"""Brax (Freeman et al. 2021): robots, with actions in [-1, 1].

Its environments have no time limit, its training has one of 1000 steps, which is the usual one
here. Its wrappers, which repeat one first state in every episode, are not used. Parameters are
factors of the numbers in its `System`.
"""

import copy
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import jax
import numpy as np
from brax import envs
from gymnax.environments import spaces
from mujoco import mjx

from jaxpg.envs.suites.base import Adapter, make_params

SCALES = {  # the least that is allowed, and what it multiplies: in Brax's pipelines, and in MJX
    "gravity_scale": (-np.inf, "gravity opt.gravity"),
    "mass_scale": (1e-3, "link.inertia.mass link.inertia.i dof.armature body_mass body_inertia "
                   "body_subtreemass dof_armature dof_M0"),
    "friction_scale": (0.0, "geom_friction pair_friction"),
    "damping_scale": (0.0, "dof.damping dof_damping"),
    "stiffness_scale": (0.0, "dof.stiffness jnt_stiffness"),
    "gear_scale": (0.0, "actuator.gear actuator_gear"),
}  # fmt: skip
INVERSE = "link.invweight dof.invweight body_invweight0 dof_invweight0 actuator_acc0"  # of masses


def names() -> list[str]:
    return sorted(envs._envs.keys() - {"fast"})  # a stub for Brax's own tests


def find_constructor(name: str) -> Callable[..., Any]:
    return envs._envs[name]


def _numbers(sys: Any, paths: str) -> dict[str, Any]:
    return {path: attrgetter(path)(sys) for path in paths.split()}


def scale(sys: Any, scales: dict[str, Any]) -> Any:
    """The system with its numbers multiplied, and with what follows from its masses."""
    new = {p: x * scales[k] for k in scales for p, x in _numbers(sys, SCALES[k][1]).items()}
    new |= {p: x / scales["mass_scale"] for p, x in _numbers(sys, INVERSE).items()}
    return sys.tree_replace(new)


class Core(Adapter):
    reset_pool = 64

    def __init__(self, name: str, inner: Any):
        super().__init__(name, inner, 1000)
        first = jax.eval_shape(inner.reset, jax.random.key(0))
        self.obs = spaces.Box(-np.inf, np.inf, first.obs.shape)
        self.actions = spaces.Box(-1, 1, (inner.action_size,))
        touches = mjx.make_data(inner.sys).ncon > 0
        self.limits = {  # none that would be swept in vain: of zeros alone, of friction of nothing
            k: (least, np.inf)
            for k, (least, paths) in SCALES.items()
            if any(map(np.any, _numbers(inner.sys, paths).values()))
            and (touches or k != "friction_scale")
        }
        self.params = make_params(dict.fromkeys(self.limits, 1.0), self.limit)

    def _with(self, params: Any) -> Any:
        """The environment under these parameters; the one that is kept stays as it is."""
        env = copy.copy(self.inner)
        env.sys = scale(env.sys, {name: getattr(params, name) for name in self.limits})
        return env

    def begin(self, key, params):
        state = self._with(params).reset(key)
        return state.obs, state

    def move(self, key, state, action, params):
        state = self._with(params).step(state, action)
        return state.obs, state, state.reward, state.done > 0
