"""Refused messages in Redis: they are found with the reason, and leave the quarantine for the outbox or for good."""

import json

import pytest
import redis

from celery_tw.core.misfire import SkippedRange
from celery_tw.stores.redis.claims import FIRST, Claims, Settlement
from celery_tw.stores.redis.codec import decode_skip
from celery_tw.stores.redis.keys import ONE_TIME_SKIPS, Keys
from celery_tw.stores.redis.refused_messages import PAGE, RefusedMessages
from celery_tw.stores.redis.timetable import Timetable

KEYS = Keys("shop")
EPOCH = 7


@pytest.fixture
def claims(redis_client: redis.Redis) -> Claims:
    redis_client.hset(KEYS.leader, "epoch", EPOCH)
    return Claims(redis_client, KEYS, lease_ms=60_000)


@pytest.fixture
def messages(redis_client: redis.Redis) -> RefusedMessages:
    return RefusedMessages(redis_client, KEYS)


def refuse(claims: Claims, *claim_ids: str, verb: str = "buried", entry_id: int = 2) -> None:
    """Let the leader claim messages and note that the broker has refused them."""
    for claim_id in claim_ids:
        fields = {"entry": str(entry_id), "delivery": "at_least_once", "message": f"message {claim_id}"}
        claims.client.xadd(KEYS.outbox, fields, id=claim_id)
    record = {"reason": "full", "count": 2, "entry": entry_id, "name": "tick", "slot_ms": 500}
    claims.settle(EPOCH, [Settlement(claim_id=claim_id, verb=verb, record=record) for claim_id in claim_ids])  # type: ignore[arg-type]


def test_messages_are_listed_in_the_order_of_their_claims(claims: Claims, messages: RefusedMessages) -> None:
    refuse(claims, "9-1", "10-1", "10-2")
    refuse(claims, "11-1", "12-1", verb="refused")

    assert (messages.buried_ids(), messages.waiting_ids()) == (["9-1", "10-1", "10-2"], ["11-1", "12-1"])


def test_a_message_is_read_with_what_the_leader_noted(claims: Claims, messages: RefusedMessages) -> None:
    refuse(claims, "9-1")
    refuse(claims, "11-1", verb="refused")

    buried, waiting = messages.read(["9-1", "nonsense", "10-7", "11-1"])

    assert (buried.claim_id, buried.buried, buried.message, buried.claimed_ms) == ("9-1", True, b"message 9-1", 9)
    assert (buried.entry_id, buried.name, buried.slot_ms, buried.why["reason"]) == (2, "tick", 500, "full")
    assert (waiting.claim_id, waiting.buried, waiting.message, waiting.why["count"]) == ("11-1", False, b"message 11-1", 2)


def test_a_note_that_is_lost_or_no_note_hides_no_message(claims: Claims, messages: RefusedMessages, redis_client: redis.Redis) -> None:
    refuse(claims, "9-1", "9-2")
    redis_client.hset(KEYS.bad, "message 9-1", "[")
    redis_client.hdel(KEYS.bad, "message 9-2")

    assert [(each.entry_id, each.name, each.slot_ms) for each in messages.read(["9-1", "9-2"])] == [(0, "", 9), (0, "", 9)]


def test_a_requeued_message_waits_in_the_outbox_again_and_nowhere_else(
    claims: Claims, messages: RefusedMessages, redis_client: redis.Redis
) -> None:
    refuse(claims, "9-1", "9-2", entry_id=3)

    (done,) = messages.requeue(messages.read(["9-1"]))

    (claim,) = claims.read(after=FIRST, limit=10)
    assert (done.claim_id, claim.entry_id, claim.at_most_once, claim.message) == ("9-1", 3, False, b"message 9-1")
    assert claim.claimed_ms > 9
    assert messages.buried_ids() == ["9-2"]
    assert redis_client.hkeys(KEYS.bad) == [b"message 9-2"]


def test_a_discarded_message_is_gone_and_its_slot_recorded_as_skipped(claims: Claims, messages: RefusedMessages) -> None:
    refuse(claims, "9-1")
    refuse(claims, "9-2", entry_id=3)

    assert len(messages.discard(messages.read(["9-1", "9-2"]))) == 2

    skip = SkippedRange(from_ms=500, to_ms=500, count=1, reason="discarded")
    timetable = Timetable(claims.client, KEYS)
    (of_the_entry,), (of_the_task,) = timetable.history(2, 10)[1], timetable.history(ONE_TIME_SKIPS, 10)[1]
    assert (decode_skip(of_the_entry), decode_skip(of_the_task)) == (skip, skip)
    assert json.loads(of_the_task)["name"] == "tick"
    assert (claims.sizes().waiting, messages.buried_ids(), timetable.quarantined()) == (0, [], {})


def test_who_comes_second_is_told_that_nothing_was_left(claims: Claims, messages: RefusedMessages) -> None:
    refuse(claims, "9-1")
    found = messages.read(["9-1"])
    messages.discard(found)

    assert (messages.requeue(found), messages.discard(found)) == ([], [])
    assert claims.sizes().waiting == 0


def test_many_are_dealt_with_page_by_page(claims: Claims, messages: RefusedMessages) -> None:
    refuse(claims, *(f"{number}-1" for number in range(1, 2 * PAGE + 8)))

    assert len(messages.requeue(messages.read(messages.buried_ids()))) == 2 * PAGE + 7

    assert [claim.message for claim in claims.read(after=FIRST, limit=2)] == [b"message 1-1", b"message 2-1"]
