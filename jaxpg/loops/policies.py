"""Acting with the policy of `nets.actor_critic`."""

from jaxpg.core import env as E
from jaxpg.core.types import Array, Key, Tree
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.ops import normalize


def act(
    cfg, env: E.Env, params: Tree, obs_stats, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    """Actions [N, *action] on observations [N, *obs]: the policy's mode if `greedy`, else a sample.

    params: of the policy alone, or of policy and critic; obs_stats: running statistics, or (). With
    memory the carry goes through the policy; without, it comes back as it was.
    """
    net, pi = actor_critic(cfg, env)
    obs = normalize.whiten(obs_stats, obs)
    if cfg.memory == "none":
        out = net.apply(params, obs, method="policy")
    else:
        out, _, carry = net.apply(params, obs, carry)
    return pi.action(pi.mode(out) if greedy else pi.sample(out, key)[0]), carry
