"""Exercises on cache."""

EXERCISES = ()
