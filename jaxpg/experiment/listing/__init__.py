"""Runs and sweeps that lie in a folder: what they are, how far they are, how to be rid of them.

No table is read but for its last lines: a thousand folders take a second.

entries.py   a line for every run and sweep below a folder
ends.py      the last lines of a run's tables
pace.py      how fast a run goes that is going on, and when it will be done
settings.py  settings that differ from a preset and from the defaults
remove.py    removes what a run wrote, and nothing else
"""
