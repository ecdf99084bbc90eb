"""The text of a recurrence rule: every part by its own limits, and what cannot stand together."""

import pytest

from celery_tw.core.rrule_parts import MAX_LENGTH, MAX_LIST_ITEMS, Frequency, parse_rrule
from celery_tw.errors import InvalidSchedule


def test_a_rule_that_says_nothing_else_has_the_defaults():
    parts = parse_rrule("FREQ=DAILY")

    assert (parts.frequency, parts.interval, parts.count, parts.until, parts.week_start) == (Frequency.DAILY, 1, None, None, 0)
    sets = (parts.months, parts.week_numbers, parts.year_days, parts.month_days, parts.weekdays, parts.nth_weekdays)
    assert not any((*sets, parts.hours, parts.minutes, parts.seconds, parts.positions))
    assert not parts.names_days


def test_frequencies_go_from_the_coarsest_to_the_finest():
    words = ["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"]

    assert [parse_rrule(f"FREQ={word}").frequency for word in words] == list(Frequency) == list(range(7))


def test_every_part_is_read_under_its_own_name():
    parts = parse_rrule(
        "RRULE:freq=yearly;interval=2;count=3;wkst=su;bymonth=1,12;byweekno=-1,53;byyearday=-366,9;bymonthday=-31,8;byday=mo,su;"
        "byhour=0,23;byminute=0,59;bysecond=7,59;bysetpos=-366,5;"
    )

    assert (parts.interval, parts.count, parts.week_start) == (2, 3, 6)
    assert (parts.months, parts.week_numbers, parts.year_days, parts.month_days) == ({1, 12}, {-1, 53}, {-366, 9}, {-31, 8})
    assert (parts.weekdays, parts.nth_weekdays) == ({0, 6}, set())
    assert (parts.hours, parts.minutes, parts.seconds, parts.positions) == ({0, 23}, {0, 59}, {7, 59}, {-366, 5})


def test_an_ordinal_weekday_is_apart_from_a_plain_one():
    parts = parse_rrule("FREQ=MONTHLY;BYDAY=WE,2TU,-1FR,+53SU")

    assert parts.weekdays == {2}
    assert parts.nth_weekdays == {(2, 1), (-1, 4), (53, 6)}


@pytest.mark.parametrize("part", ["BYWEEKNO=1", "BYYEARDAY=1", "BYMONTHDAY=1", "BYDAY=MO", "BYDAY=1MO"])
def test_a_rule_that_names_days_is_known(part: str):
    assert parse_rrule(f"FREQ=YEARLY;{part}").names_days
    assert not parse_rrule("FREQ=YEARLY;BYMONTH=1;BYHOUR=1;BYSETPOS=1").names_days


@pytest.mark.parametrize(
    ("part", "first", "last"),
    [("BYMONTH", 1, 12), ("BYHOUR", 0, 23), ("BYMINUTE", 0, 59), ("BYSECOND", 0, 59), ("INTERVAL", 1, 100_000), ("COUNT", 1, 10_000)],
)
def test_a_number_may_be_the_first_or_the_last_of_its_range(part: str, first: int, last: int):
    for number in (first, last):
        parse_rrule(f"FREQ=YEARLY;{part}={number}")
    for number in (first - 1, last + 1):
        with pytest.raises(InvalidSchedule, match=part):
            parse_rrule(f"FREQ=YEARLY;{part}={number}")


@pytest.mark.parametrize(("part", "last"), [("BYWEEKNO", 53), ("BYYEARDAY", 366), ("BYMONTHDAY", 31), ("BYSETPOS", 366)])
def test_a_number_may_be_counted_from_either_end_and_is_not_0(part: str, last: int):
    for number in (1, last, -1, -last):
        parse_rrule(f"FREQ=YEARLY;{part}={number}")
    for number in (0, last + 1, -last - 1):
        with pytest.raises(InvalidSchedule, match=f"'{number}' is no value of {part}"):
            parse_rrule(f"FREQ=YEARLY;{part}={number}")


