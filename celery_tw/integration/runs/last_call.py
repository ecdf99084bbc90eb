"""Last call: the call that ends a run, which is made until it is answered.

One whose answer was lost may have ended the run, and the next is refused then, as it is when another process has the run. So after a lost
answer a refusal is looked into.
"""

from collections.abc import Callable

from celery_tw.errors import StoreUnavailable


class LastCall:
    """Calls *end*, which tells whether it ended the run; *has_ended* tells whether an earlier call did."""

    def __init__(self, end: Callable[[], bool], *, has_ended: Callable[[], bool]) -> None:
        self._end = end
        self._has_ended = has_ended
        self._unanswered = False

    def __call__(self) -> bool:
        """Return whether the run has ended by this call, or one before it; raises `StoreUnavailable`."""
        try:
            return self._end() or (self._unanswered and self._has_ended())
        except StoreUnavailable:
            self._unanswered = True
            raise
