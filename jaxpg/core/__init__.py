from jaxpg.core import random_cpu  # noqa: F401  before anything is compiled
