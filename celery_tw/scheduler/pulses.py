"""Pulses: which of many counters stand still, on the leader's own monotonic clock.

Whoever is silent shares no clock with who judges it. Silence begins anew with each term, and after a time in which nobody looked: a stepped
clock or an outage makes nothing stand still.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

BLIND_MS = 3000
"""Without a look for so long nothing is known about who was silent meanwhile."""


@dataclass(slots=True)
class Pulse:
    """A counter as last seen, and the boot time at which it was first seen so."""

    counter: str
    since_ms: int


class Pulses:
    """The counters of one kind, by mid, as the leader of one term after the other has seen them."""

    def __init__(self, *, blind_ms: int = BLIND_MS) -> None:
        self._blind_ms = blind_ms
        self._epoch: int | None = None
        self._pulses: dict[str, Pulse] = {}
        self._looked_ms = 0

    def note(self, epoch: int, counters: Mapping[str, str], now_ms: int) -> None:
        """Note which counters have moved, and which have come or gone."""
        if epoch != self._epoch or now_ms - self._looked_ms > self._blind_ms:
            self._pulses.clear()
        self._epoch, self._looked_ms = epoch, now_ms
        self._pulses = {
            mid: pulse if (pulse := self._pulses.get(mid)) is not None and pulse.counter == counter else Pulse(counter, now_ms)
            for mid, counter in counters.items()
        }

    def still(self, timeout_ms: Callable[[str], int]) -> dict[str, Pulse]:
        """Return, by mid, those that have stood still for as long as *timeout_ms* says of their counter."""
        return {mid: pulse for mid, pulse in self._pulses.items() if self._looked_ms - pulse.since_ms >= timeout_ms(pulse.counter)}

    def restart(self, mid: str) -> None:
        """Let the silence of one begin anew."""
        self._pulses.pop(mid, None)

    def restart_all(self) -> None:
        """Let the silence of all begin anew."""
        self._pulses.clear()
