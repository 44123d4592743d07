"""Videos of episodes: `jaxpg.render`.

video.py    plays episodes of a run's policy and writes them
episode.py  one episode, step by step
scenes.py   how each kind of environment is drawn; players.py, games
frames.py   one picture, with what the policy did
files.py    GIF and MP4
"""
