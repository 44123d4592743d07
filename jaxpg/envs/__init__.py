"""Environments that no suite has; importing this registers them with gymnax, by name."""

import gymnax

from jaxpg.envs import partial, tabular

for _name, _factory in (tabular.ENVIRONMENTS | partial.ENVIRONMENTS).items():
    gymnax.register(_name, _factory)
