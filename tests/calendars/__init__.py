"""Every slot of every time zone, compared with two oracles that know nothing of ``celery_tw.core``.

The first (``oracle.py``) looks at each minute of UTC in which it matters what the wall clock shows. The second is cronsim, where its rules
are ours. ``tests/core/test_calendars.py`` takes a sample with every run; ``python -m tests.calendars`` takes all zones from 2000 to 2100,
goes on where it was interrupted, and prints a report.
"""
