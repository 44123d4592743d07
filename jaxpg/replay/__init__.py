"""Buffers of past transitions.

uniform.py      a ring buffer, sampled uniformly
prioritized.py  priorities of its rows, and sampling by them
"""
