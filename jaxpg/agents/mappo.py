"""Multi-agent PPO, Yu et al. (2022), arXiv:2103.01955: own policies, and a critic that sees all.

The critic is there in training alone, so that it may see what no player does: the game's
`global_state`, or the observations of all players, with the number of the one whose value is asked
for. Acting stays with what each player sees. The step is PPO's, as for `ippo`.

What a central critic does: the expected gradient of a player's policy is the same under every
baseline that does not depend on that player's action, so the critic cannot change where learning
leads on average. It changes the variance, and the bias that a bootstrap from a wrong value has.

How a batch becomes a step is in `loops.multi_agent`, which `ippo` shares.

Deviations from the paper: values are not normalised (`normalize_reward` scales rewards in its
place); advantages are standardised for each player; no dead player's state is masked by zeros, its
rows just do not count.
"""

from typing import ClassVar

from jaxpg.core import fields
from jaxpg.core.config import config, static
from jaxpg.core.schedules import schedule
from jaxpg.core.types import Agent, Optimizer, Schedule
from jaxpg.loops import multi_agent
from jaxpg.loops.multi_agent import TrainState
from jaxpg.nets.networks import MLP

__all__ = ["Config", "TrainState", "mappo"]


@config
class Config:
    num_envs: int = fields.num_envs(16)
    num_steps: int = fields.num_steps(128)
    num_epochs: int = fields.num_epochs(4)
    minibatches: int = static(4, ge=1, help="Per epoch; divides num_envs * num_steps.")
    share_parameters: bool = fields.share_parameters(True)
    player_id: bool = fields.player_id(True)
    opponent_model: str = fields.opponent_model("none")
    learning_rate: float = fields.learning_rate(5e-4)
    learning_rate_schedule: Schedule = schedule("linear")
    optimizer: Optimizer = fields.optimizer("adam")
    gamma: float = fields.gamma(0.99)
    gae_lambda: float = fields.gae_lambda(0.95)
    clip_eps: float = fields.clip_eps(0.2)
    clip_eps_schedule: Schedule = schedule()
    entropy_coef: float = fields.entropy_coef(0.01)
    entropy_coef_schedule: Schedule = schedule()
    value_coef: float = fields.value_coef(0.5)
    clip_value: bool = fields.clip_value(True)
    normalize_advantage: bool = fields.normalize_advantage(True)
    normalize_obs: bool = fields.normalize_obs(False)
    normalize_steps: float | None = fields.normalize_steps(None)
    normalize_reward: bool = fields.normalize_reward(False)
    max_grad_norm: float = fields.max_grad_norm(0.5)
    head: str = fields.head("auto")
    temperature: float = fields.temperature(1.0)
    net: fields.Net = fields.net(MLP)
    hidden: tuple[int, ...] = fields.hidden((64, 64))
    activation: fields.Activation = fields.activation("tanh")
    critic_net: fields.Net | None = fields.critic_net(None)
    critic_hidden: tuple[int, ...] | None = fields.critic_hidden(None)
    critic_activation: fields.Activation | None = fields.critic_activation(None)
    kernel_init: fields.Initializer = fields.kernel_init("orthogonal")
    layer_norm: bool = fields.layer_norm(False)
    memory: str = fields.memory(
        "none", help="Memory of the network; minibatches are then of sequences."
    )
    memory_size: int = fields.memory_size(64)
    memory_length: int = fields.memory_length(32)
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    central_critic: ClassVar[bool] = True
    shared: ClassVar[bool] = False
    batch_norm: ClassVar[bool] = False


mappo = Agent(
    "mappo",
    Config,
    multi_agent.init,
    multi_agent.step,
    multi_agent.act,
    multi_agent.steps_per_iter,
)
