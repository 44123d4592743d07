from jaxpg.core import hashing  # noqa: F401  before anything is compiled
