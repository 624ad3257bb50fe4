"""Exercises on linear."""

EXERCISES = ()
