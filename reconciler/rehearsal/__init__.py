"""Restoring to see whether it can be done: bring a point back, compare, check, time it."""
