"""Exercises on positions."""

EXERCISES = ()
