"""The outbox in Redis: each verb of SETTLE may be repeated, and none is a stale leader's."""

import json
from collections.abc import Callable

import pytest
import redis

from celery_tw.core.misfire import SkippedRange
from celery_tw.errors import StaleEpoch
from celery_tw.stores.redis.claims import FIRST, Claims, Settlement, Sizes
from celery_tw.stores.redis.keys import ONE_TIME_SKIPS, Keys

KEYS = Keys("shop")
EPOCH = 7

SKIP = SkippedRange(from_ms=5, to_ms=5, count=1, reason="delivery: unknown")


@pytest.fixture
def claims(redis_client: redis.Redis) -> Claims:
    redis_client.hset(KEYS.leader, "epoch", EPOCH)
    return Claims(redis_client, KEYS, lease_ms=60_000)


@pytest.fixture
def claim(redis_client: redis.Redis) -> Callable[[str], str]:
    """Put a message into the outbox."""

    def put(claim_id: str, *, entry_id: int = 2, delivery: str = "at_least_once") -> str:
        redis_client.xadd(KEYS.outbox, {"entry": str(entry_id), "delivery": delivery, "message": f"message {claim_id}"}, id=claim_id)
        return claim_id

    return put


Claim = Callable[[str], str]


def test_claims_are_read_in_the_order_of_claiming_from_any_place(claims: Claims, claim: Claim) -> None:
    for claim_id in ("10-1", "10-2", "11-1"):
        claim(claim_id)
    assert [each.claim_id for each in claims.read(after=FIRST, limit=2)] == ["10-1", "10-2"]
    (last,) = claims.read(after="10-2", limit=2)
    assert (last.claim_id, last.claimed_ms, last.entry_id, last.at_most_once, last.message) == ("11-1", 11, 2, False, b"message 11-1")


@pytest.mark.parametrize("times", [1, 2])
def test_each_verb_may_be_repeated(claims: Claims, claim: Claim, redis_client: redis.Redis, times: int) -> None:
    for claim_id in ("1-1", "2-1", "3-1", "4-1", "5-1"):
        claim(claim_id)
    settlements = [
        Settlement(claim_id="1-1", verb="done"),
        Settlement(claim_id="2-1", verb="refused", record={"count": 1, "reason": "full"}),
        Settlement(claim_id="3-1", verb="let go", record={"entry": 2}),
        Settlement(claim_id="4-1", verb="buried", record={"reason": "full"}),
        Settlement(claim_id="5-1", verb="skipped", entry_id=2, entry_name="tick", skipped=SKIP),
    ]
    for _ in range(times):
        claims.settle(EPOCH, settlements)
    assert [each.claim_id for each in claims.read(after=FIRST, limit=10)] == ["2-1"]
    assert claims.refusals() == {"2-1": 1}
    assert claims.unsure() == {"3-1": {"entry": 2}}
    assert redis_client.hgetall(KEYS.buried) == {b"4-1": b"message 4-1"}
    assert json.loads(redis_client.hget(KEYS.bad, "message 4-1") or b"") == {"reason": "full"}
    assert redis_client.zcard(KEYS.skips(2)) == 1
    assert claims.sizes() == Sizes(waiting=1, refused=1, buried=1)


def test_a_message_that_was_let_go_is_unsure_until_its_end_is_known(claims: Claims, claim: Claim) -> None:
    claim("1-1")
    claims.settle(EPOCH, [Settlement(claim_id="1-1", verb="let go", record={"entry": 2})])
    assert claims.read(after=FIRST, limit=10) == []
    claims.settle(EPOCH, [Settlement(claim_id="1-1", verb="done")])
    assert claims.unsure() == {}


def test_a_refused_message_that_is_done_is_refused_no_more(claims: Claims, claim: Claim) -> None:
    claim("1-1")
    claims.settle(EPOCH, [Settlement(claim_id="1-1", verb="refused", record={"count": 3})])
    claims.settle(EPOCH, [Settlement(claim_id="1-1", verb="done")])
    assert claims.sizes() == Sizes(0, 0, 0)


def test_the_skip_of_a_one_time_task_says_whose_it_is(claims: Claims, claim: Claim, redis_client: redis.Redis) -> None:
    claim("1-1")
    claims.settle(EPOCH, [Settlement(claim_id="1-1", verb="skipped", entry_id=3, entry_name="pay", skipped=SKIP)])
    (raw,) = redis_client.zrange(KEYS.skips(ONE_TIME_SKIPS), 0, -1)
    assert {"id": 3, "name": "pay", "reason": "delivery: unknown"}.items() <= json.loads(raw).items()


def test_a_stale_leader_settles_nothing(claims: Claims, claim: Claim) -> None:
    claim("1-1")
    with pytest.raises(StaleEpoch):
        claims.settle(EPOCH - 1, [Settlement(claim_id="1-1", verb="done")])
    assert claims.sizes().waiting == 1


def test_settling_goes_on_when_memory_is_full(claims: Claims, claim: Claim, redis_client: redis.Redis) -> None:
    claim("1-1")
    claim("2-1")
    redis_client.config_set("maxmemory", 1)
    try:
        claims.settle(
            EPOCH,
            [Settlement(claim_id="1-1", verb="done"), Settlement(claim_id="2-1", verb="refused", record={"count": 1})],
        )
    finally:
        redis_client.config_set("maxmemory", 0)
    assert claims.sizes() == Sizes(waiting=1, refused=1, buried=0)


def test_when_a_task_was_cancelled_is_told_for_each(claims: Claims, redis_client: redis.Redis) -> None:
    redis_client.zadd(KEYS.cancelled, {"b": 1234})
    assert claims.cancelled_ms(["a", "b"]) == [None, 1234]
    assert claims.cancelled_ms([]) == []
