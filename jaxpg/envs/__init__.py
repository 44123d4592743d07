"""Environments that no suite has; importing this registers them with gymnax, by name."""

import gymnax

from jaxpg.envs import almgren_chriss, liquidation_game, partial, portfolio, tabular

for _module in (tabular, partial, almgren_chriss, liquidation_game, portfolio):
    for _name, _factory in _module.ENVIRONMENTS.items():
        gymnax.register(_name, _factory)
