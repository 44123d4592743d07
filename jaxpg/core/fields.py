"""Fields of a config that several agents share: limits, choices and help, once each.

    gamma: float = fields.gamma(0.99)

The default is the agent's own, and so are the fields that it alone has: `static` and `number` of
`core.config`. An agent without a field that a function reads says so by a class constant:

    memory: ClassVar[str] = "none"
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from jaxpg.core.choices import BONUS, BONUSES, HEADS, OTHER_HEADS, POINT_HEADS
from jaxpg.core.config import number, static
from jaxpg.core.network_fields import *  # noqa: F403  so that all are `fields.NAME`
from jaxpg.core.optimizers import OPTIMIZER, OPTIMIZERS

Bonus: TypeAlias = str | Callable

# Collecting.


def num_envs(default: int, help: str | None = None) -> int:
    """Environments that run side by side."""
    return static(default, ge=1, help=help or num_envs.__doc__)


def num_steps(default: int, help: str | None = None) -> int:
    """Steps per environment and iteration."""
    return static(default, ge=1, help=help or num_steps.__doc__)


def gamma(default: float) -> float:
    """Discount factor of a step."""
    return number(default, ge=0, le=1, help=gamma.__doc__)


def gae_lambda(default: float) -> float:
    """Lambda of generalised advantage estimation; 1 is the Monte Carlo return, 0 the TD error."""
    return number(default, ge=0, le=1, help=gae_lambda.__doc__)


def normalize_obs(default: bool, help: str | None = None) -> bool:
    """Observations less their running mean, over their running deviation."""
    return static(default, help=help or normalize_obs.__doc__)


def normalize_steps(default: float | None) -> float | None:
    """Environment steps that normalize_obs takes its scale from; None is all of them."""
    return number(default, gt=0, help=normalize_steps.__doc__)


def normalize_reward(default: bool) -> bool:
    """Rewards over the running deviation of the discounted return."""
    return static(default, help=normalize_reward.__doc__)


def normalize_advantage(default: bool) -> bool:
    """Advantages of a batch with mean 0 and variance 1."""
    return static(default, help=normalize_advantage.__doc__)


# Costs.


def cost_limit(default: Any) -> Any:
    """Mean cost of an episode, in cost_unit, that is allowed; None is no limit."""
    return number(default, ge=0, help=cost_limit.__doc__)


def cost_unit(default: str) -> str:
    """Unit of the limit: the sum over an episode, or that discounted from its start."""
    return static(default, choices=("episode", "discounted"), help=cost_unit.__doc__)


def cost_gamma(default: float) -> float:
    """Discount factor of the costs."""
    return number(default, ge=0, le=1, help=cost_gamma.__doc__)


def cost_gae_lambda(default: float) -> float:
    """Lambda of the costs' generalised advantage estimation."""
    return number(default, ge=0, le=1, help=cost_gae_lambda.__doc__)


def multiplier_gain(default: float, of: str) -> float:
    """A gain of the multiplier's controller, in rewards a unit of cost; `of` says of what."""
    return number(default, ge=0, help=f"Gain of the multiplier for {of}.")


def worst(default: float | None) -> float | None:
    """Fraction of an iteration's episodes, the worst by return, that count; None is all."""
    return number(default, gt=0, le=1, help=worst.__doc__)


# Exploration.


def bonus(default: Bonus) -> Bonus:
    """Bonus for what is new: see loops.bonuses."""
    return static(default, choices=BONUSES, kind=BONUS, help=bonus.__doc__)


def bonus_weight(default: float) -> float:
    """Weight of the bonus, or of its advantages, beside those of the reward."""
    return number(default, ge=0, help=bonus_weight.__doc__)


def bonus_gamma(default: float) -> float:
    """Discount factor of the bonus, over the ends of episodes."""
    return number(default, ge=0, le=1, help=bonus_gamma.__doc__)


def level_replay(default: bool) -> bool:
    """Episodes are on the levels of which most is to be learnt: see loops.levels."""
    return static(default, help=level_replay.__doc__)


def level_temperature(default: float) -> float:
    """Temperature of the ranks by which levels are replayed; 0.1 is nearly the first alone."""
    return number(default, gt=0, help=level_temperature.__doc__)


