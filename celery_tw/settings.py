"""Settings: the ``tw_*`` keys of the app's configuration, read and checked once.

They stand where all Celery settings stand: ``tw_leader_lease = 5`` in a settings module, ``app.conf.tw_leader_lease = 5``, or
``CELERY_TW_LEADER_LEASE = 5`` with ``config_from_object(…, namespace="CELERY")``. Below this file every part receives plain values,
times in whole ms. A key that cannot be honoured is refused, never ignored: an unknown name (with the nearest known one), a setting
of a part that this version does not have, a spelling that Celery would not read, a dictionary in place of single keys.

===========================  ====================  =====================================================================
setting                      default               meaning
===========================  ====================  =====================================================================
``tw_namespace``             the app's name        tells projects on one Redis apart; part of every key
``tw_redis_url``             the broker's          where the timetable lives
``tw_redis_eviction_check``  ``"error"``           what a Redis that may evict keys is met with: error, warn or off
``tw_leader_lease``          3 s                   a leader silent for this long is replaced
``tw_shards``                1                     independent timetables; only 1 in this version
``tw_wheel_levels``          (60, 60, 24, 30)      slots of the wheel: seconds, minutes, hours, days
``tw_wheel_capacity``        1,000,000             ids that the leader holds in memory; the rest is paged in
``tw_fire_tolerance``        5 s                   a slot this late is simply fired; a later one is missed
``tw_max_clock_skew``        5 s                   a forward step of Redis time beyond this holds dispatch
``tw_misfire``               ``"latest"``          what happens to missed slots: latest, skip, catch_up or a ``Misfire``
``tw_overlap``               ``"allow"``           what happens to a slot while an earlier fire of its entry runs: allow, skip,
                                                   buffer_one, cancel_previous
``tw_overlap_expires``       3600 s                a fire that no worker has taken up counts as still there for so long
``tw_catch_up_rate``         100 a second          how fast missed slots are fired, per queue
``tw_history_size``          60                    fires remembered per entry
``tw_defer_eta``             ``"auto"``            tasks with an ETA wait in the timetable: auto (while a leader is seen),
                                                   always, off
``tw_defer_min_delay``       2 s                   a task due sooner than this goes to the broker at once
``tw_defer_exclude_queues``  ()                    names of queues whose tasks keep Celery's own ETA
``tw_leaderless_grace``      60 s                  how long after the last leader was seen ``auto`` still defers
``tw_allowed_tasks``         all                   names, or patterns with ``*`` and ``?``, of the tasks that entries may send
``tw_lock_timeout``          300 s                 how long the lease and the locks of a run outlive its process
``tw_lock_extend_interval``  120 s                 how often they are extended; at most half of the time-out
``tw_heartbeat_interval``    30 s                  how often a process says that its runs are alive
``tw_heartbeat_timeout``     120 s                 a run silent for this long is lost; at least twice the interval
``tw_checkpoint_interval``   600 s                 how often ``iterate`` saves, unless told
``tw_checkpoint_expires``    7 days                how long a checkpoint outlives its last save
``tw_checkpoint_max_bytes``  1,000,000             a larger checkpoint is refused
``tw_max_reassignments``     3                     losses without a new checkpoint after which a run fails
``tw_run_expires``           2 x the broker's      how long a finished run is remembered, so that a late copy does
                             visibility timeout,   not run again
                             at least 1 h
``tw_long_queue``            none                  the queue of long tasks that neither their call nor a route names
``tw_database_url``          none                  the SQL database of DAGs, such as postgresql+psycopg://user@host/name
``tw_dag_expires``           30 days               how long a DAG run is remembered after its end
``tw_dlq``                   ``"guarded"``         whose final failures become dead letters: guarded (tasks with one of our bases,
                                                   and all that the time wheel fired), all, off
``tw_dlq_expires``           30 days               how long a dead letter is kept after its last death
``tw_dlq_max_bytes``         256 MiB               beyond so many bytes of dead letters the oldest are dropped, after an alarm
``tw_dlq_max_redeliveries``  5                     a message that comes back more often, after it was started, is buried
``tw_dag_canvas_timeout``    1 day                 a node of several tasks, none of which shows that it runs, is sent again
``tw_fair_queues``           ()                    names of queues whose tasks start by lane: high, medium and low
``tw_lane_shares``           (50, 30, 20)          the shares of starts of high, medium and low, in percent
``tw_aging_low_to_medium``   3600 s                a task that has waited so long in low counts as medium
``tw_aging_medium_to_high``  7200 s                a task that has waited so long counts as high
``tw_starvation_alert``      14400 s               a task that has waited so long is an alarm, and is rescued
``tw_fair_capacity``         8                     how many tasks the workers of a fair queue run at once, when none of them says
===========================  ====================  =====================================================================

Reading never changes the configuration: ``app.add_defaults`` would override what the user's own module says.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Protocol, Self

from celery_tw.core.allowed import PATTERN, AllowedTasks
from celery_tw.core.lane import LANES
from celery_tw.core.misfire import Misfire
from celery_tw.core.overlap import POLICIES
from celery_tw.errors import ImproperlyConfigured, InvalidEntry

NAMESPACE_PATTERN = re.compile(r"[A-Za-z0-9_.:@/-]{1,100}")
LONGEST_WAIT_S = 7 * 24 * 3600.0
LONGEST_AGE_S = 366 * 24 * 3600.0
WHOLE = 100

Reader = Callable[[str, Any], Any]


class Configuration(Protocol):
    """What is asked of ``app.conf``: a value by name, and the names."""

    def get(self, key: str, default: Any = None) -> Any: ...

    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one app, checked; see the table above."""

    namespace: str
    redis_url: str | None = field(default=None, repr=False)
    redis_eviction_check: str = "error"
    leader_lease_ms: int = 3000
    shards: int = 1
    wheel_levels: tuple[int, int, int, int] = (60, 60, 24, 30)
    wheel_capacity: int = 1_000_000
    fire_tolerance_ms: int = 5000
    max_clock_skew_ms: int = 5000
    misfire: Misfire = field(default_factory=Misfire.latest)
    overlap: str = "allow"
    overlap_expires_ms: int = 3_600_000
    catch_up_rate: float = 100.0
    history_size: int = 60
    defer_eta: str = "auto"
    defer_min_delay_ms: int = 2000
    defer_exclude_queues: frozenset[str] = frozenset()
    leaderless_grace_ms: int = 60_000
    allowed_tasks: AllowedTasks = field(default_factory=AllowedTasks)
    lock_timeout_ms: int = 300_000
    lock_extend_interval_ms: int = 120_000
    heartbeat_interval_ms: int = 30_000
    heartbeat_timeout_ms: int = 120_000
    checkpoint_interval_ms: int = 600_000
    checkpoint_expires_ms: int = 7 * 24 * 3600 * 1000
    checkpoint_max_bytes: int = 1_000_000
    max_reassignments: int = 3
    run_expires_ms: int | None = None
    long_queue: str | None = None
    database_url: str | None = field(default=None, repr=False)
    dag_expires_ms: int = 30 * 24 * 3600 * 1000
    dlq: str = "guarded"
    dlq_expires_ms: int = 30 * 24 * 3600 * 1000
    dlq_max_bytes: int = 256 * 1024 * 1024
    dlq_max_redeliveries: int = 5
    dag_canvas_timeout_ms: int = 24 * 3600 * 1000
    fair_queues: frozenset[str] = frozenset()
    lane_shares: tuple[int, int, int] = (50, 30, 20)
    aging_low_to_medium_ms: int = 3_600_000
    aging_medium_to_high_ms: int = 7_200_000
    starvation_alert_ms: int = 14_400_000
    fair_capacity: int = 8

    @classmethod
    def read(cls, conf: Configuration, *, app_name: str | None) -> Self:
        """Return the settings in *conf* (``app.conf``); *app_name* is ``app.main``, the default namespace.

        Raises ImproperlyConfigured, naming the setting, what was expected and what came.
        """
        namespace = _namespace(conf.get("tw_namespace"), app_name=app_name)
        _refuse_unusable_keys(conf)
        given = {row.attribute: row.read(key, conf.get(key)) for key, row in _ROWS.items() if conf.get(key) is not None}
        settings = cls(namespace=namespace, **given)
        _refuse_contradictions(settings)
        return settings


