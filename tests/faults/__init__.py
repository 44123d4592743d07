"""Faults that are put into runs, sweeps and policies: what is promised holds, or is refused.

shim.c        counts the file operations of a process under a folder, and lets one of them fail
pool.py       processes with that shim, and what they answer
worker.py     such a process; subjects.py, folders.py: what it does
kinds.py      kills, errors of the disk, files that have changed or are another's
hostile.py    hostile folders
processes.py  several processes on one folder
suite.py      all trials; scorecard.py: what came of them

`python -m tests.faults` tries all (or the kinds that it is given), prints the scorecard and writes
it to scorecard.json, of which `python -m tests.tables` makes the table of docs/reliability.md.
"""
