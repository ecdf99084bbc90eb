"""Superseding: asks the tasks of an entry's earlier fires to stop, because a later slot has taken their place (``cancel_previous``).

Telling the workers may take as long as a broker that does not answer, so it is done beside the leader's work, in a thread of its own. The
fire goes out first. A leader that dies before it has asked leaves it to the next slot, which asks all that is still there.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence

from celery_tw.errors import StoreRefused, StoreUnavailable
from celery_tw.stores.redis.open_fires import OpenFires

logger = logging.getLogger(__name__)

IDLE_MS = 1000
KEPT = 1000
"""How many entries may wait for their turn; with the workers out of reach for longer, the oldest are left to their next slot."""


class Superseding:
    """A queue of tasks to *cancel*, which is given the entry's name, their ids and the reason; *wake* calls `step` soon."""

    def __init__(self, *, open_fires: OpenFires, cancel: Callable[[str, Sequence[str], str], None], wake: Callable[[], None]) -> None:
        self.open_fires = open_fires
        self.cancel = cancel
        self.wake = wake
        self._waiting: deque[tuple[str, Sequence[str]]] = deque(maxlen=KEPT)

    def supersede(self, name: str, task_ids: Sequence[str]) -> None:
        """Ask tasks of the entry *name* to stop, soon."""
        self._waiting.append((name, task_ids))
        self.wake()

    def step(self) -> int:
        """Ask for what waits; return in how many ms to call again."""
        while self._waiting:
            name, task_ids = self._waiting.popleft()
            try:
                self.cancel(name, task_ids, f"superseded by a later fire of {name}")
                self.open_fires.strike_queued(name, task_ids)
                logger.info("entry %s: %d task(s) of earlier fires were asked to stop", name, len(task_ids))
            except (StoreUnavailable, StoreRefused) as error:
                logger.warning("entry %s: its earlier fires are asked to stop at its next slot: %s", name, error)
            except Exception:  # the broker's client has errors of its own; the other entries are not to suffer from them
                logger.exception("entry %s: its earlier fires could not be asked to stop", name)
        return IDLE_MS
