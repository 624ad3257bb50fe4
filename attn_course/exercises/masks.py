"""Exercises on masks."""

EXERCISES = ()
