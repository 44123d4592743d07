"""Environments: by name (`registry`), jaxpg's own, and adapters of other protocols."""

from jaxpg.core import gymnax_import  # noqa: F401  before any other import of gymnax
