"""Goals: environments that say in each observation what is to be reached; see `core.goals`.

bit_flip.py  bits that are to be as another row of bits
point.py     a point in a square, with or without walls (walls.py) in its way
arm.py       a planar arm
rooms.py     grid worlds of any map, with one goal or a drawn one; by default the four rooms
"""
