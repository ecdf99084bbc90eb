"""Settings: the ``tw_*`` keys of the app's configuration, read and checked once.

They stand where all Celery settings stand: ``tw_leader_lease = 5`` in a settings module, ``app.conf.tw_leader_lease = 5``, or
``CELERY_TW_LEADER_LEASE = 5`` with ``config_from_object(…, namespace="CELERY")``. Below this file every part receives plain values,
times in whole ms. A key that cannot be honoured is refused, never ignored: an unknown name (with the nearest known one), a setting
of a part that this version does not have, a spelling that Celery would not read, a dictionary in place of single keys.

Each is a field of `Settings`: its default, its form (``setting_forms.py``), what it means. A field in ms is set in seconds, or as a
timedelta, under the name without ``_ms``: ``leader_lease_ms`` is ``tw_leader_lease``.

Reading never changes the configuration: ``app.add_defaults`` would override what the user's own module says.
"""

from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Self

from celery_tw.core.allowed import AllowedTasks
from celery_tw.core.misfire import Misfire
from celery_tw.core.overlap import POLICIES
from celery_tw.errors import ImproperlyConfigured
from celery_tw.setting_forms import (
    Form,
    four_levels,
    misfire_policy,
    names,
    namespace_of,
    one_name,
    one_of,
    only_for_now,
    rate,
    seconds,
    task_patterns,
    three_shares,
    url,
    whole,
)
from celery_tw.setting_names import Configuration, refuse_unusable_keys

SECOND = 1000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
LONGEST_WAIT_S = 7 * 24 * 3600.0
LONGEST_AGE_S = 366 * 24 * 3600.0


