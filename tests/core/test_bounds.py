"""Start, end and jitter."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tw.core.bounds import Bounded, jitter_offset_ms
from celery_tw.core.interval import Interval
from celery_tw.core.recurrence import count_between, last_between, slots_between
from celery_tw.errors import InvalidSchedule


def test_start_and_end_are_both_included():
    bounded = Bounded(Interval(100), start_ms=200, end_ms=400)

    assert slots_between(bounded, -1000, 1000, limit=99) == [200, 300, 400]


def test_an_open_side_leaves_out_nothing():
    assert Bounded(Interval(100)).next_after(50) == 100
    assert Bounded(Interval(100), start_ms=950).next_after(50) == 1000
    assert Bounded(Interval(100), end_ms=50).next_after(20) is None


def test_bounds_move_no_slot():
    assert Bounded(Interval(100), start_ms=250, end_ms=299).next_after(0) is None


def test_an_end_before_the_start_is_refused():
    Bounded(Interval(100), start_ms=5, end_ms=5)
    with pytest.raises(InvalidSchedule, match=r"ends after it starts, not at 1970-01-01 00:00:00\.004000\+00:00, before"):
        Bounded(Interval(100), start_ms=5, end_ms=4)


@given(
    start_ms=st.none() | st.integers(-300, 300),
    length_ms=st.none() | st.integers(0, 500),
    after_ms=st.integers(-500, 500),
    until_ms=st.integers(-500, 900),
)
def test_a_bounded_recurrence_answers_as_a_filtered_list_would(start_ms, length_ms, after_ms, until_ms):
    end_ms = None if length_ms is None else (start_ms or 0) + length_ms
    bounded = Bounded(Interval(30, anchor_ms=7), start_ms=start_ms, end_ms=end_ms)
    first_ms = after_ms + 1 if start_ms is None else max(after_ms + 1, start_ms)
    last_ms = until_ms if end_ms is None else min(until_ms, end_ms)
    slots = [slot for slot in range(first_ms, last_ms + 1) if (slot - 7) % 30 == 0]

    assert slots_between(bounded, after_ms, until_ms, limit=99) == slots
    assert count_between(bounded, after_ms, until_ms, limit=99) == len(slots)
    assert last_between(bounded, after_ms, until_ms) == (slots[-1] if slots else None)


@given(
    entry_id=st.integers(1, 2**62),
    slot_ms=st.integers(0, 2**42),
    jitter_ms=st.integers(0, 10_000),
    gap_ms=st.none() | st.integers(1, 12_000),
)
def test_jitter_stays_within_its_bound_and_before_the_next_slot(entry_id, slot_ms, jitter_ms, gap_ms):
    next_slot_ms = None if gap_ms is None else slot_ms + gap_ms

    offset_ms = jitter_offset_ms(entry_id, slot_ms, jitter_ms=jitter_ms, next_slot_ms=next_slot_ms)

    assert 0 <= offset_ms <= jitter_ms
    assert gap_ms is None or offset_ms < gap_ms


def test_jitter_is_the_same_in_every_process():
    assert jitter_offset_ms(42, 1_700_000_000_000, jitter_ms=9_999, next_slot_ms=None) == 4194


def test_jitter_spreads_entries_over_the_whole_bound():
    drawn = Counter(jitter_offset_ms(n, 1_700_000_000_000, jitter_ms=9, next_slot_ms=None) for n in range(5000))

    assert set(drawn) == set(range(10))
    assert max(drawn.values()) < 2 * min(drawn.values())