def level_staleness(default: float) -> float:
    """Share of replayed levels that are drawn by how long they were not played."""
    return number(default, ge=0, le=1, help=level_staleness.__doc__)


# Optimising.


def learning_rate(default: float, of: str = "network") -> float:
    """Learning rate; `of` says of which part."""
    return number(default, ge=0, help=f"Learning rate of the {of}.")


def optimizer(default: str, of: str = "actor and critic") -> Any:
    """Optimiser, by optax's name or as a callable; `of` says of which part."""
    return static(default, choices=OPTIMIZERS, kind=OPTIMIZER, help=f"Optimiser of the {of}.")


def max_grad_norm(default: float) -> float:
    """Largest norm of a gradient; longer ones are scaled down to it."""
    return number(default, gt=0, help=max_grad_norm.__doc__)


def entropy_coef(default: float) -> float:
    """Weight of the policy's entropy (nats) in its objective."""
    return number(default, ge=0, help=entropy_coef.__doc__)


def num_epochs(default: int) -> int:
    """Passes over the data of an iteration."""
    return static(default, ge=1, help=num_epochs.__doc__)


def clip_eps(default: float) -> float:
    """Distance from 1 at which the ratio is clipped."""
    return number(default, gt=0, help=clip_eps.__doc__)


def clip_value(default: bool) -> bool:
    """The value's change is clipped too."""
    return static(default, help=clip_value.__doc__)


def value_coef(default: float) -> float:
    """Weight of the value's loss."""
    return number(default, ge=0, help=value_coef.__doc__)


def warmup(default: float) -> float:
    """Fraction of the run over which warmup schedules rise."""
    return number(default, ge=0, le=1, help=warmup.__doc__)


def total_steps(default: float | None) -> float | None:
    """Length of the run in environment steps, for schedules; `train` and `run` fill it in."""
    return number(default, gt=0, help=total_steps.__doc__)


# Policies and networks.


def head(default: str, gsde: bool = False) -> str:
    """Distribution over actions; "auto" is the first one of their kind."""
    return static(default, choices=HEADS if gsde else OTHER_HEADS, help=head.__doc__)


def point_head(default: str) -> str:
    """Distribution over actions, or a single one; "auto" is the first one of their kind."""
    return static(default, choices=POINT_HEADS, help=point_head.__doc__)


def temperature(default: float) -> float:
    """Divisor of the logits of a head over integers."""
    return number(default, gt=0, help=temperature.__doc__)


def noise_every(default: int | None) -> int | None:
    """Steps over which a head gsde holds its noise; None is an episode."""
    return static(default, ge=1, help=noise_every.__doc__)


def noise_log_std(default: float) -> float:
    """Log-deviation of the noise of a head gsde for a feature of 1, at the start."""
    return number(default, ge=-20, le=2, help=noise_log_std.__doc__)


def noise_gradient(default: bool) -> bool:
    """The features learn from the deviation of a head gsde, too."""
    return static(default, help=noise_gradient.__doc__)


# Natural gradients and trust regions.


def max_kl(default: float, help: str) -> float:
    """KL divergence (nats) that an update aims at."""
    return number(default, gt=0, help=help)


def cg_iterations(default: int) -> int:
    """Iterations of conjugate gradients for the natural gradient."""
    return static(default, ge=1, help=cg_iterations.__doc__)


def damping(default: float) -> float:
    """Number added to the diagonal of the Fisher matrix."""
    return number(default, ge=0, help=damping.__doc__)


def critic_epochs(default: int) -> int:
    """Passes of the critic over the data of an iteration."""
    return static(default, ge=1, help=critic_epochs.__doc__)


def critic_minibatches(default: int) -> int:
    """Minibatches of the critic in an epoch; divides num_envs * num_steps."""
    return static(default, ge=1, help=critic_minibatches.__doc__)


# Replay.


def buffer_size(default: int) -> int:
    """Transitions that the replay buffer holds."""
    return static(default, ge=1, help=buffer_size.__doc__)


def learning_starts(default: int) -> int:
    """Transitions that are stored before the first update."""
    return static(default, ge=0, help=learning_starts.__doc__)


def random_warmup(default: bool) -> bool:
    """Uniformly random actions until learning starts."""
    return static(default, help=random_warmup.__doc__)


def batch_size(default: int) -> int:
    """Transitions, or sequences with a memory, of an update."""
    return static(default, ge=1, help=batch_size.__doc__)


