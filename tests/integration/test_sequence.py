"""`tw_seq`: numbers grow with each message that the leaders of a shard hand over, whatever it is and wherever it goes."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from celery import Celery, group

from celery_tw import TimeWheel, once
from celery_tw.core.misfire import Misfire
from celery_tw.core.sequence import MARK, Numbers, numbered
from celery_tw.integration.messages.identity_headers import identified
from celery_tw.integration.messages.rendering import Renderer
from celery_tw.integration.moments import from_ms
from celery_tw.integration.workshop import CeleryWorkshop
from celery_tw.settings import Settings
from celery_tw.stores.redis.claims import FIRST
from celery_tw.stores.redis.envelope import read_envelope
from celery_tw.stores.redis.keys import is_one_time
from tests.scheduler.conftest import KEYS, Stand
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]


def leading(client: redis.Redis, app: Celery, owner: str) -> Stand:
    """Return a scheduler that leads, and renders with *app*."""
    stand = Stand(client, Settings(namespace="shop"), owner)
    stand.engine.entries.workshop = stand.engine.dispatch.one_time.workshop = CeleryWorkshop(app, Renderer(app), statics={})
    stand.lead()
    stand.run()
    return stand


def let_all_kinds_be_due(stand: Stand, app: Celery, term: str) -> None:
    """Store a recurring task, a canvas of two, a named one-time task and a deferred one, and let all be due."""
    now_ms, tick = stand.now_ms(), app.signature("shop.tick")
    canvas = json.loads(json.dumps(group(tick, tick.clone(kwargs={"a": 1}))))
    stand.put(f"plain {term}", mark_ms=now_ms - 100_500, period_ms=100_000, signature={"task": "shop.tick"})
    stand.put(f"canvas {term}", mark_ms=now_ms - 100_500, period_ms=100_000, signature=canvas)
    TimeWheel(app).schedule(f"once {term}", tick, once(from_ms(now_ms) + timedelta(hours=1)))
    app.send_task("shop.tick", countdown=3600)
    tasks = [member for member in stand.client.zrange(KEYS.due, 0, -1) if is_one_time(int(member))]
    stand.client.zadd(KEYS.due, dict.fromkeys(tasks, now_ms - 1000))


def shop(make_app: MakeApp, **settings: Any) -> Celery:
    app = make_app("shop", tw_defer_eta="always", **settings)
    TimeWheel(app)
    return app


def test_numbers_grow_over_all_kinds_of_entries_and_over_two_terms(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = shop(make_app)
    for term, owner in enumerate(("first", "second"), start=1):
        stand = leading(redis_client, app, owner)
        let_all_kinds_be_due(stand, app, owner)
        wait_until(lambda stand=stand, wanted=5 * term: stand.run() or redis_client.llen("celery") == wanted)
        stand.elector.resign()

    sent = redis_client.lrange("celery", 0, -1)[::-1]
    numbers = [json.loads(message)["headers"]["tw_seq"] for message in sent]
    assert all(isinstance(number, int) for number in numbers)
    assert numbers == sorted(set(numbers))
    assert not any(b"\\u0000" in message for message in sent)


def test_what_goes_to_a_broker_apart_is_numbered_in_the_outbox(make_app: MakeApp, redis_url: str, redis_client: redis.Redis) -> None:
    app = shop(make_app, broker_url="memory://", tw_redis_url=redis_url)
    stand = leading(redis_client, app, "me")
    let_all_kinds_be_due(stand, app, "only")

    wait_until(lambda: stand.run() or stand.claims.sizes().waiting == 5)

    numbers = [read_envelope(claim.message).headers["tw_seq"] for claim in stand.claims.read(after=FIRST, limit=100)]
    assert all(isinstance(number, int) for number in numbers)
    assert numbers == sorted(set(numbers))


def test_the_slots_of_a_backlog_are_numbered(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = shop(make_app)
    stand = leading(redis_client, app, "me")
    stand.put("tick", mark_ms=stand.now_ms() - 10_500, misfire=Misfire.catch_up(rate=100), tolerance_ms=0, signature={"task": "shop.tick"})

    wait_until(lambda: stand.run() or redis_client.llen("celery") > 5)

    numbers = [json.loads(message)["headers"]["tw_seq"] for message in redis_client.lrange("celery", 0, -1)]
    assert numbers[::-1] == sorted(set(numbers))


def test_a_task_rendered_again_for_another_broker_is_numbered_when_it_is_fired(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = shop(make_app)
    app.send_task("shop.tick", countdown=3600)
    other = shop(make_app, broker_transport_options={"global_keyprefix": "other:"})
    stand = leading(redis_client, other, "me")
    (member,) = redis_client.zrange(KEYS.due, 0, -1)
    redis_client.zadd(KEYS.due, {member: stand.now_ms() - 1000})
    stand.listen()

    wait_until(lambda: stand.run() or redis_client.llen("other:celery") == 1)

    (message,) = redis_client.lrange("other:celery", 0, -1)
    assert json.loads(message)["headers"]["tw_seq"] >= stand.elector.term.epoch * 2**20  # type: ignore[union-attr]


@pytest.mark.parametrize("headers", [{"tw_seq": 5}, {"tw_seq": MARK, "tenant": "acme"}])
def test_a_new_send_does_not_inherit_a_number(headers: dict[str, Any]) -> None:
    assert "tw_seq" not in identified(headers, "mid")


def test_a_plain_send_has_no_number(make_app: MakeApp, redis_client: redis.Redis) -> None:
    shop(make_app).send_task("shop.tick", headers={"tw_seq": 5})

    (message,) = redis_client.lrange("celery", 0, -1)
    assert "tw_seq" not in json.loads(message)["headers"]


def test_numbers_of_a_later_term_are_larger_and_none_is_given_twice() -> None:
    numbers = Numbers()

    first, second, later = numbers.take(1_800_000_000_000, 3), numbers.take(1_800_000_000_000, 1), numbers.take(1_800_000_000_001, 2)

    assert (second - first, later) == (3, 1_800_000_000_001 * 2**20)
    assert numbered(b'{"tw_seq": "\\u0000s"}', later) == b'{"tw_seq": %d}' % later
