"""Snoozing: a task puts itself off, because it is too early and not because it failed: it begins again later, as the same attempt.

It is sent like a retry, under its own id and with its place in a canvas, in an order and among what is unique; only the number of its
retries stays. A header counts how often it was put off, which tells the sends of one attempt apart.
"""

from typing import Any

from celery.exceptions import Reject, Retry

from celery_tw.errors import InvalidSchedule
from celery_tw.integration.messages.identity_headers import SNOOZES
from celery_tw.integration.runs.run_headers import header_of

LONGEST_S = 366 * 24 * 3600.0


def snoozed(task: Any, seconds: float) -> Exception:
    """Send the present request of *task* once more, to begin in *seconds*; return what its body is to raise.

    Called directly, or eagerly, there is nothing to wait in, and nothing is sent. Raises `InvalidSchedule` for what is no duration.
    """
    if not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_S:
        raise InvalidSchedule(f"snooze takes a number of seconds from 0 to {LONGEST_S:g}, not {seconds!r}")
    request = task.request
    headers = {**(request.headers or {}), SNOOZES: int(header_of(request, SNOOZES) or 0) + 1}
    again = task.signature_from_request(request, countdown=seconds, retries=request.retries or 0, headers=headers)
    put_off = Retry("put off", when=seconds, is_eager=request.is_eager, sig=again)
    if request.called_directly or request.is_eager:
        return put_off
    try:
        again.apply_async()
    except Exception as error:  # whatever the broker raises: the message comes again, and what it asks for is on record
        return Reject(f"it could not be put off: {error}", requeue=True)
    return put_off