@pytest.mark.parametrize("item", ["0MO", "54MO", "-54MO", "MON", "1", "", "100MO", " MO", "MO TU"])
def test_what_is_no_weekday_is_refused(item: str):
    with pytest.raises(InvalidSchedule, match=r"is no value of BYDAY; expected such as MO, 2TU or -1FR"):
        parse_rrule(f"FREQ=MONTHLY;BYDAY=TU,{item}")


@pytest.mark.parametrize("number", ["1.0", "1e1", "", "x", "1 2", "0000001"])
def test_what_is_no_number_is_refused(number: str):
    with pytest.raises(InvalidSchedule, match="BYMONTH"):
        parse_rrule(f"FREQ=YEARLY;BYMONTH=2,{number}")


def test_a_list_and_a_rule_may_be_as_long_as_is_said():
    items = ",".join(str(number) for number in range(1, MAX_LIST_ITEMS + 1))
    parse_rrule(f"FREQ=YEARLY;BYYEARDAY={items}")
    with pytest.raises(InvalidSchedule, match=f"BYYEARDAY .* lists {MAX_LIST_ITEMS + 1} values, at most 64 are taken"):
        parse_rrule(f"FREQ=YEARLY;BYYEARDAY={items},100")

    parse_rrule("FREQ=YEARLY".ljust(MAX_LENGTH))
    with pytest.raises(InvalidSchedule, match="1 to 1024 characters, this has 1025"):
        parse_rrule("FREQ=YEARLY".ljust(MAX_LENGTH + 1))
    with pytest.raises(InvalidSchedule, match="this has 3"):
        parse_rrule("   ")


@pytest.mark.parametrize("until", ["20271231", "20271231T170000", "20271231T170000Z"])
def test_an_end_has_one_of_three_forms(until: str):
    assert parse_rrule(f"FREQ=DAILY;UNTIL={until}").until == until
    for wrong in (f"{until}0", until[1:], f"{until}ZZ", "2027-12-31"):
        with pytest.raises(InvalidSchedule, match="UNTIL is such as 20271231"):
            parse_rrule(f"FREQ=DAILY;UNTIL={wrong}")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("FREQ=DAILY;COUNT=1;UNTIL=20271231", "gives both COUNT and UNTIL"),
        ("FREQ=WEEKLY;BYDAY=1MO", "an ordinal weekday needs"),
        ("FREQ=YEARLY;BYDAY=1MO;BYWEEKNO=1", "an ordinal weekday needs"),
        ("FREQ=MONTHLY;BYWEEKNO=1", "BYWEEKNO needs FREQ=YEARLY"),
        ("FREQ=HOURLY;BYSETPOS=1;BYMINUTE=1", "BYSETPOS needs FREQ=DAILY or coarser"),
        ("FREQ=DAILY;FREQ=DAILY", "gives FREQ twice"),
        ("FREQ=DAILY;WKST=1MO", "WKST is one of MO, TU"),
        ("FREQ=DAILY;BYHOUR", "expected NAME=VALUE, got 'BYHOUR'"),
        ("FREQ=DAILY;BYHOUR=", "expected NAME=VALUE, got 'BYHOUR='"),
        ("BYHOUR=1", "FREQ is missing; expected FREQ= one of YEARLY"),
        ("FREQ=SOMETIMES", "got FREQ=SOMETIMES"),
        ("FREQ=DAILY;NONSENSE=1", "'NONSENSE' is not a part of a rule"),
        ("FREQ=DAILY;RDATE=20270101", "holds 'RDATE': give the start as an argument"),
    ],
)
def test_what_cannot_be_is_refused_by_its_part(rule: str, says: str):
    with pytest.raises(InvalidSchedule, match=says):
        parse_rrule(rule)


@pytest.mark.parametrize("frequency", ["YEARLY", "MONTHLY"])
def test_ordinal_weekdays_go_with_the_coarse_frequencies(frequency: str):
    assert parse_rrule(f"FREQ={frequency};BYDAY=1MO").nth_weekdays == {(1, 0)}


@pytest.mark.parametrize("frequency", ["YEARLY", "MONTHLY", "WEEKLY", "DAILY"])
def test_positions_go_with_days_and_what_is_coarser(frequency: str):
    assert parse_rrule(f"FREQ={frequency};BYHOUR=1,2;BYSETPOS=-1").positions == {-1}
