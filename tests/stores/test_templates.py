"""Templates: a record is cut in two and joined again, by Python and by Redis alike, and what a kind has in common stands once."""

import json
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.utils.json import dumps

from celery_tw.core.sequence import MARK, TEXT, numbered
from celery_tw.stores.redis.cancelling import Cancelling
from celery_tw.stores.redis.codec import OneTime, unpack_one_time
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.keys import TEMPLATES_KEPT_MS, Keys
from celery_tw.stores.redis.templates import MOST_VALUES, SHAPES_KEPT, Cut, Cutter, join
from celery_tw.stores.redis.timetable import Timetable
from celery_tw.stores.redis.writing import OneTimeWrite

DAY_MS = 24 * 3600 * 1000
LINES = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["mid", "a long value, twice", '"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ENVELOPES = st.builds(
    lambda body, headers, more, properties: dumps({"body": body, "headers": {**headers, **more}, "properties": properties}).encode(),
    st.text(),
    st.dictionaries(st.sampled_from(["id", "task", "tw_mid", "origin", "stamps", "expires", "retries"]) | st.text(), VALUES, max_size=8),
    st.sampled_from([{}, {"tw_seq": MARK}, {"tw_seq": MARK, "x": 1}, {"tw_eta": 1_800_000_000_000, "tw_seq": MARK, "last": "a text"}]),
    st.dictionaries(st.sampled_from(["correlation_id", "priority", "delivery_info"]), VALUES),
)
TASKS = st.builds(
    OneTime,
    mid=st.sampled_from(["mid", "m2"]) | LINES,
    name=LINES,
    task_id=LINES,
    stored_ms=st.integers(0, 2**50),
    last_ms=st.none(),
    fingerprint=st.just("f"),
    queue_key=st.sampled_from(["celery", "other"]),
    extra=st.fixed_dictionaries({"task": st.sampled_from(["a", "b"])}, optional={"digest": st.text(), "note": st.text()}),
    message=st.one_of(ENVELOPES, st.binary(), st.sampled_from([b"", b"{}", b'{"a": "\n"}', b'{"a": "\0"}', b'{"n": "1\n2"}\n'])),
)


