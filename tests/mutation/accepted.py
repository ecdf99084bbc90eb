"""Accepted: mutants that change nothing anybody can see, each with the reason.

They are told by module, change and text of the line, so that a changed line asks anew.
"""

ACCEPTED: dict[tuple[str, str, str], str] = {}
