"""The reaper on a clock that tests move: who is silent, what becomes of a silent run, and what is no silence at all."""

from collections.abc import Callable

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_tw.clock import RedisTime
from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import StoreUnavailable
from celery_tw.integration.runs.received import once_more, record_rest
from celery_tw.leadership.elector import Elector
from celery_tw.runtime.lock import lock
from celery_tw.scheduler.pulses import BLIND_MS
from celery_tw.scheduler.reaper import LOOK_MS, Reaper
from celery_tw.scheduler.resending import AT_ONCE, LONGEST_MS, Resending
from celery_tw.stores.redis.cancelling import Cancelling
from celery_tw.stores.redis.codec import OneTime, unpack_one_time
from celery_tw.stores.redis.deferring import EntryIds
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.envelope import Envelope, read_envelope, write_envelope
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.own_connections import OwnConnections
from celery_tw.stores.redis.runs.claim import Claim
from celery_tw.stores.redis.runs.record import Record
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.runs.runs import Runs
from celery_tw.stores.redis.timetable import Timetable
from celery_tw.testing.manual_clock import ManualClock
from tests.cutting import CuttingProxy

KEYS = Keys("shop")
TIMEOUT_MS = 5000
MOST = 2
LOCK = lock("k")


def message(mid: str) -> bytes:
    return write_envelope(
        Envelope(
            body=b"[[],{},{}]",
            content_type="application/json",
            content_encoding="utf-8",
            headers={"id": f"task-{mid}", "task": "shop.rebuild", "tw_mid": mid},
            properties={},
            exchange="",
            routing_key="celery",
        )
    )


