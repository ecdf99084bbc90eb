"""Late answers: what Redis says to calls that nobody waits for is heard soon, even if the process has nothing more to ask.

A busy process reads such an answer with its next call. An idle one would leave it unread, and with it that the call was not carried out.
So one thread in each process looks once, a moment after calls were posted, for what is unread by then.
"""

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

LOOK_S = 0.2


class LateAnswers:
    """Calls *settle* in a thread, made when first needed and so after a fork, soon after each `expect`."""

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle
        self._expected = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def expect(self) -> None:
        """Let answers be looked for soon."""
        if not self._expected.is_set():
            self._expected.set()
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="tw-answers", daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        while True:
            self._expected.wait()
            time.sleep(LOOK_S)
            self._expected.clear()
            try:
                self._settle()
            except Exception:  # whatever it is, later answers are not to suffer from it
                logger.exception("late answers were not read")
