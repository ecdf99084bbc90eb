"""Status: who leads, who stands by, and how the timetable stands."""

from dataclasses import dataclass
from typing import Any

from celery_tw.integration.lanes.lanes import LaneControl
from celery_tw.integration.lanes.views import QueueView
from celery_tw.stores.redis.claims import Claims
from celery_tw.stores.redis.dead_letters import DeadLetters
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.timetable import Timetable


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One scheduler: *skew* is how far its wall clock is ahead of Redis, in seconds.

    One that has died is listed until it has been silent for some leases, but *leads* no longer.
    """

    member_id: str
    host: str
    pid: int
    leads: bool
    skew: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of one namespace; durations in seconds.

    *leader* is None when nobody leads. *late* counts entries that are due by more than a second. *held* tells that dispatch waits for
    ``tw clock accept`` after a step of *held_step* seconds. *fire_path* tells how a fire reaches the broker; *claimed* counts the messages
    that wait in the outbox for a broker apart, *refused* those of them that it has refused, *buried* those that it refused too often.
    *lanes* tells of each fair queue.
    *dead_letters* are tasks that have failed for good, *dead_letter_bytes* what they take, and *dead_letter_counts* what has become of all
    there ever were: buried, requeued, purged, expired, dropped.
    """

    namespace: str
    fire_path: str
    leader: str | None
    epoch: int | None
    lease_left: float | None
    members: list[Member]
    names: int
    waiting: int
    late: int
    oldest_late: float
    quarantined: dict[str, str]
    backlogs: dict[str, int]
    held: bool
    held_step: float | None
    claimed: int
    refused: int
    buried: int
    lanes: tuple[QueueView, ...]
    dead_letters: int
    dead_letter_bytes: int
    dead_letter_counts: dict[str, int]


def read_status(
    timetable: Timetable, election: Election, claims: Claims, lanes: LaneControl, letters: DeadLetters, *, fire_path: str
) -> Status:
    """Return the status of the timetable's namespace."""
    leader, lease_left_ms = election.leader()
    owner = leader.get("owner")
    names, waiting = timetable.count()
    late, oldest_ms = timetable.overdue(grace_ms=1000)
    hold = election.clock_hold()
    outbox, dead = claims.sizes(), letters.totals()
    return Status(
        namespace=timetable.keys.namespace,
        fire_path=fire_path,
        leader=owner,
        epoch=int(leader["epoch"]) if "epoch" in leader else None,
        lease_left=lease_left_ms / 1000 if leader else None,
        members=[_member(member_id, line, leads=member_id == owner) for member_id, line in sorted(election.members().items())],
        names=names,
        waiting=waiting,
        late=late,
        oldest_late=oldest_ms / 1000,
        quarantined={member: reason.decode(errors="replace") for member, reason in timetable.quarantined().items()},
        backlogs=timetable.backlog_sizes(),
        held=hold is not None,
        held_step=hold["step"] / 1000 if hold else None,
        claimed=outbox.waiting,
        refused=outbox.refused,
        buried=outbox.buried,
        lanes=tuple(lanes.stats()),
        dead_letters=dead.letters,
        dead_letter_bytes=dead.size,
        dead_letter_counts=dict(sorted(dead.counts.items())),
    )


def _member(member_id: str, line: dict[str, Any], *, leads: bool) -> Member:
    return Member(
        member_id=member_id,
        host=str(line.get("host", "?")),
        pid=int(line.get("pid", 0)),
        leads=leads,
        skew=int(line.get("skew_ms", 0)) / 1000,
    )
