"""Environments that no suite has; importing this registers them with gymnax, by name."""

from jaxpg.core.lazy import import_later

import_later("matplotlib.pyplot", "seaborn")  # before the first import of gymnax
import gymnax  # noqa: E402

from jaxpg.envs import (  # noqa: E402
    almgren_chriss,
    liquidation_game,
    partial,
    portfolio,
    tabular,
)

for _module in (tabular, partial, almgren_chriss, liquidation_game, portfolio):
    for _name, _factory in _module.ENVIRONMENTS.items():
        gymnax.register(_name, _factory)
