"""Dead letters in Redis: one letter a send, whole until it is requeued or dropped, counted, and never in two places."""

import pytest
import redis

from celery_tw.core.death import Death
from celery_tw.errors import StaleEpoch
from celery_tw.stores.redis.codec import unpack_one_time
from celery_tw.stores.redis.dead_letters import PAGE, DeadLetters, Requeued
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.timetable import Timetable
from tests.stores.waiting_tasks import waiting_task

DEATH = Death(reason="failed", task="shop.pay", task_id="t1", exception="ValueError", worker="w1")


@pytest.fixture
def letters(redis_client: redis.Redis, keys: Keys) -> DeadLetters:
    return DeadLetters(redis_client, keys)


def requeued(letter_id: str, *, mid: str = "", delay_ms: int = 0) -> Requeued:
    mid = mid or f"again-{letter_id}"
    rest = waiting_task(mid, task_id="t1").pack_rest()
    return Requeued(letter_id=letter_id, mid=mid, task_id="t1", rest=rest, delay_ms=delay_ms)


def ids(letters: DeadLetters, **which) -> list[str]:
    return [letter.letter_id for page in letters.newest(**which) for letter in page]


def test_a_letter_is_kept_whole_with_what_is_known_of_the_death(letters: DeadLetters) -> None:
    assert letters.bury("m1", b"message", DEATH) == ("new", 1)

    (letter,) = letters.read(["m1"])
    assert (letter.death, letter.count, letter.first_ms) == (DEATH, 1, letter.last_ms)
    assert letters.messages(["m1", "m2"]) == [b"message", None]
    assert (letters.totals().letters, letters.totals().size, letters.totals().counts) == (1, letter.size, {"buried": 1})


def test_a_second_signal_of_one_death_is_no_second_death(letters: DeadLetters) -> None:
    letters.bury("m1", b"message", DEATH)
    assert letters.bury("m1", b"message, better", DEATH) == ("same", 1)
    assert letters.bury("m1", b"message", Death(reason="lost", worker="w2")) == ("again", 2)

    (letter,) = letters.read(["m1"])
    assert (letter.death.reason, letter.count) == ("lost", 2)
    assert (letters.totals().letters, letters.totals().size, letters.totals().counts["buried"]) == (1, letter.size, 1)


def test_letters_are_found_the_newest_first_page_by_page(letters: DeadLetters, redis_client: redis.Redis, keys: Keys) -> None:
    for number in range(2 * PAGE + 5):
        letters.bury(f"m{number}", b"message", DEATH)
        redis_client.zadd(keys.dlq, {f"m{number}": number})
    newest_first = [f"m{number}" for number in reversed(range(2 * PAGE + 5))]

    assert ids(letters) == newest_first
    assert ids(letters, since_ms=7, until_ms=9) == ["m9", "m8", "m7"]
    assert ids(letters, after=(9, "m9"), since_ms=7) == ["m8", "m7"]
    letters.drop(["m9"])
    assert ids(letters, after=(9, "m9"), since_ms=7) == ["m8", "m7"]


def test_a_requeued_letter_waits_in_the_timetable_and_nowhere_else(letters: DeadLetters, timetable: Timetable, keys: Keys) -> None:
    letters.bury("m1", b"message", DEATH)
    letters.client.zadd(keys.cancelled, {"t1": 1})

    assert letters.requeue([requeued("m1"), requeued("m2")]) == [True, False]

    ((due_ms, entry_id),) = timetable.nearest(10)
    record, _, _ = timetable.read_one_time(entry_id)
    task = unpack_one_time(record or b"")
    assert (task.mid, task.task_id, task.stored_ms) == ("again-m1", "t1", due_ms)
    assert letters.client.hgetall(keys.by_task) == {b"t1": str(entry_id).encode()}
    assert not letters.client.exists(keys.cancelled)
    totals = letters.totals()
    assert (totals.letters, totals.size, totals.counts) == (0, 0, {"buried": 1, "requeued": 1})


def test_who_requeues_second_is_told_that_it_goes_out_once(letters: DeadLetters, timetable: Timetable) -> None:
    letters.bury("m1", b"message", DEATH)
    letters.requeue([requeued("m1")])

    assert letters.requeue([requeued("m1")]) == [False]
    assert timetable.count() == (0, 1)


def test_a_late_signal_of_a_death_makes_no_letter_once_it_was_requeued(letters: DeadLetters) -> None:
    letters.bury("m1", b"message", DEATH)
    letters.requeue([requeued("m1")])

    assert letters.bury("m1", b"message", DEATH) == ("same", 0)
    assert letters.bury("m1", b"message", Death(reason="lost", worker="w2")) == ("new", 1)


def test_ids_that_are_taken_are_not_taken_again(letters: DeadLetters, timetable: Timetable, keys: Keys) -> None:
    letters.bury("m1", b"message", DEATH)
    letters.client.set(keys.entry(3), waiting_task("another").pack())

    assert letters.requeue([requeued("m1")]) == [True]
    assert timetable.nearest(10)[0][1] == 5


def test_what_is_dropped_is_gone_and_counted(letters: DeadLetters) -> None:
    letters.bury("m1", b"message", DEATH)
    letters.bury("m2", b"message", DEATH)
    (first, second) = letters.oldest(10)

    assert letters.drop(["m1", "m9"], counted="expired") == (1, first.size)
    assert (ids(letters), letters.totals().size) == (["m2"], second.size)
    assert letters.totals().counts == {"buried": 2, "expired": 1}


def test_what_has_died_again_meanwhile_does_not_expire(letters: DeadLetters) -> None:
    letters.bury("m1", b"message", DEATH)
    (letter,) = letters.oldest(1)

    assert letters.drop(["m1"], counted="expired", latest_ms=letter.last_ms - 1) == (0, 0)
    assert ids(letters) == ["m1"]


def test_a_leader_that_leads_no_longer_drops_nothing(letters: DeadLetters, epoch: int) -> None:
    letters.bury("m1", b"message", DEATH)

    with pytest.raises(StaleEpoch):
        letters.drop(["m1"], epoch=epoch - 1)
    assert letters.drop(["m1"], epoch=epoch)[0] == 1


def test_redeliveries_are_counted_by_send(letters: DeadLetters) -> None:
    letters.count_redelivery("m1")
    letters.count_redelivery("m1")

    assert (letters.redeliveries("m1"), letters.redeliveries("m2")) == (2, 0)


def test_facts_that_are_spoiled_hide_no_letter(letters: DeadLetters, keys: Keys) -> None:
    letters.bury("m1", b"message", DEATH)
    letters.client.hset(keys.dead("m1"), "facts", "[")

    (letter,) = letters.oldest(1)
    assert letter.death.message == "what is known of it cannot be read"
