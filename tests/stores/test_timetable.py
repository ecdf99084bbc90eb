"""The timetable's verbs on a real server."""

import pytest
import redis

from celery_tw.core.definition import Definition
from celery_tw.core.misfire import SkippedRange
from celery_tw.errors import StoreRefused
from celery_tw.stores.redis.codec import OneTime, decode_skip, encode_definition
from celery_tw.stores.redis.keys import Keys, is_one_time
from celery_tw.stores.redis.news import NewsReader
from celery_tw.stores.redis.timetable import Timetable
from celery_tw.stores.redis.writing import OneTimeWrite, RecurringWrite

DEFINITION = encode_definition(
    Definition(name="tick", signature={"task": "shop.tick"}, schedule={"kind": "interval", "period_ms": 1000, "anchor_ms": 0})
)


def recurring(entry_id: int, **changes: object) -> RecurringWrite:
    fields: dict[str, object] = {
        "name": "tick",
        "entry_id": entry_id,
        "version": None,
        "definition": DEFINITION,
        "mark_ms": 1000,
        "due_ms": 2000,
    }
    return RecurringWrite(**{**fields, **changes})  # type: ignore[arg-type]


def one_time(entry_id: int, *, name: str = "later", mid: str = "m1", due_ms: int = 2000, queue: str = "celery") -> OneTimeWrite:
    record = OneTime(
        mid=mid, name=name, stored_ms=1, last_ms=None, fingerprint="f", queue_key=queue, extra={"task": "shop.tick"}, message=b"{}"
    )
    return OneTimeWrite(name=name, entry_id=entry_id, mid=mid, due_ms=due_ms, record=record.pack())


def test_ids_tell_recurring_entries_from_one_time_tasks(timetable: Timetable) -> None:
    assert [is_one_time(entry_id) for entry_id in timetable.reserve(3, one_time=True)] == [True] * 3
    assert [is_one_time(entry_id) for entry_id in timetable.reserve(2, one_time=False)] == [False] * 2


def test_a_new_entry_can_be_found_and_read(timetable: Timetable) -> None:
    (entry_id,) = timetable.reserve(1, one_time=False)

    _, statuses = timetable.writing.put([recurring(entry_id)])

    assert statuses == ["put"]
    assert timetable.find(["tick", "tock"]) == [entry_id, None]
    (stored,) = timetable.read([entry_id])
    assert stored is not None
    assert (stored.version, stored.mark_ms, stored.due_ms, stored.count, stored.paused) == (1, 1000, 2000, 0, False)


def test_a_write_decided_on_an_old_version_is_refused(timetable: Timetable) -> None:
    timetable.writing.put([recurring(2)])

    _, first = timetable.writing.put([recurring(2, version=1, due_ms=3000)])
    _, second = timetable.writing.put([recurring(2, version=1, due_ms=4000)])

    assert (first, second) == (["put"], ["raced"])


def test_a_name_cannot_be_given_to_two_entries(timetable: Timetable) -> None:
    timetable.writing.put([recurring(2)])

    assert timetable.writing.put([recurring(4)])[1] == ["raced"]


def test_an_older_process_neither_overwrites_nor_removes_a_settings_entry(timetable: Timetable) -> None:
    timetable.writing.put([recurring(2)], process_start_ms=200)

    assert timetable.writing.put([recurring(2, version=1)], process_start_ms=100)[1] == ["older"]
    assert timetable.writing.remove("tick", 2, process_start_ms=100) == "older"
    assert timetable.writing.remove("tick", 2) == "static"
    assert timetable.writing.remove("tick", 2, process_start_ms=200) == "removed"


def test_an_older_process_does_not_bring_back_what_a_newer_one_removed(timetable: Timetable) -> None:
    timetable.writing.put([recurring(2)], process_start_ms=100)
    timetable.writing.remove("tick", 2, process_start_ms=200)

    assert timetable.writing.put([recurring(2, version=2)], process_start_ms=150)[1] == ["older"]
    assert timetable.writing.put([recurring(2, version=2)], process_start_ms=250)[1] == ["put"]