def celery_task(number: int = 1, **headers: object) -> OneTime:
    """Return a task with a message as Celery makes it."""
    task_id = str(uuid4())
    message = {
        "body": f"W1s{number}XSwge30sIHt9XQ==",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": "shop.report",
            "id": task_id,
            "shadow": None,
            "expires": None,
            "retries": 0,
            "timelimit": [None, 300],
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": f"({number},)",
            "kwargsrepr": "{}",
            "origin": f"gen{number}@host",
            "stamps": {},
            "tw_eta": 1_800_000_000_000 + number,
            **headers,
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": str(uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }
    return OneTime(
        mid=str(uuid4()),
        name="",
        stored_ms=1,
        last_ms=None,
        fingerprint="f",
        queue_key="celery",
        extra={"task": "shop.report"},
        message=json.dumps(message).encode(),
        task_id=task_id,
    )


def cut_by(cutter: Cutter, task: OneTime) -> Cut:
    return cutter.cut(task.mid.encode(), task.pack_rest())


def joined(task: OneTime, cut: Cut) -> bytes | None:
    return join(f"1\n{task.mid}\n{task.stored_ms}\n".encode() + cut.rest, cut.template.text)


@settings(deadline=None)
@given(tasks=st.lists(TASKS, min_size=1, max_size=6))
def test_whatever_is_cut_is_joined_again(tasks: list[OneTime]) -> None:
    cutter = Cutter()

    for task in tasks:
        assert joined(task, cut_by(cutter, task)) == task.pack()


@pytest.mark.parametrize("changes", [{}, {"root_id": "another"}, {"expires": "2030-01-01T00:00:00+00:00"}, {"stamps": {"a": "b"}}])
def test_what_is_cut_as_the_one_before_it_is_joined_again(changes: dict[str, object]) -> None:
    cutter = Cutter()
    tasks = [celery_task(1), celery_task(2, **changes), celery_task(3), celery_task(4, **changes)]

    cuts = [cut_by(cutter, task) for task in tasks]

    assert [joined(task, cut) for task, cut in zip(tasks, cuts, strict=True)] == [task.pack() for task in tasks]
    assert len({cut.template for cut in cuts}) <= 2


def test_two_processes_agree_on_the_template_of_a_kind_and_its_records_are_short() -> None:
    here, there = celery_task(1), celery_task(222)

    first, second = cut_by(Cutter(), here), cut_by(Cutter(), there)

    assert first.template == second.template
    assert len(first.rest) < len(here.message) / 2.5


@pytest.mark.parametrize(
    "value", ["trace-{}", 10_000_000, ["a", "b-{}"], {"key": "v-{}"}, {"key-{}": 1}, 'a "quoted" {}', "ends with a backslash {}\\"]
)
def test_a_header_that_differs_from_task_to_task_makes_no_template_for_each(value: object) -> None:
    cutter = Cutter()
    written = json.dumps(value)
    tasks = [
        celery_task(number, trace=json.loads(written.replace("{}", f"{number:04}").replace("10000000", f"{number}")))
        for number in range(1, 40)
    ]

    cuts = [cut_by(cutter, task) for task in tasks]

    assert len({cut.template for cut in cuts}) == 1
    assert [joined(task, cut) for task, cut in zip(tasks, cuts, strict=True)] == [task.pack() for task in tasks]


def test_a_process_whose_messages_have_no_shape_in_common_stops_leaving_templates_behind() -> None:
    cutter = Cutter()
    tasks = [celery_task(number, **{f"header-{number}": 1}) for number in range(SHAPES_KEPT + 100)]

    cuts = [cut_by(cutter, task) for task in tasks]

    assert len({cut.template for cut in cuts}) <= SHAPES_KEPT + 1
    assert joined(tasks[-1], cuts[-1]) == tasks[-1].pack()


def test_a_message_with_more_values_than_marks_is_kept_in_one_piece() -> None:
    task = celery_task(**{f"header-{number}": f"a value of its own {number}" for number in range(MOST_VALUES)})

    cut = cut_by(Cutter(), task)

    assert joined(task, cut) == task.pack()
    assert cut.rest.endswith(task.message)


def write_of(task: OneTime, entry_id: int, *, due_ms: int = 2000) -> OneTimeWrite:
    return OneTimeWrite(name=task.name, entry_id=entry_id, mid=task.mid, due_ms=due_ms, record=task.pack())


def fire(dispatching: Dispatching, epoch: int, *ids: int, due_ms: int = 2000) -> Sequence[str]:
    pairs = [(due_ms, entry_id) for entry_id in ids]
    return dispatching.fire_once(epoch, pairs, fingerprint="f", queue_keys=[b"celery", b"other"]).statuses()[1]


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(tasks=st.lists(TASKS, min_size=1, max_size=6))
def test_redis_joins_what_python_cuts(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, epoch: int, tasks: list[OneTime]
) -> None:
    redis_client.delete("celery", "other", keys.due, keys.names, keys.fired, keys.templates, keys.template_dues)
    timetable = Timetable(redis_client, keys)
    ids = [2 * index + 1 for index in range(len(tasks))]
    tasks = [replace(task, name=f"{task.name}{index}") for index, task in enumerate(tasks)]
    writes = [write_of(task, entry_id) for task, entry_id in zip(tasks, ids, strict=True)]
    assert timetable.writing.put_one_time(writes)[1] == ["put"] * len(ids)
    assert [timetable.read_one_time(entry_id)[0] for entry_id in ids] == [task.pack() for task in tasks]

    assert fire(dispatching, epoch, *ids) == ["fired"] * len(ids)

    last = int(redis_client.hget(keys.leader, "seq") or 0)
    numbers = {task.mid + task.name: number for number, task in enumerate(tasks, start=last)}
    for queue in ("celery", "other"):
        expected = [numbered(task.message, numbers[task.mid + task.name]) for task in tasks if task.queue_key == queue]
        assert redis_client.lrange(queue, 0, -1)[::-1] == expected
        assert not any(TEXT in message for message in expected)


def test_tasks_of_a_kind_share_one_template_in_redis(timetable: Timetable, redis_client: redis.Redis, keys: Keys) -> None:
    tasks = [celery_task(number) for number in range(1, 40)]

    timetable.writing.put_one_time([write_of(task, 2 * number + 1, due_ms=1000 + number) for number, task in enumerate(tasks)])

    ((template_id, _),) = redis_client.hgetall(keys.templates).items()
    assert redis_client.zrange(keys.template_dues, 0, -1, withscores=True) == [(template_id, 1038)]


def test_a_task_whose_template_is_gone_or_does_not_fit_is_malformed_and_harms_no_other(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    sound, orphan, spoiled = celery_task(1), replace(celery_task(2), queue_key="other"), celery_task(3)
    timetable.writing.put_one_time([write_of(sound, 1), write_of(orphan, 3), write_of(spoiled, 5)])
    missing = timetable.read_stored(3).split(b"\n")[6]  # type: ignore[union-attr]
    redis_client.hdel(keys.templates, missing)
    stored = timetable.read_stored(5) or b""
    redis_client.set(keys.entry(5), b"\n".join(stored.split(b"\n")[:8]))
    fresh = Timetable(redis_client, keys)

    statuses = fire(dispatching, epoch, 3, 5, 1)

    assert statuses[0] == f"malformed its template {missing.decode()} is missing"
    assert statuses[1].startswith("malformed the record does not fit its template")
    assert statuses[2] == "fired"
    assert [fresh.name_of(entry_id) for entry_id in (3, 5)] == [None, None]


@pytest.mark.parametrize("count", [MOST_VALUES, SHAPES_KEPT + 1])
def test_a_message_in_one_piece_gets_its_number_too(
    count: int, timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int
) -> None:
    headers = {f"header-{number}": f"a value of its own {number}" for number in range(count)}
    task = celery_task(tw_seq=MARK, **headers)
    timetable.writing.put_one_time([write_of(task, 1)])

    assert fire(dispatching, epoch, 1) == ["fired"]

    assert redis_client.lrange("celery", 0, -1) == [numbered(task.message, epoch * 2**20)]


@pytest.mark.parametrize("carry", [10**2, 10**9])
def test_numbers_are_counted_beyond_what_lua_keeps_exactly(
    carry: int, timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int
) -> None:
    tasks = [celery_task(number, tw_seq=MARK) for number in range(4)]
    timetable.writing.put_one_time([write_of(task, 2 * number + 1) for number, task in enumerate(tasks)])
    rest = -epoch * 2**20 % carry + carry
    dispatching.numbers.take(epoch, rest - 2)

    assert fire(dispatching, epoch, 1, 3, 5, 7) == ["fired"] * 4

    first = epoch * 2**20 + rest - 2
    sent = [json.loads(message)["headers"]["tw_seq"] for message in redis_client.lrange("celery", 0, -1)]
    assert sent[::-1] == [first, first + 1, first + 2, first + 3]
    assert (first + 2) % carry == 0


def test_a_call_that_arrives_after_a_later_one_fires_nothing(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    timetable.writing.put_one_time([write_of(celery_task(number), 2 * number + 1) for number in range(2)])
    late = Dispatching(redis_client, keys, lease_ms=60_000, history_size=0)
    late.numbers.take(epoch, 5)
    dispatching.numbers.take(epoch, 10)
    assert fire(dispatching, epoch, 1) == ["fired"]

    assert fire(late, epoch, 3) == ["moved"]

    assert redis_client.llen("celery") == 1


def test_texts_are_found_in_what_tasks_share_and_in_what_they_do_not(timetable: Timetable, redis_client: redis.Redis, keys: Keys) -> None:
    stamped = celery_task(1, stamps={"customer": "acme"}, stamped_headers=["customer"])
    named = celery_task(2, customer={"a": {"b": 1}})
    timetable.writing.put_one_time([write_of(stamped, 1), write_of(named, 3), write_of(celery_task(3), 5)])
    cancelling = Cancelling(redis_client, keys)

    assert cancelling.containing([1, 3, 5], [b'"customer"']) == [1, 3]
    assert cancelling.containing([1, 3, 5], [b"\n%b\n" % named.mid.encode()]) == [3]


def test_a_template_is_swept_when_no_task_can_need_it_any_more(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    long_ago_ms = timetable.now_ms() - TEMPLATES_KEPT_MS - DAY_MS
    timetable.writing.put_one_time([write_of(celery_task(1), 1, due_ms=long_ago_ms)])

    assert dispatching.sweep_templates(epoch) == 0
    assert fire(dispatching, epoch, 1, due_ms=long_ago_ms) == ["fired"]
    assert dispatching.sweep_templates(epoch) == 1

    assert not redis_client.exists(keys.templates, keys.template_dues)


def test_a_template_is_kept_for_tasks_that_are_due_later_paused_or_hurried(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    now_ms = timetable.now_ms()
    long_ago_ms = now_ms - TEMPLATES_KEPT_MS - DAY_MS
    kinds = [replace(celery_task(number), queue_key=queue) for number, queue in enumerate(("celery", "other", "third"))]
    late, paused, hurried = (write_of(task, 2 * number + 1, due_ms=long_ago_ms) for number, task in enumerate(kinds))
    timetable.writing.put_one_time([replace(late, due_ms=long_ago_ms), paused, hurried])
    timetable.writing.put_one_time([replace(late, due_ms=now_ms - 1)])
    assert timetable.writing.hold(paused.entry_id, pause=True) == "changed"
    assert timetable.writing.hurry(hurried.entry_id)

    assert dispatching.sweep_templates(epoch) == 0
    assert timetable.writing.hold(paused.entry_id, pause=False) == "changed"
    assert dispatching.sweep_templates(epoch) == 0
    assert timetable.writing.remove("", paused.entry_id) == "gone"
    redis_client.zrem(keys.due, paused.entry_id)

    assert dispatching.sweep_templates(epoch) == 1
    assert fire(dispatching, epoch, late.entry_id, due_ms=now_ms - 1) == ["fired"]
    assert unpack_one_time(timetable.read_one_time(hurried.entry_id)[0] or b"").message == kinds[2].message