class Ward:
    """Runs in a real Redis, a leader that looks after them, and a clock that stands still until it is told to move."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.clock = ManualClock()
        redis_time = RedisTime(self.clock)
        self.runs = Runs(client, KEYS, redis_time=redis_time, lease_ms=60_000, done_kept_ms=3_600_000, grace_ms=60_000)
        self.elector = Elector(
            Election(client, KEYS), clock=self.clock, redis_time=redis_time, owner="me", lease_ms=10_000_000, max_skew_ms=10_000_000
        )
        self.mourned: list[Record] = []
        self.buried: list[str] = []
        ids = EntryIds(Timetable(client, KEYS))
        self.reaper = Reaper(
            runs=self.runs,
            ids=ids,
            elector=self.elector,
            clock=self.clock,
            timeout_ms=TIMEOUT_MS,
            most=MOST,
            rest_of=record_rest,
            resending=Resending(
                runs=self.runs, ids=ids, timeout_ms=TIMEOUT_MS, rest_of=lambda message, mid: record_rest(once_more(message, mid))
            ),
            mourn=self.mourned.append,
            bury=lambda record: self.buried.append(record.mid),
            take_back=lambda record: self.buried.remove(record.mid),
        )
        self.elector.step()

    def begin(self, mid: str = "m", *, owner: str = "host:1:a", long: bool = True) -> str:
        """Begin a run; return its token."""
        answer = self.runs.acquire(
            Claim(mid=mid, owner=owner, task="shop.rebuild", task_id=f"task-{mid}", guards=[LOCK], long=long),
        )
        assert answer.verdict == "run"
        if long:
            assert self.runs.messages.accept(mid, message(mid)) == "stored"
        return answer.token

    def beat(self, token: str, mid: str = "m") -> None:
        assert self.runs.signs.beat([(mid, token, f"task-{mid}", [LOCK])], extend=False, processes=("a", "b")) == ["ok"]

    def look_for(self, ms: int, each: Callable[[], object] = lambda: None) -> None:
        """Let *ms* pass with a look each half second, the first one now; *each* is called before each."""
        self.reaper.step()
        for _ in range(ms // LOOK_MS):
            self.clock.advance(LOOK_MS)
            each()
            self.reaper.step()

    def due(self) -> list[OneTime]:
        """Return what is due in the timetable."""
        timetable = Timetable(self.client, KEYS)
        records = [timetable.read_one_time(int(member))[0] for member in self.client.zrange(KEYS.due, 0, -1)]
        return [unpack_one_time(record or b"") for record in records]

    def waiting(self) -> list[str]:
        """Return the mids of what is due in the timetable."""
        return [task.mid for task in self.due()]

    def state(self, mid: str = "m") -> str | None:
        found = self.runs.under_way.read([mid])
        return found[0].state if found else None

    def lose(self, mid: str = "m") -> None:
        """Let the run be silent for too long, and take from the timetable what was put there."""
        self.look_for(TIMEOUT_MS)
        self.fire()

    def fire(self) -> None:
        """Take from the timetable all that is due; it comes to nobody."""
        for mid in self.waiting():
            self.client.hdel(KEYS.by_task, f"task-{mid}")
        for member in self.client.zrange(KEYS.due, 0, -1):
            self.client.delete(KEYS.due, KEYS.entry(int(member)))

    def losses(self, mid: str = "m") -> int:
        (record,) = self.runs.under_way.read([mid])
        return record.losses


@pytest.fixture
def ward(redis_client: redis.Redis) -> Ward:
    return Ward(redis_client)


def test_a_silent_long_run_goes_on_from_its_stored_message_once(ward: Ward) -> None:
    ward.begin()
    ward.look_for(2 * TIMEOUT_MS)
    assert ward.waiting() == ["m"]
    assert ward.state() == "lost"


def test_a_run_that_beats_is_left_alone(ward: Ward) -> None:
    token = ward.begin()
    ward.look_for(3 * TIMEOUT_MS, each=lambda: ward.beat(token))
    assert (ward.waiting(), ward.state()) == ([], "running")


def test_a_run_is_not_silent_before_its_time(ward: Ward) -> None:
    ward.begin()
    ward.look_for(TIMEOUT_MS - LOOK_MS)
    assert ward.waiting() == []
    ward.look_for(LOOK_MS)
    assert ward.waiting() == ["m"]


def test_a_silent_run_whose_message_the_broker_has_is_only_set_free(ward: Ward) -> None:
    ward.begin(long=False)
    ward.look_for(TIMEOUT_MS)
    assert (ward.waiting(), ward.state()) == ([], "free")
    assert not ward.client.exists(KEYS.guard("lock", "k"))
    ward.begin(owner="host:2:b", long=False)


@pytest.mark.parametrize("long", [True, False])
def test_a_new_process_is_not_taken_for_the_silent_one_before_it(ward: Ward, long: bool) -> None:
    ward.begin(long=long)
    ward.look_for(TIMEOUT_MS - LOOK_MS)
    ward.client.delete(KEYS.lease("m"))
    token = ward.begin(owner="host:2:b", long=long)

    ward.look_for(TIMEOUT_MS - LOOK_MS)

    assert ward.runs.holds("m", token)
    assert ward.waiting() == []


def test_a_late_beat_of_a_reaped_run_is_told_that_it_is_lost(ward: Ward) -> None:
    token = ward.begin()
    ward.look_for(TIMEOUT_MS)
    assert ward.runs.signs.beat([("m", token, "task-m", [])], extend=True, processes=("a", "b")) == ["lost"]
    arguments = {"task_id": "task-m", "state": b"{}", "kept_ms": 1000, "processes": ("a", "b")}
    assert ward.runs.checkpoints.save("m", token, **arguments) == "lost"
    assert not ward.runs.ran("m", token, b"1")


def test_a_run_that_moves_between_the_look_and_the_verdict_is_left_alone(ward: Ward) -> None:
    token = ward.begin()
    (seen,) = ward.runs.under_way.read(["m"])
    ward.beat(token)
    term = ward.elector.term
    assert term is not None
    right = Right.of_leader(term.epoch, seen)
    verdict, _ = ward.runs.messages.reassign(
        right, "lost", ward.reaper.ids, mid="m", task_id="task-m", rest=record_rest(message("m")), most=MOST
    )
    assert verdict == "refused"
    assert ward.runs.holds("m", token)


def test_while_redis_is_away_nobody_is_silent(ward: Ward) -> None:
    ward.begin()
    ward.look_for(TIMEOUT_MS - LOOK_MS)
    there, ward.runs.under_way.client = ward.runs.under_way.client, redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    for _ in range(10):
        ward.clock.advance(BLIND_MS)
        with pytest.raises(StoreUnavailable):
            ward.reaper.step()
    ward.runs.under_way.client = there

    ward.look_for(TIMEOUT_MS - LOOK_MS)
    assert ward.waiting() == [], "silence begins anew with the first look that has an answer"
    ward.look_for(LOOK_MS)
    assert ward.waiting() == ["m"]


def test_a_leader_that_was_paused_begins_anew(ward: Ward) -> None:
    token = ward.begin()
    ward.look_for(TIMEOUT_MS - LOOK_MS)
    ward.clock.advance(100 * TIMEOUT_MS)
    ward.reaper.step()
    assert ward.runs.holds("m", token)


@pytest.mark.parametrize("step_ms", [-7 * 24 * 3_600_000, 7 * 24 * 3_600_000])
def test_a_wall_clock_that_is_set_reassigns_nothing(ward: Ward, step_ms: int) -> None:
    token = ward.begin()
    ward.look_for(TIMEOUT_MS - LOOK_MS)
    ward.clock.step_wall(step_ms)
    ward.reaper.step()
    assert ward.runs.holds("m", token)


def test_a_new_term_begins_anew(ward: Ward) -> None:
    token = ward.begin()
    ward.look_for(TIMEOUT_MS - LOOK_MS)
    ward.elector.ask_to_stand_down("for the test")
    ward.elector.step()
    ward.reaper.step()
    ward.client.delete(KEYS.leader)
    successor = Ward(ward.client)
    successor.look_for(TIMEOUT_MS - LOOK_MS)
    assert ward.runs.holds("m", token)


def test_a_leader_of_the_past_reassigns_nothing(ward: Ward) -> None:
    token = ward.begin()
    ward.look_for(TIMEOUT_MS - LOOK_MS)
    ward.client.hincrby(KEYS.leader, "epoch", 1)
    ward.clock.advance(LOOK_MS)
    ward.reaper.step()
    assert ward.runs.holds("m", token)
    assert ward.waiting() == []


def test_a_leader_of_the_past_tells_of_a_silent_run_once(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    ward.begin()
    ward.look_for(TIMEOUT_MS - LOOK_MS)
    ward.client.hincrby(KEYS.leader, "epoch", 1)
    ward.look_for(3 * LOOK_MS)
    assert caplog.text.count("has been silent") == 1


def test_a_run_lost_too_often_fails_once_and_is_made_known(ward: Ward) -> None:
    for number in range(MOST):
        ward.begin(owner=f"host:{number}:a")
        ward.lose()
        assert ward.mourned == []
    ward.begin(owner="host:9:a")
    ward.look_for(3 * TIMEOUT_MS)

    assert [(record.mid, record.losses) for record in ward.mourned] == [("m", MOST)]
    assert ward.waiting() == []
    assert not ward.client.exists(KEYS.run("m"), KEYS.guard("lock", "k")), "its lock is free"
    claim = Claim(mid="m", owner="late:1:a", task="shop.rebuild", task_id="task-m", long=True)
    assert ward.runs.acquire(claim).verdict == "done", "a late copy does not revive it"


def begin_for_the_last_time(ward: Ward) -> str:
    """Lose a run as often as it may be lost, and begin it once more; return the token."""
    for number in range(MOST):
        ward.begin(owner=f"host:{number}:a")
        ward.lose()
    return ward.begin(owner="host:9:a")


def test_a_run_that_fails_is_made_known_though_the_answer_was_lost(ward: Ward, redis_server: EmbeddedServer) -> None:
    begin_for_the_last_time(ward)
    ward.runs.finish(Right.of_owner(""), "done", mid="another", task_id="task-another")  # the server knows the script now
    with CuttingProxy(str(redis_server.socket_path)) as proxy, proxy.client() as client:
        ward.runs.own = OwnConnections(client)
        proxy.cut_answers_to(b"EVALSHA", number=1)
        ward.look_for(TIMEOUT_MS)
        assert proxy.cuts == 1

    assert [record.mid for record in ward.mourned] == ["m"]
    assert ward.buried == ["m"]
    assert ward.state() is None


def test_a_run_that_moves_as_it_is_given_up_is_left_alone(ward: Ward) -> None:
    token = begin_for_the_last_time(ward)
    bury = ward.reaper.bury

    def bury_as_it_moves(record: Record) -> None:
        bury(record)
        ward.beat(token)

    ward.reaper.bury = bury_as_it_moves
    ward.look_for(TIMEOUT_MS)

    assert ward.runs.holds("m", token)
    assert (ward.mourned, ward.buried) == ([], [])


def test_a_checkpoint_that_advanced_lets_the_losses_before_it_count_no_more(ward: Ward) -> None:
    for number in range(3 * MOST):
        token = ward.begin(owner=f"host:{number}:a")
        state = str(number).encode()
        assert ward.runs.checkpoints.save("m", token, task_id="task-m", state=state, kept_ms=60_000, processes=("a", "b")) == "ok"
        ward.lose()
    assert ward.mourned == []


def test_a_run_that_left_no_record_is_struck_out(ward: Ward) -> None:
    ward.client.hset(KEYS.running, "gone", "0")
    ward.look_for(TIMEOUT_MS)
    assert not ward.client.hexists(KEYS.running, "gone")


# Long runs that were sent again


def test_a_long_run_that_was_sent_again_and_came_to_nobody_is_sent_once_more(ward: Ward) -> None:
    ward.begin()
    ward.lose()
    ward.look_for(TIMEOUT_MS - LOOK_MS)
    assert ward.waiting() == []
    ward.look_for(LOOK_MS)
    assert ward.waiting() == ["m"]
    assert ward.losses() == 1, "its process was lost once"


def test_each_wait_for_somebody_to_begin_it_is_twice_as_long_as_the_last(ward: Ward) -> None:
    ward.begin()
    ward.lose()
    for factor in (1, 2, 4):
        ward.look_for(factor * TIMEOUT_MS - LOOK_MS)
        assert ward.waiting() == []
        ward.look_for(2 * LOOK_MS)
        assert ward.waiting() == ["m"]
        ward.fire()


def test_no_wait_for_somebody_to_begin_it_is_longer_than_an_hour(ward: Ward) -> None:
    ward.begin()
    ward.lose()
    ward.client.hset(KEYS.awaited, "m", "1000 1")
    ward.look_for(LONGEST_MS - LOOK_MS)
    assert ward.waiting() == []
    ward.look_for(2 * LOOK_MS)
    assert ward.waiting() == ["m"]


def test_a_message_that_the_timetable_still_has_is_not_put_there_twice(ward: Ward) -> None:
    ward.begin()
    ward.look_for(4 * TIMEOUT_MS)
    assert ward.waiting() == ["m"]


def test_a_run_that_somebody_has_begun_is_awaited_no_more(ward: Ward) -> None:
    ward.begin()
    ward.lose()
    token = ward.begin(owner="host:2:b")
    ward.look_for(2 * TIMEOUT_MS, each=lambda: ward.beat(token))
    assert (ward.waiting(), ward.runs.under_way.awaited()) == ([], {})


def test_a_run_that_was_taken_by_a_worker_but_has_not_begun_is_awaited_no_more(ward: Ward) -> None:
    ward.begin()
    ward.lose()
    ward.runs.messages.accept("m", message("m"))
    ward.look_for(TIMEOUT_MS - LOOK_MS)
    assert ward.waiting() == []
    ward.look_for(LOOK_MS)
    assert ward.waiting() == ["m"], "it falls silent as any run does"
    assert ward.losses() == 2


def test_a_run_that_was_cancelled_as_it_waited_is_not_sent_again(ward: Ward) -> None:
    ward.begin()
    ward.look_for(TIMEOUT_MS)
    Cancelling(ward.client, KEYS).cancel(["task-m"])
    assert ward.waiting() == []
    ward.look_for(4 * TIMEOUT_MS)
    assert (ward.waiting(), ward.runs.under_way.awaited()) == ([], {})


def test_a_cancellation_from_before_it_was_sent_again_does_not_count(ward: Ward) -> None:
    ward.client.zadd(KEYS.cancelled, {"task-m": 1})
    ward.begin()
    ward.lose()
    ward.look_for(TIMEOUT_MS)
    assert ward.waiting() == ["m"]


def test_a_run_that_is_cancelled_as_its_message_is_on_its_way_is_not_sent_again(ward: Ward) -> None:
    ward.begin()
    ward.lose()
    Cancelling(ward.client, KEYS).cancel(["task-m"])
    ward.look_for(4 * TIMEOUT_MS)
    assert (ward.waiting(), ward.runs.under_way.awaited()) == ([], {})
    assert ward.client.pttl(KEYS.run("m")) > 0, "its record does not stay for ever"


def test_a_message_that_was_sent_once_more_and_comes_after_the_end_begins_nothing(ward: Ward) -> None:
    ward.begin()
    ward.lose()
    ward.look_for(TIMEOUT_MS)
    (sent,) = ward.due()
    assert read_envelope(sent.message).headers["tw_once_more"] == "m"
    assert ward.client.pttl(KEYS.run("m")) == -1, "the record stays until the end"
    token = ward.begin(owner="host:2:b")
    ward.runs.finish(Right.of_token(token), "done", mid="m", task_id="task-m", guards=[LOCK])
    ward.client.delete(*ward.client.keys("*done*"))  # what is remembered of an end expires

    late = Claim(mid="m", owner="host:3:c", task="shop.rebuild", task_id="task-m", guards=[LOCK], long=True, once_more=True)
    assert ward.runs.messages.accept("m", message("m"), once_more=True) == "done"
    assert ward.runs.acquire(late).verdict == "done"
    assert not ward.client.exists(KEYS.run("m"))


def test_a_message_that_was_sent_once_more_and_comes_in_time_begins_the_run(ward: Ward) -> None:
    ward.begin()
    ward.lose()
    ward.look_for(TIMEOUT_MS)
    assert ward.runs.messages.accept("m", message("m"), once_more=True) == "stored"
    claim = Claim(mid="m", owner="host:2:b", task="shop.rebuild", task_id="task-m", guards=[LOCK], long=True, once_more=True)
    assert ward.runs.acquire(claim).verdict == "run"


def test_a_run_that_ended_as_it_waited_is_not_sent_again(ward: Ward) -> None:
    ward.begin()
    ward.lose()
    ward.runs.finish(Right.of_bystander(), "cancelled", mid="m", task_id="task-m", guards=[LOCK])
    ward.look_for(4 * TIMEOUT_MS)
    assert (ward.waiting(), ward.runs.under_way.awaited()) == ([], {})


def park(ward: Ward) -> None:
    ids = EntryIds(Timetable(ward.client, KEYS))
    ward.runs.messages.park(ids, mid="m", task_id="task-m", rest=record_rest(message("m")), delay_ms=0)


def test_a_long_run_that_was_parked_and_came_to_nobody_is_sent_once_more(ward: Ward) -> None:
    ward.runs.messages.accept("m", message("m"))
    park(ward)
    ward.look_for(2 * TIMEOUT_MS)
    assert ward.waiting() == ["m"], "once, for it waits still"
    ward.fire()
    ward.look_for(TIMEOUT_MS)
    assert ward.waiting() == ["m"]


def test_of_several_messages_that_come_to_be_parked_one_is_kept(ward: Ward) -> None:
    for _ in range(3):
        ward.runs.messages.accept("m", message("m"))
        park(ward)
    assert ward.waiting() == ["m"]
    ward.look_for(2 * TIMEOUT_MS)
    assert (ward.waiting(), ward.runs.under_way.counters()) == (["m"], {}), "and nobody takes it for silent"


def test_another_send_under_the_same_task_id_takes_the_place_of_none(ward: Ward) -> None:
    ward.client.hset(KEYS.by_task, "task-m", "999")
    ward.begin()
    ward.look_for(TIMEOUT_MS)
    assert ward.waiting() == ["m"]
    ward.fire()
    ward.client.hset(KEYS.by_task, "task-m", "999")

    ward.runs.messages.accept("m", message("m"))
    park(ward)

    assert ward.waiting() == ["m"]


def test_a_message_that_is_parked_beside_one_that_was_sent_once_more_lets_its_record_stay(ward: Ward) -> None:
    ward.begin()
    ward.lose()
    ward.look_for(TIMEOUT_MS)
    ward.runs.messages.accept("m", message("m"))
    park(ward)
    assert ward.waiting() == ["m"]
    assert ward.client.pttl(KEYS.run("m")) == -1, "without it the other would have come too late"


def test_a_run_that_is_parked_again_is_not_sent_once_more_the_sooner(ward: Ward) -> None:
    ward.client.hset(KEYS.awaited, "m", "3 1")
    ward.runs.messages.accept("m", message("m"))
    park(ward)
    assert ward.runs.under_way.awaited()["m"].startswith("3 ")


def test_a_parked_run_whose_message_is_not_on_record_is_not_awaited(ward: Ward) -> None:
    park(ward)
    assert (ward.waiting(), ward.runs.under_way.awaited()) == (["m"], {})


def test_many_that_wait_are_looked_after_by_and_by(ward: Ward) -> None:
    mids = [f"m{number}" for number in range(AT_ONCE + 1)]
    ward.client.hset(KEYS.awaited, mapping=dict.fromkeys(mids, "0 1"))
    ward.look_for(TIMEOUT_MS)
    assert len(ward.runs.under_way.awaited()) == 1, "none of them has a record"
    ward.look_for(LOOK_MS)
    assert ward.runs.under_way.awaited() == {}


def test_those_that_wait_in_the_timetable_let_the_others_have_their_turn(ward: Ward) -> None:
    crowd = [f"w{number}" for number in range(2 * AT_ONCE)]
    for mid in crowd:
        ward.client.hset(KEYS.run(mid), mapping={"state": "accepted", "envelope": message(mid), "waits": "999"})
        ward.client.hset(KEYS.by_task, f"task-{mid}", "999")
    ward.client.hset(KEYS.awaited, mapping=dict.fromkeys(crowd, "0 1"))
    ward.begin()
    ward.lose()
    ward.look_for(3 * TIMEOUT_MS)
    assert ward.waiting() == ["m"]


def test_a_leader_of_the_past_sends_nothing_once_more(ward: Ward) -> None:
    ward.begin()
    ward.lose()
    ward.look_for(TIMEOUT_MS - LOOK_MS)
    ward.client.hincrby(KEYS.leader, "epoch", 1)
    ward.clock.advance(LOOK_MS)
    ward.reaper.step()
    assert ward.waiting() == []
