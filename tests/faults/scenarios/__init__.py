"""Scenarios, a file for each kind of thing that is hurt. Each plays one row of the matrix and returns what was seen."""
