"""Folder of one run.

folder.py      writes, resumes and loads it
settings.py    what is asked of a run, as run.json keeps it
lock.py        one process at a time writes a folder
checkpoint.py  whole training states, checked byte by byte
arrays.py      their arrays, as Orbax writes and reads them
provenance.py  run.json: agent, config, environment, key and versions, and the way back to objects
seal.py        what holds the files of a folder together, and reads their rows
standing.py    how far a run has come, by its folder
measured.py    metrics and evaluations as they stand, for figures and reports
"""
