"""Parallel training: many runs in one program, and one run on many devices.

seeds.py      many seeds as one program
lanes.py      many configs and environments as one program, of which each can end alone
devices.py    the environments of one run over all devices
processes.py  a job of several processes
"""
