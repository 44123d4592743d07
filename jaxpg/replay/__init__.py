"""Buffers of past transitions.

uniform.py      a ring buffer, sampled uniformly
prioritized.py  priorities of its rows, and sampling by them
hindsight.py    its episodes, and rows seen with goals that these reached
"""
