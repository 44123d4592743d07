"""Diagnostics: the variance and bias of gradient estimators, and probes of a learner."""

from jaxpg.experiment.diagnostics.estimators import (
    GradientStats as GradientStats,
)
from jaxpg.experiment.diagnostics.estimators import (
    Parts as Parts,
)
from jaxpg.experiment.diagnostics.estimators import (
    collect as collect,
)
from jaxpg.experiment.diagnostics.estimators import (
    episode_gradients as episode_gradients,
)
from jaxpg.experiment.diagnostics.estimators import (
    explained_variance as explained_variance,
)
from jaxpg.experiment.diagnostics.estimators import (
    fit_value as fit_value,
)
from jaxpg.experiment.diagnostics.estimators import (
    gradient_estimators as gradient_estimators,
)
from jaxpg.experiment.diagnostics.estimators import (
    gradient_stats as gradient_stats,
)
from jaxpg.experiment.diagnostics.estimators import (
    parts as parts,
)
from jaxpg.experiment.diagnostics.probe import (
    UpdateSize as UpdateSize,
)
from jaxpg.experiment.diagnostics.probe import (
    policy_entropy as policy_entropy,
)
from jaxpg.experiment.diagnostics.probe import (
    policy_kl as policy_kl,
)
from jaxpg.experiment.diagnostics.probe import (
    probe as probe,
)
from jaxpg.experiment.diagnostics.probe import (
    update_size as update_size,
)
