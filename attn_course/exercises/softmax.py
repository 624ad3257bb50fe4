"""Exercises on softmax."""

EXERCISES = ()
