"""Exercises on scores."""

EXERCISES = ()