def _setting(default: Any, form: Form, meaning: str, *, shown: bool = True) -> Any:
    """Return a field with all that is to be known of a setting; one that is not *shown* may hold a password."""
    return field(default=default, repr=shown, metadata={"form": form, "meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one app, checked; *namespace*, by default the app's name, tells projects on one Redis apart."""

    namespace: str
    redis_url: str | None = _setting(None, url("redis://host:6379/0"), "where the timetable lives; none is the broker's", shown=False)
    redis_eviction_check: str = _setting(
        "error", one_of("error", "warn", "off"), "what a Redis that may evict keys is met with: error, warn or off"
    )
    leader_lease_ms: int = _setting(3 * SECOND, seconds(0.5, 300), "a leader silent for this long is replaced")
    shards: int = _setting(1, only_for_now(1), "independent timetables; only 1 in this version")
    wheel_levels: tuple[int, int, int, int] = _setting((60, 60, 24, 30), four_levels, "slots of the wheel: seconds, minutes, hours, days")
    wheel_capacity: int = _setting(1_000_000, whole(1, 50_000_000), "ids that the leader holds in memory; the rest is paged in")
    fire_tolerance_ms: int = _setting(5 * SECOND, seconds(0, LONGEST_WAIT_S), "a slot this late is simply fired; a later one is missed")
    max_clock_skew_ms: int = _setting(5 * SECOND, seconds(0.1, LONGEST_WAIT_S), "a forward step of Redis time beyond this holds dispatch")
    misfire: Misfire = _setting(  # noqa: RUF009 - a field
        Misfire.latest(), misfire_policy, "what happens to missed slots: latest, skip, catch_up or a ``Misfire``"
    )
    overlap: str = _setting(
        "allow",
        one_of(*POLICIES),
        "what happens to a slot while an earlier fire of its entry runs: allow, skip, buffer_one, cancel_previous",
    )
    overlap_expires_ms: int = _setting(
        HOUR, seconds(1, LONGEST_WAIT_S), "a fire that no worker has taken up counts as still there for so long"
    )
    catch_up_rate: float = _setting(100.0, rate(0.001, 100_000), "how fast missed slots are fired, per queue")
    history_size: int = _setting(60, whole(0, 10_000), "fires remembered per entry")
    defer_eta: str = _setting(
        "auto", one_of("auto", "always", "off"), "tasks with an ETA wait in the timetable: auto (while a leader is seen), always, off"
    )
    defer_min_delay_ms: int = _setting(2 * SECOND, seconds(0, 3600), "a task due sooner than this goes to the broker at once")
    defer_exclude_queues: frozenset[str] = _setting(frozenset(), names, "names of queues whose tasks keep Celery's own ETA")
    leaderless_grace_ms: int = _setting(
        60 * SECOND, seconds(1, LONGEST_WAIT_S), "how long after the last leader was seen ``auto`` still defers"
    )
    allowed_tasks: AllowedTasks = _setting(  # noqa: RUF009 - a field
        AllowedTasks(), task_patterns, "names, or patterns with ``*`` and ``?``, of the tasks that entries may send; unless set, all"
    )
    lock_timeout_ms: int = _setting(
        300 * SECOND, seconds(1, LONGEST_WAIT_S), "how long the lease and the locks of a run outlive its process"
    )
    lock_extend_interval_ms: int = _setting(
        120 * SECOND, seconds(0.1, LONGEST_WAIT_S), "how often they are extended; at most half of the time-out"
    )
    heartbeat_interval_ms: int = _setting(30 * SECOND, seconds(0.1, LONGEST_WAIT_S), "how often a process says that its runs are alive")
    heartbeat_timeout_ms: int = _setting(
        120 * SECOND, seconds(0.5, LONGEST_WAIT_S), "a run silent for this long is lost; at least twice the interval"
    )
    checkpoint_interval_ms: int = _setting(600 * SECOND, seconds(0.1, LONGEST_WAIT_S), "how often ``iterate`` saves, unless told")
    checkpoint_expires_ms: int = _setting(7 * DAY, seconds(60, LONGEST_AGE_S), "how long a checkpoint outlives its last save")
    checkpoint_max_bytes: int = _setting(1_000_000, whole(1, 64_000_000), "a larger checkpoint is refused")
    max_reassignments: int = _setting(3, whole(0, 1000), "losses without a new checkpoint after which a run fails")
    run_expires_ms: int | None = _setting(
        None,
        seconds(60, LONGEST_AGE_S),
        "how long a finished run is remembered, so no late copy runs again; none is twice the broker's visibility timeout, at least 1 h",
    )
    long_queue: str | None = _setting(None, one_name, "the queue of long tasks that neither their call nor a route names")
    database_url: str | None = _setting(
        None,
        url("postgresql+psycopg://user@host/name"),
        "the SQL database of DAGs, such as postgresql+psycopg://user@host/name",
        shown=False,
    )
    dag_expires_ms: int = _setting(30 * DAY, seconds(60, 10 * LONGEST_AGE_S), "how long a DAG run is remembered after its end")
    dlq: str = _setting(
        "guarded",
        one_of("guarded", "all", "off"),
        "whose final failures become dead letters: guarded (tasks with one of our bases, and all that the time wheel fired), all, off",
    )
    dlq_expires_ms: int = _setting(30 * DAY, seconds(60, 10 * LONGEST_AGE_S), "how long a dead letter is kept after its last death")
    dlq_max_bytes: int = _setting(
        256 * 1024 * 1024, whole(100_000, 1 << 40), "beyond so many bytes of dead letters the oldest are dropped, after an alarm"
    )
    dlq_max_redeliveries: int = _setting(5, whole(0, 1000), "a message that comes back more often, after it was started, is buried")
    dag_canvas_timeout_ms: int = _setting(
        DAY, seconds(1, LONGEST_AGE_S), "a node of several tasks, none of which shows that it runs, is sent again"
    )
    fair_queues: frozenset[str] = _setting(frozenset(), names, "names of queues whose tasks start by lane: high, medium and low")
    lane_shares: tuple[int, int, int] = _setting((50, 30, 20), three_shares, "the shares of starts of high, medium and low, in percent")
    aging_low_to_medium_ms: int = _setting(HOUR, seconds(0.1, LONGEST_AGE_S), "a task that has waited so long in low counts as medium")
    aging_medium_to_high_ms: int = _setting(2 * HOUR, seconds(0.1, LONGEST_AGE_S), "a task that has waited so long counts as high")
    starvation_alert_ms: int = _setting(4 * HOUR, seconds(0.1, LONGEST_AGE_S), "a task that has waited so long is an alarm, and is rescued")
    fair_capacity: int = _setting(8, whole(1, 1_000_000), "how many tasks the workers of a fair queue run at once, when none of them says")

    @classmethod
    def read(cls, conf: Configuration, *, app_name: str | None) -> Self:
        """Return the settings in *conf* (``app.conf``); *app_name* is ``app.main``, the default namespace.

        Raises ImproperlyConfigured, naming the setting, what was expected and what came.
        """
        namespace = namespace_of(conf.get("tw_namespace"), app_name=app_name)
        refuse_unusable_keys(conf, known=KNOWN)
        given = {attribute: form(key, conf.get(key)) for key, (attribute, form) in _FORMS.items() if conf.get(key) is not None}
        settings = cls(namespace=namespace, **given)
        _refuse_contradictions(settings)
        return settings


_FORMS: dict[str, tuple[str, Form]] = {
    f"tw_{each.name.removesuffix('_ms')}": (each.name, each.metadata["form"]) for each in fields(Settings) if each.metadata
}
KNOWN = ("tw_namespace", *_FORMS)


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
