"""Runtime: the guards around the body of a task, one a file."""
