"""Clock control: a person's word after the server's clock has stepped.

A forward step that no other clock shares holds dispatch: firing on would spend the slots of hours that have not come. ``accept`` says that
the new time is right. When it was wrong, and some entries had been decided for the future before it was noticed, their marks lie ahead of
time and they will not fire until then; ``repair`` sets those marks to now.
"""

from collections.abc import Mapping
from datetime import datetime

from celery_tw.integration.entries.book import Book
from celery_tw.stores.redis.election import Election


class ClockControl:
    """The two verbs, and what they are about."""

    def __init__(self, election: Election, book: Book) -> None:
        self.election = election
        self.book = book

    def held(self) -> Mapping[str, int] | None:
        """Return when (``at``, ms), by how much (``step``, ms) and by which ``epoch`` dispatch is held, or None."""
        return self.election.clock_hold()

    def accept(self) -> bool:
        """Take Redis time as it is, and let dispatch go on; return False when it was not held."""
        return self.election.accept_clock()

    def ahead_of_time(self) -> list[tuple[str, datetime]]:
        """Return the entries whose marks lie in the future, each with its mark."""
        return self.book.ahead_of_time()

    def repair(self) -> list[str]:
        """Set marks that lie in the future to now; return the names of the entries."""
        return self.book.repair_marks()
