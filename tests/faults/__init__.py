"""Faults: real schedulers, servers and brokers hurt in every way that the table in ``matrix.py`` names, judged by the public checker.

``python -m tests.faults`` plays the whole table; ``test_matrix.py`` takes a few rows of it with each run of the tests.
"""
