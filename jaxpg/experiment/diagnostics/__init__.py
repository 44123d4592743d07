"""Diagnostics of policy gradients: `jaxpg.diagnostics`.

learner.py    the policy and the critic in an agent's state
episodes.py   whole episodes under the sampled policy
gradients.py  estimators of the gradient, their variance and bias
critic.py     explained variance, and a critic fitted to returns
probes.py     what a run measures of its policy while it trains
verdicts.py   which seeds of a run learnt nothing, by its metrics
findings.py   the same in sentences, with what to try
"""

from jaxpg.experiment.diagnostics.critic import explained_variance, fit_value
from jaxpg.experiment.diagnostics.episodes import Episodes, collect
from jaxpg.experiment.diagnostics.findings import (
    Change,
    Finding,
    diagnose,
    find_failures,
    name_failed,
)
from jaxpg.experiment.diagnostics.gradients import (
    GradientStats,
    episode_gradients,
    gradient_estimators,
    gradient_stats,
)
from jaxpg.experiment.diagnostics.learner import Parts, parts
from jaxpg.experiment.diagnostics.probes import (
    UpdateSize,
    policy_entropy,
    policy_kl,
    probe,
    update_size,
)
from jaxpg.experiment.diagnostics.verdicts import World

__all__ = [
    "Change",
    "Episodes",
    "Finding",
    "GradientStats",
    "Parts",
    "UpdateSize",
    "World",
    "collect",
    "diagnose",
    "episode_gradients",
    "explained_variance",
    "find_failures",
    "fit_value",
    "gradient_estimators",
    "gradient_stats",
    "name_failed",
    "parts",
    "policy_entropy",
    "policy_kl",
    "probe",
    "update_size",
]
