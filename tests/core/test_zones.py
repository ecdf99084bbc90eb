"""A zone as spans: where they begin and end to the second, what the wall has shown before, and which names are zones."""

from datetime import UTC, datetime

import pytest

from celery_tw.core.zones import END_S, FIRST_S, Span, _seen_s, first_instant, first_unseen_wall, span_at, zone
from celery_tw.errors import InvalidSchedule

BERLIN, HOUR_S, BLOCK_S = "Europe/Berlin", 3600, 366 * 86_400


def utc_s(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[arg-type]


SPRING_S, AUTUMN_S = utc_s(2026, 3, 29, 1), utc_s(2026, 10, 25, 1)


def test_a_change_of_the_offset_is_found_to_the_second():
    assert span_at(BERLIN, SPRING_S - 1).end_s == SPRING_S
    assert span_at(BERLIN, SPRING_S) == Span(SPRING_S, AUTUMN_S, 2 * HOUR_S, SPRING_S + HOUR_S)
    assert span_at(BERLIN, AUTUMN_S - 1) == span_at(BERLIN, SPRING_S)
    assert span_at(BERLIN, AUTUMN_S)[:3] == (AUTUMN_S, span_at(BERLIN, AUTUMN_S).end_s, HOUR_S)


@pytest.mark.parametrize("change_s", [SPRING_S, AUTUMN_S])
def test_a_span_tells_what_the_clock_had_reached_before_it(change_s: int):
    before, after = span_at(BERLIN, change_s - 1), span_at(BERLIN, change_s)

    assert after.seen_s == change_s + before.offset_s
    assert (after.seen_s > change_s + after.offset_s) is (change_s == AUTUMN_S)


@pytest.mark.parametrize("block", [-40, -3, 0, 1, 55, 56])
def test_spans_are_cut_where_blocks_meet_and_nothing_is_unseen_or_seen_twice_there(block: int):
    edge_s = block * BLOCK_S
    before, after = span_at("UTC", edge_s - 1), span_at("UTC", edge_s)

    assert (before.end_s, after.start_s) == (edge_s, edge_s)
    assert after == Span(edge_s, edge_s + BLOCK_S, 0, edge_s)
    assert first_unseen_wall("UTC", edge_s - 1) == edge_s


def test_spans_shorter_than_a_week_are_found():
    """Freetown kept its shortest one for four days, the first of September 1939 to the fifth."""
    begin_s, end_s = utc_s(1939, 9, 1, 1), utc_s(1939, 9, 5, 0, 40)

    assert span_at("Africa/Freetown", begin_s) == Span(begin_s, end_s, -2400, begin_s - HOUR_S)
    assert span_at("Africa/Freetown", end_s)[2:] == (-HOUR_S, end_s - 2400)


def test_a_wall_time_that_was_shown_is_not_unseen_in_the_second_pass_of_a_fold():
    for after_s in (AUTUMN_S, AUTUMN_S + 1, AUTUMN_S + HOUR_S - 1):
        assert first_unseen_wall(BERLIN, after_s) == AUTUMN_S + 2 * HOUR_S
    assert first_unseen_wall(BERLIN, AUTUMN_S + HOUR_S) == AUTUMN_S + 2 * HOUR_S + 1
    assert first_unseen_wall(BERLIN, AUTUMN_S - 1) == AUTUMN_S + 2 * HOUR_S


def test_what_a_gap_leaves_out_is_unseen_until_after_it():
    assert first_unseen_wall(BERLIN, SPRING_S - 1) == SPRING_S + HOUR_S
    assert first_unseen_wall(BERLIN, SPRING_S) == SPRING_S + 2 * HOUR_S + 1


@pytest.mark.parametrize(("wall_s", "instant_s"), [(-1, -1), (0, 0), (1800, 0), (HOUR_S - 1, 0), (HOUR_S, 0), (HOUR_S + 1, 1)])
def test_a_wall_time_in_a_gap_means_the_end_of_the_gap(wall_s: int, instant_s: int):
    assert first_instant(BERLIN, SPRING_S + HOUR_S + wall_s) == SPRING_S + instant_s


@pytest.mark.parametrize(("wall_s", "instant_s"), [(-1, -HOUR_S - 1), (0, -HOUR_S), (HOUR_S - 1, -1), (HOUR_S, HOUR_S)])
def test_a_wall_time_in_a_fold_means_its_first_pass(wall_s: int, instant_s: int):
    assert first_instant(BERLIN, AUTUMN_S + HOUR_S + wall_s) == AUTUMN_S + instant_s


def test_a_day_that_was_left_out_is_a_gap_like_any_other():
    """Apia went from the 29th to the 31st of December 2011."""
    midnight_s = utc_s(2011, 12, 30, 10)

    for hour in (0, 12, 24):
        assert first_instant("Pacific/Apia", utc_s(2011, 12, 30) + hour * HOUR_S) == midnight_s
    assert first_instant("Pacific/Apia", utc_s(2011, 12, 31, 0) + 1) == midnight_s + 1


def test_the_ends_of_time_can_be_asked_for():
    assert first_instant("UTC", FIRST_S) == FIRST_S
    assert first_instant("UTC", FIRST_S + 5) == FIRST_S + 5
    assert span_at("UTC", END_S - 1).end_s == END_S == utc_s(9999, 1, 1)


def test_a_name_of_a_zone_is_read_and_another_is_refused_with_the_nearest():
    assert zone(BERLIN).key == BERLIN
    with pytest.raises(InvalidSchedule, match=r"unknown time zone 'europe/berln'; did you mean 'Europe/Berlin'.*\?$"):
        zone("europe/berln")
    with pytest.raises(InvalidSchedule, match="did you mean 'Asia/Tokyo'"):
        zone(" ASIA/TOKIO ")


@pytest.mark.parametrize("name", ["Nowhere at all", "../secret", "", "x" * 5000, "Europe\0"])
def test_what_is_like_no_zone_is_refused_with_an_example(name: str):
    with pytest.raises(InvalidSchedule, match="expected an IANA name such as 'Europe/Berlin' or 'UTC'") as refused:
        zone(name)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("name", [None, 1, b"UTC", ("UTC",)])
def test_a_zone_is_named_by_text(name: object):
    with pytest.raises(InvalidSchedule, match="a time zone is a name such as 'Europe/Berlin', not"):
        zone(name)  # type: ignore[arg-type]


def test_at_most_three_names_are_advised():
    with pytest.raises(InvalidSchedule) as refused:
        zone("America/Argentina/San")

    assert 1 <= str(refused.value).count("America/") - 1 <= 3


def test_a_fold_shortly_before_a_block_reaches_into_it():
    """No zone has a fold within its own length of the end of a block, so this asks beneath."""
    where = zone(BERLIN)

    for after_s in (1, 600, HOUR_S - 1):
        assert _seen_s(where, AUTUMN_S + after_s, HOUR_S, HOUR_S) == AUTUMN_S + 2 * HOUR_S
    assert _seen_s(where, AUTUMN_S + 2 * HOUR_S, HOUR_S, HOUR_S) == AUTUMN_S + 3 * HOUR_S
    assert _seen_s(where, SPRING_S + 5, 2 * HOUR_S, 2 * HOUR_S) == SPRING_S + 5 + 2 * HOUR_S


@pytest.mark.parametrize(("name", "change_s"), [("Africa/Casablanca", 1_212_278_400), ("Europe/Lisbon", 212_544_000)])
def test_a_change_at_the_very_second_that_is_probed_is_found(name: str, change_s: int):
    assert span_at(name, change_s - 1).end_s == change_s == span_at(name, change_s).start_s
    assert span_at(name, change_s - 1).offset_s != span_at(name, change_s).offset_s
