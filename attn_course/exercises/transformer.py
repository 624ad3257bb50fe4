"""Exercises on transformer."""

EXERCISES = ()
