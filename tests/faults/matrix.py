"""Matrix: which fault is played by which scenario, and by which oracles it is judged.

Injection points K0–K7 are those of ``celery_tw/failpoints.py``. Where the queue is in the timetable's Redis, claim and publish are one
script, and K2–K5 are not passed. The oracles O1–O9 are those of ``celery_tw/testing/oracles.py``; O2 and O7 go by what MONITOR shows of the
store, and O4 is a figure of the report and no verdict, because a machine may be slow. What a row of `COVERED` names is tested there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from tests.faults.outcome import Played
from tests.faults.scenarios import brokers, clocks, herds, leaders, mixed, peers, records, servers, wires
from tests.faults.wall_clock import why_no_shifted_clocks
from tests.requirements import why_no_rabbitmq

ALL = "O1 O2 O3 O5 O6 O7 O8 O9"
APART = "O1 O2 O3 O5 O6 O7 O8 O9, copies counted"
LOSSY = "O3 O5 O6 O7 O8; O1 from the next term on"
REPEATS = "O1 O5 O6 O7 O8; repeats have the same ids"
BY_TIME = "times only"

Play = Callable[[Random, int], Played]


def _never() -> str | None:
    """Return why it cannot be played here: there is no reason."""
    return None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row: what is hurt, how it is played, what judges it. *times* is how many faults a play has, unless told."""

    row: str
    name: str
    play: Play
    oracles: str = ALL
    times: int = 1
    quick: bool = False
    why_not: Callable[[], str | None] = _never

    @property
    def promise(self) -> str:
        """Return what the scenario says of itself."""
        play = self.play.func if isinstance(self.play, partial) else self.play
        text = " ".join((play.__doc__ or "").partition("\n\n")[0].split())
        return text.replace("*place*", self.play.args[0]) if isinstance(self.play, partial) else text


def _at(row: str, verb: str, play: Callable[..., Played], place: str, *, rabbit: bool, quick: bool = False) -> Scenario:
    name = f"{verb}-at-{place}-{'rabbitmq' if rabbit else 'redis'}"
    why_not = why_no_rabbitmq if rabbit else _never
    return Scenario(row, name, partial(play, place, rabbit=rabbit), APART if rabbit else ALL, quick=quick, why_not=why_not)


ON_REDIS = ("K0", "K1", "K6", "K7")
ON_RABBITMQ = ("K0", "K1", "K2", "K3", "K4", "K5", "K6", "K7")

