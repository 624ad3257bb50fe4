"""Exercises on pooling."""

EXERCISES = ()
