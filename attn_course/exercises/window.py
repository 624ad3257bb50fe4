"""Exercises on window."""

EXERCISES = ()
