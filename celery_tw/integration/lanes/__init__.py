"""Lanes: tasks of a fair queue start by shares, on the way in and for people."""
