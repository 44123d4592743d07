"""Policies as files.

policy.py  `jaxpg.Policy`: one file that needs JAX and nothing else
onnx.py    ONNX models
"""
