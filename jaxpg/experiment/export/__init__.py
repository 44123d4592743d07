"""Policies as files.

policy.py   `jaxpg.Policy`: one file that needs JAX and nothing else
program.py  the programs in it, and what they may do
onnx.py     ONNX models
"""
