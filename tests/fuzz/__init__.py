"""Fuzzing: everything that reads what somebody else may have written is given what nobody would write.

A decoder may return, or refuse in its own words; any other exception is a fault, and so is one that takes long. ``test_decoders.py`` and
``test_arguments.py`` do some of it with every run; ``python -m tests.fuzz --minutes 60`` goes on for as long as it is told.
"""
