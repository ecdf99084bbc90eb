"""Timeline: virtual time, and whose turn it is.

Whatever runs is a *strand*, a greenlet that gives its turn away only where it says so: when it sleeps, or when it talks to the server. The
timeline holds the moments at which strands go on; between two moments nothing happens, so a minute costs as long as what is done in it.
Two strands that go on at the same moment are put in order by the seeded random numbers: the same seed makes the same history.

Strands belong to a *host*, a simulated process: a frozen host's strands go on when it thaws, a dead host's never again.
"""

import random
from collections.abc import Callable
from heapq import heappop, heappush

from greenlet import GreenletExit, getcurrent, greenlet

SHORTEST_US = 50
"""Nothing is for free: a step that asks to be called again at once lets this much time pass."""


class Host:
    """A simulated process: alive, frozen until a moment, or dead."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen_until_us = 0
        self.dead = False


class Strand:
    """One thread of a host, which gives its turn back to *main*. *token* tells the moment it waits for from those it was woken before."""

    def __init__(self, name: str, host: Host, run: Callable[[], None], *, main: greenlet) -> None:
        self.name = name
        self.host = host
        self.greenlet = greenlet(run, main)  # else whoever made it, perhaps dead by now, would go on when it ends
        self.token = 0
        self.waits = False
        self.woken = False


class Timeline:
    """The one queue of moments to come."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.now_us = 0
        self.failures: list[tuple[str, BaseException]] = []
        self._moments: list[tuple[int, float, int, Callable[[], None]]] = []
        self._count = 0
        self._running: Strand | None = None
        self._main = getcurrent()

    def at(self, moment_us: int, action: Callable[[], None]) -> None:
        """Do *action*, which may not sleep, at *moment_us*."""
        self._count += 1
        heappush(self._moments, (max(moment_us, self.now_us), self.chance.random(), self._count, action))

    def spawn(self, name: str, host: Host, run: Callable[[], None]) -> Strand:
        """Let *run* begin now as a strand of *host*."""
        strand = Strand(name, host, lambda: self._run_strand(strand, run), main=self._main)
        self._resume_at(strand, self.now_us)
        return strand

    def run(self, until_us: int) -> None:
        """Let everything happen that happens until *until_us*."""
        while self._moments and self._moments[0][0] <= until_us:
            moment_us, _, _, action = heappop(self._moments)
            self.now_us = moment_us
            action()
        self.now_us = until_us

    def sleep(self, us: int) -> None:
        """Give the turn away for *us*; whoever calls is a strand."""
        self._park(us)

    def wait(self, us: int) -> None:
        """Sleep for *us*, or until somebody wakes this strand; a wake-up while it was busy counts."""
        strand = self.running
        if strand.woken:
            us = 0
        strand.waits = True
        self._park(us)
        strand.waits = strand.woken = False

    def wake(self, strand: Strand) -> None:
        """Cut the present or the next wait of *strand* short."""
        strand.woken = True
        if strand.waits:
            self._resume_at(strand, self.now_us)

    def freeze(self, host: Host, us: int) -> None:
        """Stop *host* for *us*; its strands go on where they stand."""
        host.frozen_until_us = max(host.frozen_until_us, self.now_us + us)

    @property
    def running(self) -> Strand:
        """The strand whose turn it is."""
        assert self._running is not None
        return self._running

    def _park(self, us: int) -> None:
        self._resume_at(self.running, self.now_us + max(us, SHORTEST_US))
        self._main.switch()
        if self.running.host.dead:
            raise GreenletExit

    def _resume_at(self, strand: Strand, moment_us: int) -> None:
        strand.token += 1
        token = strand.token
        self.at(moment_us, lambda: self._resume(strand, token))

    def _resume(self, strand: Strand, token: int) -> None:
        if token != strand.token or strand.host.dead or strand.greenlet.dead:
            return
        if strand.host.frozen_until_us > self.now_us:
            self._resume_at(strand, strand.host.frozen_until_us)
            return
        self._running = strand
        strand.greenlet.switch()
        self._running = None

    def _run_strand(self, strand: Strand, run: Callable[[], None]) -> None:
        try:
            run()
        except GreenletExit:
            return
        except Exception as error:  # nothing may end a strand: the simulation reports it
            self.failures.append((strand.name, error))
