"""Environments that no suite has; importing this registers them with gymnax, by name."""

import gymnax

from jaxpg.envs import tabular

for _name, _factory in tabular.ENVIRONMENTS.items():
    gymnax.register(_name, _factory)
