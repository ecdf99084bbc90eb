"""Term: one process's right to lead one shard, for as long as it may trust it.

The store is the authority: it knows the epoch and checks it in each write. The holder must stop on its own as well, when it cannot
reach the store. It trusts a term until its own boot clock *before* the last successful attempt, plus the lease, less a margin: whatever
happened to the reply, the lease in the store ends later than that.
"""

from dataclasses import dataclass, replace

MARGIN = 0.1
"""The part of a lease that the holder does not use: scheduling delays, and drift between two clocks over one lease."""


@dataclass(frozen=True, slots=True)
class Term:
    """The term *epoch* of *owner* on *shard*; *trusted_until_ms* is boot time."""

    shard: int
    owner: str
    epoch: int
    trusted_until_ms: int

    @classmethod
    def won(cls, *, shard: int, owner: str, epoch: int, attempt_ms: int, lease_ms: int) -> "Term":
        """Return the term won by an attempt begun at boot time *attempt_ms*."""
        return cls(shard, owner, epoch, _trusted_until(attempt_ms, lease_ms))

    def renewed(self, *, attempt_ms: int, lease_ms: int) -> "Term":
        """Return the term as prolonged by an attempt begun at boot time *attempt_ms*."""
        return replace(self, trusted_until_ms=_trusted_until(attempt_ms, lease_ms))

    def trusted(self, boot_ms: int) -> bool:
        """Return whether the holder may still act."""
        return boot_ms < self.trusted_until_ms


def _trusted_until(attempt_ms: int, lease_ms: int) -> int:
    return attempt_ms + lease_ms - int(lease_ms * MARGIN)
