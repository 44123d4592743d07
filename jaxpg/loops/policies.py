"""Acting with the policy of `nets.actor_critic`."""

from jaxpg.core import env as E
from jaxpg.core.types import Array, Key, Tree
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.noise import exploring
from jaxpg.ops import normalize


def act(
    cfg, env: E.Env, params: Tree, obs_stats, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    """Actions [N, *action] on observations [N, *obs]: the policy's mode if `greedy`, else a sample.

    params: of the policy alone, or of policy and critic; obs_stats: running statistics, or (). With
    memory, or noise that is held, the carry goes through the policy; else it comes back as it was.
    """
    net, pi = actor_critic(cfg, env)
    obs, rngs = normalize.whiten(obs_stats, obs), {} if greedy else exploring(cfg, key)
    if cfg.memory == "none":
        out, carry = net.apply(params, obs, carry, method="explore", rngs=rngs)
    else:
        out, _, carry = net.apply(params, obs, carry, rngs=rngs)
    return pi.action(pi.mode(out) if greedy else pi.sample(out, key)[0]), carry