MATRIX: tuple[Scenario, ...] = (
    *(_at("L1", "killed", leaders.killed_at, place, rabbit=False, quick=place == "K1") for place in ON_REDIS),
    *(_at("L1", "killed", leaders.killed_at, place, rabbit=True) for place in ON_RABBITMQ),
    Scenario("L1", "random-kills", leaders.random_kills, times=50),
    *(_at("L2", "stopped", leaders.stopped_at, place, rabbit=False, quick=place == "K6") for place in ON_REDIS),
    *(_at("L2", "stopped", leaders.stopped_at, place, rabbit=True) for place in ON_RABBITMQ),
    Scenario("L2", "random-pauses", leaders.random_pauses, times=30),
    Scenario("L4", "many-at-once", leaders.many_at_once, times=2),
    Scenario("L5", "dawdling", leaders.dawdling),
    Scenario("R1", "redis-restarted-without-data", servers.restarted_without_data, LOSSY, times=2),
    Scenario("R2", "redis-killed", servers.killed_with_its_log, times=5),
    Scenario("R3", "older-log-restored", servers.older_log_restored, REPEATS, times=2),
    Scenario("R4", "lagging-replica-promoted", servers.lagging_replica_promoted, REPEATS, times=2),
    Scenario("R5", "readonly", servers.demoted_for_a_while, times=3, quick=True),
    Scenario("R6", "out-of-memory", servers.out_of_memory, times=3),
    Scenario("R8", "scripts-flushed", servers.scripts_flushed, times=50),
    Scenario("R9", "busy-script", servers.busy_with_a_script, times=3),
    Scenario("R9", "redis-stopped", servers.stopped_for_a_while, times=5),
    Scenario("R10", "clients-killed", servers.clients_killed, times=50),
    Scenario("R10", "flushall", servers.emptied_by_mistake, LOSSY, times=2),
    Scenario("N1", "partition", wires.parted_from_the_leader, times=3),
    Scenario("N1", "one-way-partition", wires.answers_swallowed, times=3),
    Scenario("N1", "flapping", wires.flapping, times=2),
    Scenario("N3", "connections-reset", wires.connections_reset, times=50),
    Scenario("N3", "answers-lost", wires.answers_lost, times=20, quick=True),
    Scenario("N3", "latency", wires.slow),
    Scenario("C1", "leaders-clock", clocks.of_the_leader, quick=True, why_not=why_no_shifted_clocks),
    Scenario("C2", "servers-clock-a-little", clocks.of_the_server_within_what_is_allowed, times=2, why_not=why_no_shifted_clocks),
    Scenario("C2", "servers-clock-an-hour", clocks.of_the_server_by_an_hour, why_not=why_no_shifted_clocks),
    Scenario("C2", "servers-clock-back", clocks.of_the_server_back, times=2, why_not=why_no_shifted_clocks),
    Scenario("C3", "skewed-schedulers", clocks.of_two_schedulers, times=2, why_not=why_no_shifted_clocks),
    Scenario("B1", "rabbitmq-killed", brokers.killed, APART, times=2, why_not=why_no_rabbitmq),
    Scenario("B1", "rabbitmq-stopped", brokers.ended, APART, times=2, why_not=why_no_rabbitmq),
    Scenario("N2", "rabbitmq-closes-connections", brokers.connections_closed, APART, times=5, why_not=why_no_rabbitmq),
    Scenario("D1", "malformed-entries", records.malformed_entries, "O1 O2 O3 O5 O6 O7 O9"),
    Scenario("D2", "newer-schema", records.newer_schema),
    Scenario("H1", "million-at-one-instant", herds.one_instant, "O1 O3 O5 O8 of an entry beside it; the lease; the count", times=1000),
    Scenario("H2", "outage", herds.outage),
    Scenario("H3", "schedule-bombs", herds.bombs, "refused", quick=True),
    Scenario("X1", "any-three-at-once", mixed.any_three_at_once, times=20),
    Scenario("L1", "peer-celery-beat-killed", peers.beat_killed, BY_TIME, times=5),
    Scenario("L2", "peer-celery-beat-paused", peers.beat_paused, BY_TIME, times=5),
    Scenario("L1", "peer-redbeat-killed", peers.redbeat_killed, BY_TIME, times=5),
    Scenario("L2", "peer-redbeat-paused", peers.redbeat_paused, BY_TIME, times=5),
)

COVERED: tuple[tuple[str, str, str], ...] = (
    ("L3", "a leader asked to end hands over; a rolling restart", "tests/processes/test_failover.py, tests/processes/test_deployment.py"),
    ("R7", "an evicting policy is refused at the start", "tests/processes/test_bad_configuration.py"),
    ("C4", "daylight saving, odd zones, far years", "tests/calendars"),
    ("W1–W4", "workers killed and paused in a run, poison, lost locks", "tests/processes/test_runs.py, tests/integration/runs"),
    ("W5", "cancel against start and finish", "tests/stores/test_cancelling.py, tests/processes/test_revoking.py"),
    ("B2", "no result backend", "tests/processes/test_rabbitmq.py"),
    ("B3", "payloads of any size and kind", "tests/fuzz"),
    ("D1", "any bytes in any record", "tests/fuzz, tests/scheduler/test_engine.py"),
    ("all", "the same faults in a virtual clock, by the thousand", "tests/sim"),
)


def named(name: str) -> Scenario:
    """Return the scenario of that name; raises `LookupError`."""
    for scenario in MATRIX:
        if scenario.name == name:
            return scenario
    raise LookupError(f"expected one of {', '.join(scenario.name for scenario in MATRIX)}, got {name!r}")
