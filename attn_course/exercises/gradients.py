"""Exercises on gradients."""

EXERCISES = ()
