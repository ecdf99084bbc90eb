"""Judging by times alone: what was missed and what was too much, without a slot in any message."""

from hypothesis import given
from hypothesis import strategies as st

from celery_tw.testing.matching import Match, match, repeats, rhythm


def test_each_time_takes_the_first_message_that_is_left_for_it() -> None:
    found = match([1000, 2000, 3000], [1010, 2400, 3005], tolerance_ms=500)

    assert found == Match(((1000, 1010), (2000, 2400), (3000, 3005)), (), ())


def test_a_planted_miss_is_missed() -> None:
    assert match([1000, 2000, 3000], [1010, 3005], tolerance_ms=500).missed == (2000,)


def test_a_planted_double_is_extra() -> None:
    assert match([1000, 2000], [1010, 1020, 2010], tolerance_ms=500).extra == (1020,)


def test_a_planted_early_fire_is_extra_and_serves_nothing() -> None:
    found = match([1000, 2000], [1010, 1990], tolerance_ms=500)

    assert (found.missed, found.extra) == ((2000,), (1990,))


def test_what_is_too_late_serves_nothing() -> None:
    found = match([1000, 2000], [1501, 2000], tolerance_ms=500)

    assert (found.missed, found.extra) == ((1000,), (1501,))


def test_a_time_whose_window_is_open_when_the_ledger_is_read_may_go_without() -> None:
    assert match([1000, 2000], [1010], tolerance_ms=500, read_ms=2500).missed == ()
    assert match([1000, 2000], [1010], tolerance_ms=500, read_ms=2501).missed == (2000,)


def test_a_rhythm_begins_with_the_first_message() -> None:
    assert list(rhythm(1003, 1000, until_ms=3003)) == [1003, 2003, 3003]


def test_a_message_that_comes_again_before_half_a_period_is_a_repeat() -> None:
    assert repeats([1000, 2000, 2100, 2900, 3399], 1000) == [2100, 3399]


@given(st.lists(st.integers(0, 60), max_size=7), st.lists(st.integers(0, 60), max_size=7), st.integers(0, 20))
def test_no_matching_serves_more_times(nominal: list[int], received: list[int], tolerance: int) -> None:
    found = match(nominal, received, tolerance_ms=tolerance)

    assert len(found.matched) == _most(tuple(sorted(nominal)), tuple(sorted(received)), tolerance)
    assert len(found.matched) + len(found.missed) == len(nominal)
    assert len(found.matched) + len(found.extra) == len(received)
    assert all(0 <= at_ms - slot_ms <= tolerance for slot_ms, at_ms in found.matched)


def _most(nominal: tuple[int, ...], received: tuple[int, ...], tolerance: int) -> int:
    """Return how many times can be served, by trying everything."""
    if not nominal:
        return 0
    first, rest = nominal[0], nominal[1:]
    served = [
        1 + _most(rest, received[:index] + received[index + 1 :], tolerance)
        for index, at_ms in enumerate(received)
        if 0 <= at_ms - first <= tolerance
    ]
    return max([_most(rest, received, tolerance), *served])
