"""Lease: for how long this process may act for a run, judged by its own clock alone.

The lease in Redis lasts ``tw_lock_timeout``. It is trusted here from the moment *before* the call that took or renewed it, less a margin,
so that it ends here before it can end there. Whoever finds it lost stays without: a later renewal cannot give it back.

The token is the fence for the outside world: it grows with each acquisition of any run of the shard, so a store that remembers the highest
token it has seen can refuse a process that was paused and came back.
"""

from celery_tw.clock import Clock
from celery_tw.errors import LeaseLost, TaskCancelled, TaskYielded

MARGIN = 0.05


class Lease:
    """The right to act for one run; *token* is its fencing number."""

    def __init__(self, token: str, *, clock: Clock, taken_ms: int, lease_ms: int) -> None:
        self.token = int(token or 0)
        self._clock = clock
        self._lease_ms = lease_ms
        self._until_ms = 0
        self._status = "ok"
        self.renew(taken_ms)

    def renew(self, asked_ms: int) -> None:
        """Trust the lease anew from *asked_ms*, the boot time at which it was asked for."""
        self._until_ms = asked_ms + round(self._lease_ms * (1 - MARGIN))

    def tell(self, status: str) -> None:
        """Note what Redis said of the run: ok, drain, lost, or cancel with the reason. Lost and cancelled are for good."""
        if self._status == "lost" or (self._status.startswith("cancel") and status != "lost"):
            return
        self._status = status

    @property
    def lost(self) -> bool:
        """Whether another process has the run by now, or may have."""
        return self._status == "lost" or self._clock.boot_ms() >= self._until_ms

    @property
    def cancelled(self) -> str | None:
        """The reason for which the run is to stop, or None."""
        return self._status.removeprefix("cancel ") if self._status.startswith("cancel") else None

    @property
    def draining(self) -> bool:
        """Whether the worker shuts down and the run should go on elsewhere."""
        return self._status == "drain"

    def check(self) -> None:
        """Return while the run may go on; raises `LeaseLost` or `TaskCancelled`. It reads memory only, so call it as often as you like."""
        if self.lost:
            raise LeaseLost(f"the lease with token {self.token} is not this process's any more: another may run the task")
        if self.cancelled is not None:
            raise TaskCancelled(self.cancelled)

    def check_at_a_boundary(self) -> None:
        """Do what `check` does where the state has just been saved: there a run whose worker shuts down yields, raising `TaskYielded`."""
        self.check()
        if self.draining:
            raise TaskYielded("the worker shuts down; the task goes on elsewhere")


class LocalLease:
    """What stands in for a lease where a task is called directly or eagerly: nobody can take the run away."""

    token = 0

    def check(self) -> None:
        """Return always."""