def test_a_removed_entry_keeps_its_id_and_mark_for_its_return(timetable: Timetable, redis_client: redis.Redis, keys: Keys) -> None:
    timetable.writing.put([recurring(2)])
    timetable.writing.remove("tick", 2)

    assert timetable.find_living("tick") is None
    assert timetable.find(["tick"]) == [2]
    (stored,) = timetable.read([2])
    assert stored is not None
    assert (stored.removed, stored.mark_ms, stored.due_ms) == (True, 1000, None)
    assert redis_client.pttl(keys.entry(2)) > 0

    timetable.writing.put([recurring(2, version=stored.version)])

    assert redis_client.pttl(keys.entry(2)) == -1


def test_a_change_of_state_is_compared_and_recorded(timetable: Timetable) -> None:
    timetable.writing.put([recurring(2)])
    skipped = SkippedRange(from_ms=2000, to_ms=3000, count=2, reason="paused")

    assert timetable.writing.change(2, version=1, mark_ms=1000, due_ms=None, fields=[("paused", "1")], skipped=skipped)
    assert not timetable.writing.change(2, version=1, mark_ms=1000, due_ms=5000, fields=[("paused", "0")])

    (stored,) = timetable.read([2])
    assert stored is not None
    assert stored.paused
    assert stored.due_ms is None
    assert [decode_skip(raw) for raw in timetable.history(2, 10)[1]] == [skipped]


def test_a_one_time_task_is_held_and_let_go(timetable: Timetable) -> None:
    timetable.writing.put_one_time([one_time(3)])

    assert timetable.writing.hold(3, pause=True) == "changed"
    assert timetable.writing.hold(3, pause=True) == "same"
    assert timetable.read_one_time(3)[1:] == (2000, True)
    assert timetable.nearest(5) == []
    assert timetable.writing.hold(3, pause=False) == "changed"
    assert timetable.nearest(5) == [(2000, 3)]
    assert timetable.writing.hold(5, pause=True) == "gone"


def test_removing_a_one_time_task_leaves_only_what_its_kind_shares(timetable: Timetable, redis_client: redis.Redis, keys: Keys) -> None:
    timetable.writing.put_one_time([one_time(3)])

    assert timetable.writing.remove("later", 3) == "removed"

    left = {key.decode() for key in redis_client.keys("*")}
    assert left <= {keys.news, keys.news_seq, keys.schema, keys.seq, keys.templates, keys.template_dues}


def test_names_are_paged_and_a_prefix_is_meant_literally(timetable: Timetable) -> None:
    timetable.writing.put_one_time([one_time(2 * n + 1, name=f"a*{n}", mid=f"m{n}") for n in range(50)])
    timetable.writing.put_one_time([one_time(1001, name="ab", mid="x")])

    found, cursor = {}, 0
    while True:
        cursor, page = timetable.names(prefix="a*", limit=20, cursor=cursor)
        found |= dict(page)
        if cursor == 0:
            break

    assert len(found) == 50


def test_a_full_server_refuses_a_new_entry_whole(timetable: Timetable, redis_client: redis.Redis) -> None:
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreRefused, match="out of memory"):
            timetable.writing.put([recurring(2)])
        with pytest.raises(StoreRefused, match="out of memory"):
            timetable.writing.put_one_time([one_time(3)])
    finally:
        redis_client.config_set("maxmemory", 0)

    assert redis_client.dbsize() == 0


def test_news_are_numbered_and_a_gap_is_told(timetable: Timetable, redis_client: redis.Redis, keys: Keys) -> None:
    reader = NewsReader(redis_client, keys)
    reader.catch_up()
    timetable.writing.put([recurring(2)])
    timetable.writing.put_one_time([one_time(3)])

    heard, missed = reader.read(block_ms=1)

    assert [news.entries() for news in heard] == [[(2, 2000)], [(3, 2000)]]
    assert not missed

    redis_client.incr(keys.news_seq)
    timetable.writing.remove("tick", 2)
    heard, missed = reader.read(block_ms=1)

    assert [news.entries() for news in heard] == [[(2, None)]]
    assert missed


def test_a_backlog_opened_twice_is_one_backlog(timetable: Timetable) -> None:
    timetable.writing.put([recurring(2)])
    facts = {"number": 7, "from_ms": 1, "to_ms": 9, "first_ms": 1, "left": 9, "rate": None}

    assert timetable.writing.open_backlog(2, **facts) == 1
    assert timetable.writing.open_backlog(2, **facts) == 1
    assert timetable.writing.open_backlog(2, **{**facts, "number": 8}) == 2
    assert timetable.writing.open_backlog(4, **facts) == 0
    assert timetable.backlog_sizes() == {"2:7": 9, "2:8": 9}
