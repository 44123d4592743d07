"""Environments whose observation says what to reach.

rooms.py     grid worlds of any map; by default the four rooms
"""
