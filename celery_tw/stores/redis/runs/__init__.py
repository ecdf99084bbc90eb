"""Runs as they stand in Redis: their values, and the verbs of all who have to do with them."""
