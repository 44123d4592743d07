"""Networks of a game's players: what they see, what they do, and what they expect of others."""

from typing import Any

from jaxpg.core.config import label
from jaxpg.core.env import Env
from jaxpg.core.games import Group, central_observation, other_choices
from jaxpg.core.observations import Informed
from jaxpg.core.types import Array, Tree
from jaxpg.loops.sharing import apply_each, teams
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.heads import ActionHead
from jaxpg.nets.networks import Network
from jaxpg.nets.opponents import expect, model_others, split_choices, split_out
from jaxpg.ops import normalize


def network(cfg: Any, env: Env, group: Group) -> tuple[Network, ActionHead]:
    """The network of a group's players, with its model of the others if there is one, and the
    policy's head."""
    shapes = None
    if cfg.central_critic:
        shapes = (central_observation(env, env.example_obs, group).shape[1:],)
    net, pi = actor_critic(cfg, group.env, shapes)
    if cfg.opponent_model == "none":
        return net, pi
    choices = other_choices(env, group, f"{label(type(cfg))} opponent_model={cfg.opponent_model!r}")
    return model_others(cfg, net, choices), pi


def in_sequences(cfg: Any) -> bool:
    """True where minibatches are of sequences, because something remembers."""
    return cfg.memory != "none" or cfg.opponent_model == "gru"


def observe(cfg: Any, env: Env, group: Group, obs: Tree) -> Tree:
    """Observations of a group's players, from a game's [...], and those of their critics:
    leaves [..., P_g, ...]."""
    own = group.env.core.observe(obs)
    return Informed(own, central_observation(env, obs, group)) if cfg.central_critic else own


def apply(cfg: Any, net: Network, learner: Any, obs: Tree, carry: Tree) -> tuple[Any, ...]:
    """Outputs of the network, the value and the carry of a group's players [N, P_g, ...]. learner:
    with `params` and `obs_stats`."""

    def one(learner: Any, obs: Tree, carry: Tree) -> tuple[Any, ...]:
        return net.apply(learner.params, normalize.whiten(learner.obs_stats, obs), carry)

    return apply_each(cfg, one, learner, obs, carry)


def predict_others(
    cfg: Any, env: Env, state: Any, obs: Tree, carry: Tree = ()
) -> dict[str, list[Array]]:
    """Predictions of each group's players: probabilities [B, P_g, n_j] of the choices of every
    other player j, in the order of the players.

    state: of `ippo` or `mappo`. obs: a game's observations [B, ...]. carry: what the players
    remember, as of `act`; () begins an episode. Raises ValueError for a config without a model.

    >>> import jaxpg
    >>> env = jaxpg.make("MatrixGame-jaxpg", game="prisoners")
    >>> cfg = jaxpg.ippo.Config(opponent_model="mlp", hidden=(4,))
    >>> state = jaxpg.ippo.init(cfg, env, jax.random.key(0))
    >>> [expected] = predict_others(cfg, env, state, state.env.obs)["players"]
    >>> expected.shape  # 16 environments, two players, each with one other one of two choices
    (16, 2, 2)
    """
    if cfg.opponent_model == "none":
        raise ValueError(
            f"{label(type(cfg))} opponent_model='none': allowed here is one that is not 'none'"
        )
    found = {}
    for group in teams(cfg, env):
        net, pi = network(cfg, env, group)
        own, before = observe(cfg, env, group, obs), carry[group.name] if carry else ()
        out, _, _ = apply(cfg, net, state.learners[group.name], own, before)
        choices: tuple[int, ...] = net.choices  # type: ignore  # of `Modelling`
        found[group.name] = split_choices(choices, expect(choices, split_out(pi, out)[1]))
    return found
