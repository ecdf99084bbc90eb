"""Electors through any sequence of steps, pauses, crashes, lost answers and expired leases, on a real server.

All clocks are moved by the machine; the lease on the server is far longer than a run and ends only when the machine says so.
"""

from typing import Any

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from celery_tw.clock import RedisTime
from celery_tw.errors import StoreUnavailable
from celery_tw.events import leadership_taken
from celery_tw.leadership.elector import Elector
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.keys import Keys
from celery_tw.testing.manual_clock import ManualClock

KEYS = Keys("shop")
LEASE_MS = 30_000
SEATS = st.integers(0, 2)


class Wire:
    """A client whose answers may be lost, or which may be cut off."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.cut = False
        self.loses_the_next_answer = False

    def evalsha(self, *args: Any) -> Any:
        if self.cut:
            raise redis.ConnectionError("cut off")
        answer = self._client.evalsha(*args)
        if self.loses_the_next_answer:
            self.loses_the_next_answer = False
            raise redis.ConnectionError("the answer was lost")
        return answer

    def __getattr__(self, name: str) -> Any:
        if self.cut:
            raise redis.ConnectionError("cut off")
        return getattr(self._client, name)


class Electors(RuleBasedStateMachine):
    """Three seats, in each a process with an elector of its own."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.client = client
        client.flushall()
        self.clock = ManualClock()
        self.wires = [Wire(client) for _ in range(3)]
        self.started = 0
        self.epochs: list[int] = []
        leadership_taken.connect(self.note_the_epoch)

    @initialize()
    def start(self) -> None:
        self.electors = [self.new_elector(seat) for seat in range(3)]

    def new_elector(self, seat: int) -> Elector:
        self.started += 1
        election = Election(self.wires[seat], KEYS)
        return Elector(
            election, clock=self.clock, redis_time=RedisTime(self.clock), owner=f"{self.started}", lease_ms=LEASE_MS, max_skew_ms=10**12
        )

    def note_the_epoch(self, sender: object, epoch: int, **more: object) -> None:
        self.epochs.append(epoch)

    @rule(seat=SEATS)
    def step(self, seat: int) -> None:
        try:
            self.electors[seat].step()
        except StoreUnavailable:
            assert self.wires[seat].cut or not self.wires[seat].loses_the_next_answer

    @rule(seat=SEATS)
    def step_and_lose_the_answer(self, seat: int) -> None:
        self.wires[seat].loses_the_next_answer = True
        self.step(seat)
        self.wires[seat].loses_the_next_answer = False

    @rule(ms=st.sampled_from([1, 250, LEASE_MS // 3, LEASE_MS - LEASE_MS // 10 - 1, LEASE_MS - LEASE_MS // 10, LEASE_MS, 5 * LEASE_MS]))
    def let_time_pass(self, ms: int) -> None:
        self.clock.advance(ms)

    @rule()
    def all_step_as_time_passes(self) -> None:
        for _ in range(4):
            for seat in range(3):
                self.step(seat)
            self.clock.advance(250)

    @rule(seat=SEATS, watched_ms=st.sampled_from([LEASE_MS // 2, LEASE_MS, 2 * LEASE_MS]))
    def one_stands_still_while_the_others_watch(self, seat: int, watched_ms: int) -> None:
        for _ in range(watched_ms // 1000 + 1):
            for other in {0, 1, 2} - {seat}:
                self.step(other)
            self.at_most_one_believes_that_it_leads()
            self.clock.advance(1000)

    @rule(seat=SEATS)
    def crash_and_start_again(self, seat: int) -> None:
        self.electors[seat] = self.new_elector(seat)

    @rule(seat=SEATS)
    def resign(self, seat: int) -> None:
        try:
            self.electors[seat].resign()
        except StoreUnavailable:
            assert self.wires[seat].cut

    @rule(seat=SEATS)
    def ask_to_stand_down(self, seat: int) -> None:
        self.electors[seat].ask_to_stand_down("the test says so")

    @rule(seat=SEATS)
    def cut_or_mend(self, seat: int) -> None:
        self.wires[seat].cut = not self.wires[seat].cut

    @precondition(lambda self: not any(elector.leads() for elector in self.electors))
    @rule()
    def the_lease_runs_out(self) -> None:
        self.client.delete(KEYS.leader)

    @invariant()
    def at_most_one_believes_that_it_leads(self) -> None:
        assert sum(elector.leads() for elector in getattr(self, "electors", [])) <= 1

    @invariant()
    def at_most_one_term_is_in_office(self) -> None:
        in_office = self.client.hget(KEYS.leader, "epoch")
        terms = [elector.term.epoch for elector in getattr(self, "electors", []) if elector.term is not None]
        assert len(set(terms)) == len(terms)
        assert in_office is None or all(epoch <= int(in_office) for epoch in terms)

    @invariant()
    def epochs_only_grow(self) -> None:
        assert self.epochs == sorted(set(self.epochs))

    def teardown(self) -> None:
        leadership_taken.disconnect(self.note_the_epoch)
        for wire in self.wires:
            wire.cut = False
        for _ in range(2 * LEASE_MS // 250):
            for seat in range(3):
                self.step(seat)
            self.clock.advance(250)
        assert sum(elector.leads() for elector in self.electors) == 1, "with all faults gone somebody leads"


def test_no_sequence_of_faults_makes_two_leaders_or_none(redis_client: redis.Redis) -> None:
    run_state_machine_as_test(
        lambda: Electors(redis_client),
        settings=settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)),
    )
