"""Videos of episodes: `jaxpg.render`.

video.py   plays episodes and writes GIF or MP4
scenes.py  how each kind of environment is drawn
frames.py  one picture, with what the policy did
"""
