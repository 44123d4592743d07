"""One HTML page of runs, sweeps, comparisons and tunings: `jaxpg.report`.

build.py      puts it together
sweep.py      the section of a sweep or a comparison
tuning.py     the sections of a tuning
parts.py      tables and texts that sections share
html.py       elements of the page
reproduce.py  the commands that give a result again
"""
