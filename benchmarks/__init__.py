"""Benchmarks: what the time wheel costs and gains, beside celery beat, RedBeat and the bare limit of Redis.

``python -m benchmarks dispatch|accuracy|startup|failover|brokers|eta|wheel|dag [--json]``. Each starts its own Redis server (AOF
everysec) and real ``celery beat`` processes, looks at the queue from outside, and prints figures with their ratios: both sides of a ratio
come from one run on one machine, so that it means something elsewhere too. ``docs/benchmarks.md`` says how each figure is taken and what
is not measured.
"""
