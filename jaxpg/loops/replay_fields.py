"""Checks of a config for the off-policy loop, before anything compiles."""

from jaxpg.core.config import label, require
from jaxpg.core.env import Env
from jaxpg.core.goals import require_goals
from jaxpg.loops import updates


def remembers(cfg) -> bool:
    """True for a config whose policy has a memory: batches are then of sequences."""
    return cfg.memory != "none"


def relabels(cfg) -> bool:
    """True for a config whose rows are seen with goals that their episodes reached."""
    return cfg.hindsight != "none"


def require_fields(cfg, env: Env) -> None:
    """Raises ValueError for a field that is missing, sizes that do not fit each other, and
    hindsight in an environment without goals."""
    usual = {"random_warmup": False, "n_step": 1, "prioritized": False, "memory": "none"}
    usual |= {"normalize_obs": False, "normalize_reward": False, "hindsight": "none"}
    usual |= {"bonus": "none"}
    require(cfg, "loops.replay", **usual)
    if cfg.normalize_obs:
        require(cfg, "loops.replay", normalize_steps=None)
    rows, name = cfg.num_envs * cfg.num_steps, label(type(cfg))
    # Steps of one environment are `num_envs` apart.
    ordered = cfg.n_step > 1 or remembers(cfg) or relabels(cfg)
    if cfg.buffer_size < rows or (ordered and cfg.buffer_size % cfg.num_envs):
        multiple = f", a multiple of num_envs={cfg.num_envs}," if ordered else ""
        raise ValueError(
            f"{name} buffer_size={cfg.buffer_size}: allowed is an integer{multiple} >= num_envs * "
            f"num_steps = {rows}, what an iteration stores"
        )
    if cfg.learning_starts > cfg.buffer_size:
        raise ValueError(
            f"{name} learning_starts={cfg.learning_starts}: allowed is an integer <= "
            f"buffer_size={cfg.buffer_size}"
        )
    if cfg.n_step > cfg.buffer_size // cfg.num_envs:
        raise ValueError(
            f"{name} n_step={cfg.n_step}: allowed is an integer <= buffer_size // num_envs = "
            f"{cfg.buffer_size // cfg.num_envs}, what the buffer holds of an environment"
        )
    if remembers(cfg):
        _check_sequences(cfg, name)
    if cfg.bonus != "none" and relabels(cfg):
        raise ValueError(
            f"{name} bonus={cfg.bonus!r}: allowed with hindsight={cfg.hindsight!r} is 'none'"
        )
    if relabels(cfg):
        require_goals(env, f"{name} hindsight={cfg.hindsight!r}")
    if not updates.per_iteration(cfg):
        raise ValueError(
            f"{name} updates_per_step={cfg.updates_per_step}: allowed is a number that makes at "
            f"least 1 update in 10,000 iterations of {rows} steps"
        )


def _check_sequences(cfg, name: str) -> None:
    for field, only in {"n_step": 1, "prioritized": False, "hindsight": "none"}.items():
        if getattr(cfg, field) != only:
            raise ValueError(
                f"{name} {field}={getattr(cfg, field)}: with memory={cfg.memory!r} allowed is "
                f"{only}"
            )
    rows = (cfg.burn_in + cfg.sequence_length) * cfg.num_envs
    if cfg.learning_starts < rows:
        raise ValueError(
            f"{name} learning_starts={cfg.learning_starts}: allowed is an integer >= (burn_in + "
            f"sequence_length) * num_envs = {rows}, one sequence of every environment"
        )
