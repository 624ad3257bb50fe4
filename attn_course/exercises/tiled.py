"""Exercises on tiled."""

EXERCISES = ()
