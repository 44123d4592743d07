"""Environments on the host, in Python or C++: a whole batch is stepped in one ordered callback.

core.py            the core: what JAX sees of them
instances.py       what there is of them on the host: bounded, reused, closed
spaces.py          gymnasium's spaces as jaxpg has them
from_gymnasium.py  gymnasium's environments, and what is registered there
from_envpool.py    envpool's, in C++ threads
"""
