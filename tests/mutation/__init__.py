"""Mutation tests: small faults are planted in ``core`` and ``leadership`` one at a time, and the tests have to notice.

A mutant that no test notices *survives*: a test is missing, or the fault changes nothing that anybody can see. The score is the part that
was noticed. ``python -m tests.mutation`` plants all of them, goes on where it was interrupted, and prints the score with the survivors.
"""