def _refuse_contradictions(settings: Settings) -> None:
    """Raise when two settings contradict each other."""
    _refuse_short_timeouts(settings)
    _refuse_thresholds_out_of_order(settings)


def _refuse_short_timeouts(settings: Settings) -> None:
    """Raise when a time-out does not leave room for two of the signs of life that are to prevent it."""
    for limit, sign in (("lock_timeout", "lock_extend_interval"), ("heartbeat_timeout", "heartbeat_interval")):
        limit_ms, sign_ms = getattr(settings, f"{limit}_ms"), getattr(settings, f"{sign}_ms")
        if limit_ms < 2 * sign_ms:
            raise ImproperlyConfigured(
                f"tw_{limit}: expected at least twice tw_{sign} ({sign_ms / 1000:g} s), so that one missed sign costs nothing, "
                f"got {limit_ms / 1000:g} s"
            )


def _refuse_thresholds_out_of_order(settings: Settings) -> None:
    """Raise when a task would grow older than one threshold of its lane before it reaches the one before."""
    names = ("aging_low_to_medium", "aging_medium_to_high", "starvation_alert")
    for earlier, later in pairwise(names):
        earlier_ms, later_ms = getattr(settings, f"{earlier}_ms"), getattr(settings, f"{later}_ms")
        if earlier_ms >= later_ms:
            raise ImproperlyConfigured(
                f"tw_{later}: expected more than tw_{earlier} ({earlier_ms / 1000:g} s), for a task grows older in that order, "
                f"got {later_ms / 1000:g} s"
            )


