"""Retry delay: how long a failed node of a DAG waits before it is sent again: twice as long after each failure, up to an hour.

With ``retry_delay=10`` that is 10, 20, 40, … 3600, 3600 s. A first delay of more than an hour is kept as it is.
"""

LONGEST_GROWN_MS = 3600 * 1000
MOST_DOUBLINGS = 30


def retry_delay_ms(first_ms: int, *, failures: int) -> int:
    """Return how long to wait after that many *failures* (from 1) when it is *first_ms* after the first."""
    grown_ms = first_ms << min(failures - 1, MOST_DOUBLINGS)
    return max(first_ms, min(grown_ms, LONGEST_GROWN_MS))
