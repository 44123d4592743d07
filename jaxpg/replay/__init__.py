"""Buffers of past transitions: `uniform` and `prioritized` sampling."""
