"""OneTimeTasks: tasks that are stored while faults strike, and the account of where each of them is in the end.

Some are due while the fault lasts, some tomorrow; when it is over some of both are removed, those that are still there. What the timetable
answers decides: a removal that was confirmed and a message in the queue are two places for one task.
"""

import random
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from celery import Celery

from celery_tw import TimeWheel, UnknownEntry, once
from celery_tw.errors import StoreRefused, StoreUnavailable
from celery_tw.testing.oracles import Account
from celery_tw.testing.slots import Listed

PREFIX = "task-"
SOON, TOMORROW, REMOVED = 6, 2, 2
WITHIN_MS = 4000
DAY_MS = 86_400_000


@dataclass
class OneTimeTasks:
    """All that were stored by name, with when they are due in ms; *removed* are those of which that was confirmed."""

    dice: random.Random
    due_ms: dict[str, int] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    in_doubt: set[str] = field(default_factory=set)

    def store(self, app: Celery, timewheel: TimeWheel, *, now_ms: int) -> list[str]:
        """Store some more; return their names."""
        dues_ms = [now_ms + self.dice.randint(100, WITHIN_MS) for _ in range(SOON)]
        dues_ms += [now_ms + DAY_MS + self.dice.randrange(DAY_MS) for _ in range(TOMORROW)]
        names = [f"{PREFIX}{len(self.due_ms) + number}" for number in range(len(dues_ms))]
        self.due_ms |= dict(zip(names, dues_ms, strict=True))
        signature = app.signature("shop.record")
        timewheel.schedule_many({"name": name, "signature": signature, "schedule": once(moment(self.due_ms[name]))} for name in names)
        return names

    def remove_some(self, timewheel: TimeWheel, names: list[str]) -> None:
        """Remove some of *names*, as far as they have not fired."""
        for name in (*self.dice.sample(names[:SOON], REMOVED), names[-1]):
            try:
                with suppress(UnknownEntry):
                    timewheel.remove(name)
                    self.removed.add(name)
            except (StoreUnavailable, StoreRefused):
                self.in_doubt.add(name)

    def slots(self) -> list[Listed]:
        """Return which must be fired, and which may be."""
        may_not_fire = self.removed | self.in_doubt
        return [Listed(name, () if name in may_not_fire else (due_ms,), (due_ms,)) for name, due_ms in self.due_ms.items()]

    def account(self, timewheel: TimeWheel) -> Account:
        """Return where those are that were not fired; of what was removed in doubt it is not known."""
        added = [name for name in self.due_ms if name not in self.in_doubt]
        return Account(added=added, waiting=self.waiting(timewheel), cancelled=self.removed)

    def waiting(self, timewheel: TimeWheel) -> set[str]:
        """Return those that the timetable lists."""
        names: set[str] = set()
        cursor = None
        while True:
            page = timewheel.entries(prefix=PREFIX, limit=1000, cursor=cursor)
            names |= {entry.name for entry in page.entries}
            cursor = page.cursor
            if cursor is None:
                return names

    def are_settled(self, timewheel: TimeWheel, *, now_ms: int) -> bool:
        """Return whether all that were due at once have gone: no more of them is under way while the account is made."""
        return all(self.due_ms[name] > now_ms + DAY_MS // 2 for name in self.waiting(timewheel))


def moment(ms: int) -> datetime:
    """Return a moment given in ms, UTC."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
