"""Tools for tests, ours and those of users."""
