"""Policy heads: what turns a network's outputs into a distribution over actions.

A distribution is built and consumed inside one function; only arrays leave it. A policy is
learnt through its `draw`, the sample before it is squashed and stretched to the space: that keeps
densities exact at saturation, where the way back from the action would be infinite.

The files have the heads as functions of sizes alone; here they meet the action space.

base.py        the functions that every head gives, and points to take expectations over
discrete.py    categorical, several of them, bits
continuous.py  Gaussian, beta, a point mass
mixture.py     several Gaussians
flow.py        a normalising flow
"""

from collections.abc import Callable

from jaxpg.core import env as E
from jaxpg.core import spaces
from jaxpg.core.checks import require_key
from jaxpg.core.choices import HEADS_OF
from jaxpg.nets.heads.base import LOG_STD_RANGE, ActionHead
from jaxpg.nets.heads.continuous import beta, deterministic, gaussian, gsde
from jaxpg.nets.heads.discrete import bernoulli, categorical, multi_categorical
from jaxpg.nets.heads.flow import flow
from jaxpg.nets.heads.mixture import mixture

__all__ = ["LOG_STD_RANGE", "ActionHead", "make"]

COMPONENTS, BINS = 3, 8  # of a mixture, of a flow
DRAWS = ("sample", "entropy", "kl", "expect")  # what a head does with a key


def make(head: str, env: E.Env, temperature=1.0, components: int | None = None) -> ActionHead:
    """The policy head for an environment's actions; "auto" is the first one of their kind.

    temperature: divides the logits of a head over integers, in sampling and log-probabilities
    alike. components: of a mixture (None: 3), or bins of a flow's splines (None: 8). Raises
    ValueError for a head that does not fit the action space, or an action space without heads.
    """
    kind, space = env.action_kind, env.action_space
    if kind not in HEADS_OF:
        *names, last = "Discrete", "MultiDiscrete", "MultiBinary", "Box"
        raise ValueError(
            f"{env.name} has actions {space}: allowed are {', '.join(names)} and {last}"
        )
    allowed = ("auto", *HEADS_OF[kind])
    if head not in (*allowed, "deterministic"):
        raise ValueError(
            f"head={head!r} on {env.name}, whose actions are {kind}: "
            f"allowed is one of {', '.join(map(repr, allowed))}"
        )
    if head == "beta" and (bound := E.first_infinite_bound(env)):
        raise ValueError(
            f"head='beta' on {env.name}, whose actions have {bound}: allowed are finite bounds, "
            "or another head"
        )
    if kind == "continuous":
        pi = _continuous(
            HEADS_OF[kind][0] if head == "auto" else head, E.action_size(env), components
        )
    else:
        pi = _discrete(kind, space, temperature)
        pi = deterministic(pi, pi.outputs) if head == "deterministic" else pi
    judged = {name: _judge_key(f) for name in DRAWS if (f := getattr(pi, name)) is not None}
    return pi._replace(action=lambda draw: E.to_space(env, pi.squash(draw)), **judged)


def _judge_key(f: Callable) -> Callable:
    """A function of a head whose last argument, its key, is judged before anything is drawn."""

    def judged(*args, **named):
        require_key(named["key"] if "key" in named else args[-1])
        return f(*args, **named)

    return judged


def _discrete(kind: str, space, temperature) -> ActionHead:
    if kind == "multi-discrete":
        return multi_categorical(space.nvec, temperature)
    return (categorical if kind == "discrete" else bernoulli)(
        spaces.num_choices(space), temperature
    )


def _continuous(head: str, size: int, components: int | None) -> ActionHead:
    squash = head.startswith("tanh")
    if head == "beta":
        return beta(size)
    if head.endswith("gsde"):
        return gsde(size, squash)
    if head == "flow":
        return flow(size, components or BINS)
    if head.endswith("mixture"):
        return mixture(size, components or COMPONENTS, squash)
    if head == "deterministic":
        return deterministic(None, size)
    return gaussian(size, squash, head.endswith("state_std"))
