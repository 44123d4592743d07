"""Folder of one run.

folder.py      writes, resumes and loads it
record.py      run.json: what is asked of a run, and a folder opened
checkpoint.py  whole training states, checked byte by byte
origin.py      what it begins with, where that is another run's
saving.py      when a run saves one: evenly, by the clock, and the best
provenance.py  agent, config, environment, key and versions of results, and the way back to objects
seal.py        what holds the files of a folder together, and reads their rows
standing.py    how far a run has come, by its folder
"""
