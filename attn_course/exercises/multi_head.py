"""Exercises on multi head."""

EXERCISES = ()