def updates_per_step(default: float) -> float:
    """Updates for every environment step; a fraction is spread evenly."""
    return static(default, gt=0, help=updates_per_step.__doc__)


def hindsight(default: str) -> str:
    """Goals that rows are seen with in place of their own: what was achieved in the last step of
    the episode, in a later one, in any one of it, or in any row."""
    help = " ".join((hindsight.__doc__ or "").split())
    return static(default, choices=("none", "final", "future", "episode", "random"), help=help)


def hindsight_goals(default: int) -> int:
    """New goals for each original one, of hindsight: a share k / (k + 1) of rows has one."""
    return static(default, ge=1, help=hindsight_goals.__doc__)


def tau(default: float, help: str | None = None) -> float:
    """Fraction of the way to the online networks that their copies move in an update."""
    return number(default, gt=0, le=1, help=help or tau.__doc__)


def noise_std(default: float, help: str) -> float:
    """Deviation of the noise that explores, in actions of [-1, 1]."""
    return number(default, ge=0, help=help)


def ou_theta(default: float) -> float:
    """Share of Ornstein-Uhlenbeck noise that is lost in a step."""
    return number(default, gt=0, le=1, help=ou_theta.__doc__)


def alpha(default: float) -> float:
    """Weight of the entropy (temperature of SAC); where it is learnt, at the start."""
    return number(default, gt=0, help=alpha.__doc__)


def learn_alpha(default: bool) -> bool:
    """Alpha moves towards the target entropy."""
    return static(default, help=learn_alpha.__doc__)


# Policy search.


def episodes(default: int) -> int:
    """Episodes of an evaluation."""
    return static(default, ge=1, help=episodes.__doc__)


def episode_steps(default: int | None, help: str | None = None) -> int | None:
    """Steps of an episode, at most; None is the environment's own limit."""
    return static(default, ge=1, help=help or episode_steps.__doc__)


def greedy(default: bool) -> bool:
    """Episodes under the policy's mode, not its samples."""
    return static(default, help=greedy.__doc__)


def common_random_numbers(default: bool) -> bool:
    """All candidates play the same episodes."""
    return static(default, help=common_random_numbers.__doc__)


def slice_size(default: int | None) -> int | None:
    """Candidates that are evaluated at once on each device; None is all of them."""
    return static(default, ge=1, help=slice_size.__doc__)


def devices(default: int) -> int:
    """Devices that share the population."""
    return static(default, ge=1, help=devices.__doc__)


def reevaluate(default: bool) -> bool:
    """The incumbent plays again, the same episodes as those who challenge it."""
    return static(default, help=reevaluate.__doc__)


# Tables.


def decay(default: float) -> float:
    """Exponent d: the n-th step of an entry is learning_rate / n^d."""
    return number(default, ge=0, le=1, help=decay.__doc__)


def epsilon(default: float) -> float:
    """Fraction of random actions."""
    return number(default, ge=0, le=1, help=epsilon.__doc__)


def initial_value(default: float) -> float:
    """First value of every entry; above what is possible, the agent explores by itself."""
    return number(default, help=initial_value.__doc__)


def bins(default: tuple[int, ...]) -> tuple[int, ...]:
    """Bins for each dimension of a Box observation."""
    return static(default, ge=1, help=bins.__doc__)


def low(default: tuple[float, ...]) -> tuple[float, ...]:
    """Lower end of the bins in each dimension; () is the Box's own."""
    return static(default, help=low.__doc__)


def high(default: tuple[float, ...]) -> tuple[float, ...]:
    """Upper end of the bins in each dimension; () is the Box's own."""
    return static(default, help=high.__doc__)


# Games.


def share_parameters(default: bool) -> bool:
    """Players of a kind share a network; otherwise each has its own."""
    return static(default, help=share_parameters.__doc__)


def player_id(default: bool) -> bool:
    """Players who share a network see who of them they are."""
    return static(default, help=player_id.__doc__)


def opponent_model(default: str) -> str:
    """A model of the other players, whose prediction the policy sees: from what it sees now (mlp),
    or from the whole episode (gru)."""
    help = " ".join((opponent_model.__doc__ or "").split())
    return static(default, choices=("none", "mlp", "gru"), help=help)
