"""Forerunners: the run that a retry comes after, which may not have ended yet.

A retry is sent by the body of the run before it, so its run may begin a moment too soon. Where Redis does not answer it is not held up.
"""

import logging
import time

from celery_tw.errors import StoreUnavailable
from celery_tw.stores.redis.runs.runs import Runs

logger = logging.getLogger(__name__)

END_PATIENCE_S = 1.0
END_LOOK_S = 0.01


def let_end(runs: Runs, mid: str) -> None:
    """Wait a moment for the run *mid*, whose retry this is, to end: Celery writes RETRY after sending the retry, over any result."""
    deadline_s = time.monotonic() + END_PATIENCE_S
    try:
        while runs.is_on_record(mid) and time.monotonic() < deadline_s:
            time.sleep(END_LOOK_S)
    except StoreUnavailable as error:
        logger.debug("whether run %s has ended is not known: %s", mid, error)
