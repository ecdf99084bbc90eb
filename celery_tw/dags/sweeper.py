"""Sweeper: the leader looks after nodes that nobody speaks for, so that no run waits for ever.

====================================  =================================================================================
a node that                           has, when nothing of it has moved for ``tw_heartbeat_timeout``
====================================  =================================================================================
runs                                  lost its process: it is queued again, as the same attempt; too often, and it failed
is queued                             perhaps never been sent, or its message is lost: it is sent again, less and less often
====================================  =================================================================================

Before that the result backend is asked: a node may have ended and its process died before it said so. A copy too many harms nothing,
because SQL lets one copy start. Silence is judged as the reaper does: on the leader's own clock, anew with each term and after each outage.

Runs that count as fires of entries are followed at each look (``integration/dags/open_runs.py``).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from celery_tw.clock import Clock
from celery_tw.core.dag_state import NodeState
from celery_tw.core.node_id import NodeId
from celery_tw.errors import DatabaseUnavailable, StaleEpoch, UnknownDagRun
from celery_tw.leadership.elector import Elector
from celery_tw.stores.sql.progress import Ended, Progress, Settled
from celery_tw.stores.sql.sweeping import CountedRun, Pulse, Sweeping

logger = logging.getLogger(__name__)

SOONEST_LOOK_MS = 250
LATEST_LOOK_MS = 5000
STAND_BY_MS = 1000
FORGET_MS = 60_000
MOST_DOUBLINGS = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """A node as last seen, and the boot time at which it was first seen so."""

    pulse: Pulse
    since_ms: int


class Sweeper:
    """Sweeps while *elector* leads.

    *most* tells how many losses a task of that name may have, *end_of* asks the result backend about a task id, *settle* makes known and
    sends what followed. *follow* is told how the runs stand that count as fires, and those that did and ended less than *counted_ms* ago.
    *go_on* is asked before each node: a backend or a broker that is away takes its time.
    """

    def __init__(
        self,
        *,
        sweeping: Callable[[], Sweeping],
        progress: Callable[[], Progress],
        elector: Elector,
        clock: Clock,
        timeout_ms: int,
        most: Callable[[str], int],
        expires_ms: int,
        end_of: Callable[[str], Ended | None],
        settle: Callable[[NodeId, Settled], None],
        follow: Callable[[list[CountedRun]], None],
        counted_ms: int,
        go_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self._sweeping = sweeping
        self._progress = progress
        self.elector = elector
        self.clock = clock
        self.timeout_ms = timeout_ms
        self.most = most
        self.expires_ms = expires_ms
        self.end_of = end_of
        self.settle = settle
        self.follow = follow
        self.counted_ms = counted_ms
        self.go_on = go_on
        self.look_ms = max(SOONEST_LOOK_MS, min(LATEST_LOOK_MS, timeout_ms // 4))
        self._epoch: int | None = None
        self._seen: dict[NodeId, Seen] = {}
        self._forget_at_ms = 0
        self._away = False

    def step(self) -> int:
        """Look once; return in how many ms to call again."""
        term = self.elector.trusted_term()
        if term is None:
            self._epoch = None
            return STAND_BY_MS
        try:
            self._look(term.epoch)
            self._away = False
        except StaleEpoch as error:
            logger.info("the DAGs are another leader's to look after: %s", error)
            self._epoch = None
        except DatabaseUnavailable as error:
            if not self._away:
                logger.error("DAGs are not looked after: %s", error)
            self._away, self._epoch = True, None
        return self.look_ms

    def _look(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._seen.clear()
        self._epoch = epoch
        self.follow(self._sweeping().counted_runs(ended_after_ms=self.clock.wall_ms() - self.counted_ms))
        for pulse in self._silent(self._sweeping().pulses()):
            if not self.go_on():
                return
            try:
                self._end_silence(pulse, epoch)
            except UnknownDagRun:  # forgotten, or deleted by hand
                logger.info("node %s is gone", pulse.id)
        self._forget(epoch)

    def _silent(self, pulses: list[Pulse]) -> list[Pulse]:
        """Note which nodes moved; return those that did not for too long."""
        boot_ms, wall_ms = self.clock.boot_ms(), self.clock.wall_ms()
        self._seen = {
            pulse.id: seen if (seen := self._seen.get(pulse.id)) is not None and seen.pulse == pulse else Seen(pulse, boot_ms)
            for pulse in pulses
        }
        return [
            seen.pulse
            for seen in self._seen.values()
            if boot_ms - seen.since_ms >= self._patience_ms(seen.pulse) and wall_ms >= (seen.pulse.not_before_ms or 0) + self.timeout_ms
        ]

    def _patience_ms(self, pulse: Pulse) -> int:
        return self.timeout_ms if pulse.state is NodeState.RUNNING else self.timeout_ms << min(pulse.sends, MOST_DOUBLINGS)

    def _end_silence(self, pulse: Pulse, epoch: int) -> None:
        ended = self.end_of(str(pulse.id))
        if ended is not None:
            settled = self._progress().end(pulse.id, ended, now_ms=self.clock.wall_ms())
        else:
            settled = self._sweeping().send_again(pulse, epoch=epoch, most=self.most(pulse.task), now_ms=self.clock.wall_ms())
        if settled.accepted:
            what = "had ended unheard" if ended is not None else f"was {pulse.state} and silent"
            logger.warning("node %r of the run %s %s", settled.key, pulse.id.run_id, what)
        self.settle(pulse.id, settled)
        self._seen.pop(pulse.id, None)

    def _forget(self, epoch: int) -> None:
        if self.clock.boot_ms() < self._forget_at_ms:
            return
        if not self._sweeping().forget(before_ms=self.clock.wall_ms() - self.expires_ms, epoch=epoch):
            self._forget_at_ms = self.clock.boot_ms() + FORGET_MS