def _namespace(value: Any, *, app_name: str | None) -> str:
    if value is None:
        value = app_name
        if value in (None, "", "__main__"):
            raise ImproperlyConfigured(
                "tw_namespace is needed because this app has no name of its own: expected Celery('shop', …), or "
                f"tw_namespace = 'shop' in its settings, got the app name {app_name!r}"
            )
    if not isinstance(value, str) or not NAMESPACE_PATTERN.fullmatch(value):
        raise _wrong("tw_namespace", "1 to 100 letters, digits or any of _ . : @ / -", value)
    return value


def _wrong(key: str, expected: str, value: Any) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{key}: expected {expected}, got {value!r}")


def seconds(low: float, high: float) -> Reader:
    """Read seconds, or a timedelta, as whole ms."""

    def read(key: str, value: Any) -> int:
        number = value.total_seconds() if isinstance(value, timedelta) else value
        if not _is_number(number) or not low <= number <= high:
            raise _wrong(key, f"seconds from {low:g} to {high:g}", value)
        return round(number * 1000)

    return read


def whole(low: int, high: int) -> Reader:
    """Read a whole number."""

    def read(key: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _wrong(key, f"a whole number from {low} to {high}", value)
        return value

    return read


def rate(low: float, high: float) -> Reader:
    """Read a number per second."""

    def read(key: str, value: Any) -> float:
        if not _is_number(value) or not low <= value <= high:
            raise _wrong(key, f"a number per second from {low:g} to {high:g}", value)
        return float(value)

    return read


def one_of(*allowed: Any) -> Reader:
    """Read one of a few values."""

    def read(key: str, value: Any) -> Any:
        if value not in allowed:
            raise _wrong(key, f"one of {', '.join(map(repr, allowed))}", value)
        return value

    return read


def only_for_now(allowed: Any) -> Reader:
    """Read the one value that this version has; the others are named as not yet available."""

    def read(key: str, value: Any) -> Any:
        if value != allowed or isinstance(value, bool):
            known = f"{value!r} is not available in this version" if _is_more(value) else f"got {value!r}"
            raise ImproperlyConfigured(f"{key}: expected {allowed!r}, {known}")
        return value

    return read


def _is_more(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def url(example: str) -> Reader:
    """Read a URL; it is not shown in an error, for it may hold a password."""

    def read(key: str, value: Any) -> str:
        if not isinstance(value, str) or "://" not in value:
            came = "a string without '://'" if isinstance(value, str) else type(value).__name__
            raise ImproperlyConfigured(f"{key}: expected a URL such as {example!r}, got {came}")
        return value

    return read


def _name(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(key, "a name", value)
    return value


def _names(key: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in value):
        raise _wrong(key, "a list of names", value)
    return frozenset(value)


def _patterns(key: str, value: Any) -> AllowedTasks:
    patterns = sorted(_names(key, value))
    if not all(PATTERN.fullmatch(pattern) for pattern in patterns):
        raise _wrong(key, "patterns of 1 to 200 characters without blanks and brackets, such as 'shop.reports.*'", value)
    return AllowedTasks(tuple(patterns))


def _wheel_levels(key: str, value: Any) -> tuple[int, ...]:
    levels = tuple(value) if isinstance(value, tuple | list) else ()
    if len(levels) != 4 or not all(isinstance(level, int) and level in range(2, 1001) for level in levels):
        raise _wrong(key, "four whole numbers from 2 to 1000 (seconds, minutes, hours, days)", value)
    return levels


def _lane_shares(key: str, value: Any) -> tuple[int, ...]:
    shares = tuple(value[lane] for lane in LANES) if isinstance(value, Mapping) and set(value) == set(LANES) else value
    if not isinstance(shares, list | tuple) or len(shares) != len(LANES) or not all(map(_is_share, shares)) or sum(shares) != WHOLE:
        raise _wrong(key, f"whole numbers of percent for {', '.join(LANES)}, each at least 1, that sum to {WHOLE}", value)
    return tuple(shares)


def _is_share(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _misfire(key: str, value: Any) -> Misfire:
    try:
        return Misfire.parse(value)
    except InvalidEntry:
        raise _wrong(key, "'latest', 'skip', 'catch_up' or a Misfire", value) from None


@dataclass(frozen=True, slots=True)
class _Row:
    attribute: str
    read: Reader


_ROWS: Mapping[str, _Row] = {
    "tw_redis_url": _Row("redis_url", url("redis://host:6379/0")),
    "tw_redis_eviction_check": _Row("redis_eviction_check", one_of("error", "warn", "off")),
    "tw_leader_lease": _Row("leader_lease_ms", seconds(0.5, 300)),
    "tw_shards": _Row("shards", only_for_now(1)),
    "tw_wheel_levels": _Row("wheel_levels", _wheel_levels),
    "tw_wheel_capacity": _Row("wheel_capacity", whole(1, 50_000_000)),
    "tw_fire_tolerance": _Row("fire_tolerance_ms", seconds(0, LONGEST_WAIT_S)),
    "tw_max_clock_skew": _Row("max_clock_skew_ms", seconds(0.1, LONGEST_WAIT_S)),
    "tw_misfire": _Row("misfire", _misfire),
    "tw_overlap": _Row("overlap", one_of(*POLICIES)),
    "tw_overlap_expires": _Row("overlap_expires_ms", seconds(1, LONGEST_WAIT_S)),
    "tw_catch_up_rate": _Row("catch_up_rate", rate(0.001, 100_000)),
    "tw_history_size": _Row("history_size", whole(0, 10_000)),
    "tw_defer_eta": _Row("defer_eta", one_of("auto", "always", "off")),
    "tw_defer_min_delay": _Row("defer_min_delay_ms", seconds(0, 3600)),
    "tw_defer_exclude_queues": _Row("defer_exclude_queues", _names),
    "tw_allowed_tasks": _Row("allowed_tasks", _patterns),
    "tw_leaderless_grace": _Row("leaderless_grace_ms", seconds(1, LONGEST_WAIT_S)),
    "tw_lock_timeout": _Row("lock_timeout_ms", seconds(1, LONGEST_WAIT_S)),
    "tw_lock_extend_interval": _Row("lock_extend_interval_ms", seconds(0.1, LONGEST_WAIT_S)),
    "tw_heartbeat_interval": _Row("heartbeat_interval_ms", seconds(0.1, LONGEST_WAIT_S)),
    "tw_heartbeat_timeout": _Row("heartbeat_timeout_ms", seconds(0.5, LONGEST_WAIT_S)),
    "tw_checkpoint_interval": _Row("checkpoint_interval_ms", seconds(0.1, LONGEST_WAIT_S)),
    "tw_checkpoint_expires": _Row("checkpoint_expires_ms", seconds(60, 366 * 24 * 3600)),
    "tw_checkpoint_max_bytes": _Row("checkpoint_max_bytes", whole(1, 64_000_000)),
    "tw_max_reassignments": _Row("max_reassignments", whole(0, 1000)),
    "tw_run_expires": _Row("run_expires_ms", seconds(60, 366 * 24 * 3600)),
    "tw_long_queue": _Row("long_queue", _name),
    "tw_database_url": _Row("database_url", url("postgresql+psycopg://user@host/name")),
    "tw_dlq": _Row("dlq", one_of("guarded", "all", "off")),
    "tw_dlq_expires": _Row("dlq_expires_ms", seconds(60, 10 * 366 * 24 * 3600)),
    "tw_dlq_max_bytes": _Row("dlq_max_bytes", whole(100_000, 1 << 40)),
    "tw_dlq_max_redeliveries": _Row("dlq_max_redeliveries", whole(0, 1000)),
    "tw_dag_expires": _Row("dag_expires_ms", seconds(60, 10 * 366 * 24 * 3600)),
    "tw_dag_canvas_timeout": _Row("dag_canvas_timeout_ms", seconds(1, 366 * 24 * 3600)),
    "tw_fair_queues": _Row("fair_queues", _names),
    "tw_lane_shares": _Row("lane_shares", _lane_shares),
    "tw_aging_low_to_medium": _Row("aging_low_to_medium_ms", seconds(0.1, LONGEST_AGE_S)),
    "tw_aging_medium_to_high": _Row("aging_medium_to_high_ms", seconds(0.1, LONGEST_AGE_S)),
    "tw_starvation_alert": _Row("starvation_alert_ms", seconds(0.1, LONGEST_AGE_S)),
    "tw_fair_capacity": _Row("fair_capacity", whole(1, 1_000_000)),
}

KNOWN = ("tw_namespace", *_ROWS)

#: Settings of parts that this version does not have. They are refused, so that nobody relies on them.
LATER = ("tw_history_max_bytes",)


def _refuse_unusable_keys(conf: Configuration) -> None:
    """Raise for the first key that looks like a setting of ours and cannot be honoured."""
    prefix = str(getattr(conf, "prefix", None) or "")
    for written in sorted({str(key) for key in conf}):
        name = _bare(written, prefix=prefix)
        if name == "tw" and isinstance(conf.get(written), Mapping):
            raise ImproperlyConfigured(f"{written}: expected one setting for each value, such as tw_leader_lease, got a dictionary")
        if not name.startswith("tw_"):
            continue
        if written in (name, _as_read(name, prefix=prefix)):
            _refuse_unknown(name, written=written)
        elif _is_meant(name, written=written):
            raise ImproperlyConfigured(
                f"{written} is not read under that name: expected {_as_read(name, prefix=prefix)}"
                f"{'' if prefix else ', or CELERY_' + name.upper() + ' with config_from_object(…, namespace=' + repr('CELERY') + ')'}"
            )


def _bare(written: str, *, prefix: str) -> str:
    """Return the name without a namespace and in lower case: ``CELERY_TW_SHARDS`` is ``tw_shards``."""
    return written.lower().removeprefix(prefix.lower()).removeprefix("celery_")


def _as_read(name: str, *, prefix: str) -> str:
    """Return how Celery reads *name* from a settings object with that prefix, in the case of the prefix."""
    return prefix + (name.upper() if prefix.isupper() else name)


def _refuse_unknown(name: str, *, written: str) -> None:
    if name in KNOWN:
        return
    if name in LATER:
        raise ImproperlyConfigured(f"{written} is not available in this version of celery-tw: remove it")
    raise ImproperlyConfigured(f"{written} is not a setting of celery-tw{_did_you_mean(name)}")


def _did_you_mean(name: str) -> str:
    near = get_close_matches(name, KNOWN, n=1)
    return f": did you mean {near[0]}?" if near else f": expected one of {', '.join(KNOWN)}"


def _is_meant(name: str, *, written: str) -> bool:
    """Return whether a key in a spelling that is not read is meant for us: ``TW_TOKEN`` may be another package's."""
    return "celery" in written.lower() or bool(get_close_matches(name, (*KNOWN, *LATER), n=1, cutoff=0.85))
