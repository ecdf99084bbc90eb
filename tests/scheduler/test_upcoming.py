"""What is in hand comes out when its time has come, and a herd of one kind leaves room for the other."""

from celery_tw.scheduler.upcoming import Upcoming

RECURRING, ONE_TIME = range(0, 2000, 2), range(1, 2001, 2)


def filled(*entries: tuple[int, int]) -> Upcoming:
    upcoming = Upcoming()
    for entry_id, due_ms in entries:
        upcoming.add(entry_id, due_ms)
    return upcoming


def test_a_recurring_entry_does_not_wait_behind_a_herd_of_one_time_tasks() -> None:
    upcoming = filled(*((entry_id, 1000) for entry_id in ONE_TIME), (2, 1500))
    assert (1500, 2) in upcoming.take(1500, limit=10)


def test_a_one_time_task_does_not_wait_behind_a_herd_of_recurring_entries() -> None:
    upcoming = filled(*((entry_id, 1000) for entry_id in RECURRING), (1, 1500))
    assert (1500, 1) in upcoming.take(1500, limit=10)


def test_two_herds_have_half_each() -> None:
    taken = filled(*((entry_id, 1000) for entry_id in (*ONE_TIME, *RECURRING))).take(1000, limit=10)
    assert sum(entry_id % 2 for _, entry_id in taken) == 5


def test_one_kind_alone_has_all_of_it_earliest_first() -> None:
    for kind in (ONE_TIME, RECURRING):
        upcoming = filled(*((entry_id, 3000 - entry_id) for entry_id in kind))
        taken = upcoming.take(3000, limit=10)
        assert taken == sorted(taken)
        assert [entry_id for _, entry_id in taken] == sorted(kind, reverse=True)[:10]


def test_what_is_not_due_stays() -> None:
    upcoming = filled((2, 1000), (3, 2000), (4, 3000))
    assert upcoming.take(1999, limit=10) == [(1000, 2)]
    assert (upcoming.next_ms(), len(upcoming), 3 in upcoming, 2 in upcoming) == (2000, 2, True, False)
