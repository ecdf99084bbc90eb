"""What a recurrence rule may say, and when it fires. dateutil is the oracle where it and RFC 5545 agree."""

import pickle
import random
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr

from celery_tw.core.rrule import RRule
from celery_tw.core.zones import DAY_S, END_S, FIRST_S
from celery_tw.errors import InvalidSchedule

NEW_YORK = "America/New_York"


def ms(*moment: int, zone: str = "UTC") -> int:
    return int(datetime(*moment, tzinfo=ZoneInfo(zone)).timestamp()) * 1000


def slots(rule: RRule, after_ms: int, count: int) -> list[datetime]:
    found = []
    while len(found) < count and (next_ms := rule.next_after(after_ms)) is not None:
        assert next_ms > after_ms
        after_ms = next_ms
        found.append(datetime.fromtimestamp(after_ms / 1000, ZoneInfo(rule.zone)))
    return found


def texts(rule: str, count: int, *, start: tuple[int, ...] = (2026, 1, 1, 9), zone: str = "UTC") -> list[str]:
    start_ms = ms(*start, zone=zone)
    return [slot.strftime("%Y-%m-%d %H:%M") for slot in slots(RRule(rule, zone, start_ms), start_ms - 1, count)]


def test_the_start_gives_what_the_rule_leaves_open():
    assert texts("FREQ=DAILY", 2) == ["2026-01-01 09:00", "2026-01-02 09:00"]
    assert texts("FREQ=WEEKLY", 2) == ["2026-01-01 09:00", "2026-01-08 09:00"]
    assert texts("FREQ=MONTHLY", 3, start=(2026, 1, 31, 9, 30)) == ["2026-01-31 09:30", "2026-03-31 09:30", "2026-05-31 09:30"]
    assert texts("FREQ=YEARLY", 2, start=(2024, 2, 29)) == ["2024-02-29 00:00", "2028-02-29 00:00"]
    assert texts("FREQ=HOURLY;INTERVAL=5", 2, start=(2026, 1, 1, 9, 7)) == ["2026-01-01 09:07", "2026-01-01 14:07"]


def test_the_start_is_the_first_slot_only_when_it_matches():
    assert texts("FREQ=WEEKLY;BYDAY=MO;BYHOUR=8", 1) == ["2026-01-05 08:00"]


def test_nothing_fires_before_the_start():
    start_ms = ms(2026, 1, 1, 9)
    assert RRule("FREQ=DAILY", "UTC", start_ms).next_after(0) == start_ms
    assert RRule("FREQ=DAILY", "UTC", start_ms).next_after(start_ms) == start_ms + 86_400_000


def test_an_interval_counts_periods_from_that_of_the_start():
    assert texts("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,MO", 4, start=(2026, 1, 7)) == [
        "2026-01-11 00:00",
        "2026-01-19 00:00",
        "2026-01-25 00:00",
        "2026-02-02 00:00",
    ]
    assert texts("FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=SU,MO", 3, start=(2026, 1, 7)) == [
        "2026-01-18 00:00",
        "2026-01-19 00:00",
        "2026-02-01 00:00",
    ]


def test_the_last_working_day_of_a_month_is_a_position():
    rule = "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;BYHOUR=17"
    assert texts(rule, 3) == ["2026-01-30 17:00", "2026-02-27 17:00", "2026-03-31 17:00"]
    assert texts("FREQ=DAILY;BYHOUR=8,12,16;BYSETPOS=2,-1", 2) == ["2026-01-01 12:00", "2026-01-01 16:00"]


def test_until_is_inclusive():
    assert texts("FREQ=DAILY;UNTIL=20260103T090000Z", 9)[-1] == "2026-01-03 09:00"
    assert texts("FREQ=DAILY;UNTIL=20260103T085959Z", 9)[-1] == "2026-01-02 09:00"
    assert texts("FREQ=DAILY;UNTIL=20260103", 9)[-1] == "2026-01-03 09:00"
    assert texts("FREQ=DAILY;UNTIL=20260103T090000", 9, zone=NEW_YORK)[-1] == "2026-01-03 09:00"
    assert texts("FREQ=DAILY;UNTIL=20260103T130000Z", 9, zone=NEW_YORK)[-1] == "2026-01-02 09:00"


def test_count_includes_the_start_and_holds_from_any_moment():
    rule = RRule("FREQ=DAILY;COUNT=3", "UTC", ms(2026, 1, 1))
    assert len(slots(rule, 0, 9)) == 3
    assert slots(rule, ms(2026, 1, 2), 9) == [datetime(2026, 1, 3, tzinfo=UTC)]
    assert rule.next_after(ms(2026, 1, 3)) is None


def test_a_gap_gives_its_end_and_a_fold_its_first_pass():
    spring = slots(RRule("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", NEW_YORK, ms(2026, 1, 1)), ms(2026, 3, 8), 2)
    assert [slot.strftime("%d %H:%M %Z") for slot in spring] == ["08 03:00 EDT", "09 02:30 EDT"]
    autumn = slots(RRule("FREQ=DAILY;BYHOUR=1;BYMINUTE=30", NEW_YORK, ms(2026, 1, 1)), ms(2026, 11, 1), 2)
    assert [slot.strftime("%d %H:%M %Z") for slot in autumn] == ["01 01:30 EDT", "02 01:30 EST"]


def test_minutes_within_a_gap_meet_at_its_end():
    found = slots(RRule("FREQ=MINUTELY;INTERVAL=20", NEW_YORK, ms(2026, 1, 1)), ms(2026, 3, 8, 6, 39), 3)
    assert [slot.strftime("%H:%M %Z") for slot in found] == ["01:40 EST", "03:00 EDT", "03:20 EDT"]


def test_a_rule_begun_long_ago_is_not_walked_from_its_start():
    rule = RRule("FREQ=SECONDLY;INTERVAL=7", "UTC", ms(2, 1, 1))  # to walk these 64 billion seconds would outlast the test
    for day in range(1, 29):
        slot_ms = rule.next_after(ms(2026, 1, day))
        assert slot_ms is not None
        assert 0 < slot_ms - ms(2026, 1, day) <= 7000
        assert (slot_ms - ms(2, 1, 1)) % 7000 == 0


def test_plain_and_ordinal_weekdays_add_up():
    assert texts("FREQ=MONTHLY;BYDAY=1MO,-1FR,WE", 3, start=(2026, 1, 22)) == ["2026-01-28 00:00", "2026-01-30 00:00", "2026-02-02 00:00"]


def test_time_ends_with_the_year_9998():
    for rule in ("FREQ=DAILY", "FREQ=SECONDLY", "FREQ=YEARLY", "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=1", "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1"):
        assert RRule(rule, "Asia/Tokyo", 0).next_after(ms(9998, 12, 31, 23, 59, 59)) is None
        assert RRule(rule, "Asia/Tokyo", 0).next_after(10**18) is None


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("", "FREQ"),
        ("   ", "FREQ"),
        ("INTERVAL=2", "FREQ is missing"),
        ("FREQ=FORTNIGHTLY", "FREQ=FORTNIGHTLY"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL"),
        ("FREQ=DAILY;INTERVAL=-1", "INTERVAL"),
        ("FREQ=DAILY;INTERVAL=9999999", "INTERVAL"),
        ("FREQ=DAILY;COUNT=0", "COUNT"),
        ("FREQ=DAILY;COUNT=10001", "COUNT"),
        ("FREQ=YEARLY;COUNT=200", "reaches further"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20270101", "give one"),
        ("FREQ=DAILY;UNTIL=soon", "UNTIL"),
        ("FREQ=DAILY;UNTIL=20261331", "UNTIL=20261331"),
        ("FREQ=DAILY;UNTIL=20200101", "no slot"),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR"),
        ("FREQ=DAILY;BYMINUTE=60", "BYMINUTE"),
        ("FREQ=DAILY;BYMONTH=0", "BYMONTH"),
        ("FREQ=DAILY;BYMONTHDAY=0", "BYMONTHDAY"),
        ("FREQ=DAILY;BYHOUR=1,,2", "BYHOUR"),
        ("FREQ=DAILY;BYHOUR=", "NAME=VALUE"),
        ("FREQ=DAILY;BYHOUR=٣", "BYHOUR"),
        ("FREQ=DAILY;BYDAY=XX", "BYDAY"),
        ("FREQ=WEEKLY;BYDAY=2MO", "ordinal"),
        ("FREQ=MONTHLY;BYWEEKNO=3", "BYWEEKNO"),
        ("FREQ=HOURLY;BYSETPOS=1", "BYSETPOS"),
        ("FREQ=WEEKLY;WKST=XX", "WKST"),
        ("FREQ=DAILY;FREQ=WEEKLY", "twice"),
        ("FREQ=DAILY;BYEASTER=1", "BYEASTER"),
        ("FREQ=DAILY;;BYHOUR=1", "not a part"),
        ("DTSTART:20260101T000000\nRRULE:FREQ=DAILY", "start as an argument"),
        ("FREQ=DAILY\nEXRULE:FREQ=WEEKLY", "FREQ=DAILY"),
        ("EXDATE:20260101T000000", "one rule an entry"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "no slot"),
        ("FREQ=YEARLY;BYYEARDAY=366;BYSETPOS=2", "no slot"),
        ("FREQ=HOURLY;INTERVAL=2;BYHOUR=1", "no slot"),
        ("FREQ=DAILY;BYYEARDAY=" + ",".join(str(n) for n in range(1, 67)), "BYYEARDAY"),
        ("FREQ=DAILY;" * 200, "characters"),
        (None, "string"),
        (7, "string"),
    ],
)
def test_what_is_no_rule_is_refused_by_its_part(rule: object, says: str):
    with pytest.raises(InvalidSchedule, match=says):
        RRule(rule, "UTC", ms(2026, 1, 1))


@pytest.mark.parametrize("start_ms", [None, "0", 1.5, True, 10**18, -(10**18)])
def test_a_start_that_is_no_moment_is_refused(start_ms: object):
    with pytest.raises(InvalidSchedule, match="start"):
        RRule("FREQ=DAILY", "UTC", start_ms)


@pytest.mark.parametrize("zone", [None, 3, ["UTC"]])
def test_what_is_no_zone_is_refused(zone: object):
    with pytest.raises(InvalidSchedule, match="time zone"):
        RRule("FREQ=DAILY", zone, 0)


def test_an_unknown_zone_is_refused():
    with pytest.raises(InvalidSchedule, match="Europe/Berlin"):
        RRule("FREQ=DAILY", "Europe/Berln", 0)


def test_a_rule_is_a_plain_value():
    rule = RRule("rrule:freq=daily;byhour=9;", NEW_YORK, 0)
    assert rule == RRule("rrule:freq=daily;byhour=9;", NEW_YORK, 0)
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert "_timetable" not in repr(rule)


def some_rule(dice: random.Random) -> str:
    frequency = dice.choice(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"])
    parts = [f"FREQ={frequency}", f"INTERVAL={dice.choice([1, 1, 2, 3, 5])}", f"WKST={dice.choice(['MO', 'SU', 'TH'])}"]
    offered = {
        "BYMONTH": lambda: dice.sample(range(1, 13), 4),
        "BYMONTHDAY": lambda: dice.sample([*range(1, 32), *range(-31, 0)], 12),
        "BYDAY": lambda: dice.sample(["MO", "TU", "WE", "TH", "FR", "SA", "SU"], 3),
        "BYHOUR": lambda: dice.sample(range(24), 3),
        "BYMINUTE": lambda: dice.sample(range(60), 2),
        "BYSECOND": lambda: dice.sample(range(60), 2),
    }
    if frequency == "YEARLY":
        offered["BYWEEKNO"] = lambda: dice.sample([*range(1, 54), *range(-53, 0)], 15)
        offered["BYYEARDAY"] = lambda: dice.sample([*range(1, 367), *range(-366, 0)], 60)
    if frequency in ("YEARLY", "MONTHLY"):
        offered["BYDAY"] = lambda: dice.sample(
            ["1MO", "-1FR", "2TU", "5WE", "-2SA", "4SU", "3TH"], 3
        )  # dateutil lets plain and ordinal ones exclude each other
    chosen = dice.sample(sorted(offered), dice.randint(0, 3))
    if "BYWEEKNO" in chosen and "BYDAY" in chosen:
        chosen.remove("BYDAY")
    parts += [f"{name}={','.join(map(str, offered[name]()))}" for name in chosen]
    if frequency in ("YEARLY", "MONTHLY", "DAILY") and "BYWEEKNO" not in chosen and dice.random() < 0.3:
        parts.append(f"BYSETPOS={dice.choice(['1', '-1', '1,2', '-2,3'])}")
    return ";".join(parts)


HAVE_NO_SLOT = (99, 164)
"""Seeds whose rules want the third slot of a period of one; dateutil looks for it for seconds."""


def has_no_slot(text: str, start: datetime) -> bool:
    """Return whether dateutil finds none until the year 9999, or refuses the rule too."""
    try:
        return next(iter(rrulestr(text, dtstart=start)), None) is None
    except ValueError:
        return True


@pytest.mark.parametrize("seed", range(200))
def test_slots_are_those_of_dateutil(seed: int):
    dice = random.Random(seed)
    start = datetime(2026, dice.randint(1, 12), dice.randint(1, 28), dice.randint(0, 23), dice.randint(0, 59), dice.randint(0, 59))  # noqa: DTZ001
    text = some_rule(dice)
    try:
        rule = RRule(text, "UTC", int(start.replace(tzinfo=UTC).timestamp()) * 1000)
    except InvalidSchedule as refused:
        assert "no slot" in str(refused)  # noqa: PT017
        assert seed in HAVE_NO_SLOT or has_no_slot(text, start), text
        return
    expected = [slot.replace(tzinfo=UTC) for slot in islice(rrulestr(text, dtstart=start), 12)]
    assert slots(rule, 0, len(expected)) == expected, text
    middle = expected[len(expected) // 2]
    after_ms = int((middle - timedelta(seconds=1)).timestamp()) * 1000
    assert slots(rule, after_ms, 1) == [middle], text


def test_days_and_weeks_of_a_year_are_counted_from_both_ends():
    assert texts("FREQ=YEARLY;BYYEARDAY=1,60,-1", 5) == [
        "2026-01-01 09:00",
        "2026-03-01 09:00",
        "2026-12-31 09:00",
        "2027-01-01 09:00",
        "2027-03-01 09:00",
    ]
    assert texts("FREQ=YEARLY;BYYEARDAY=60,-366", 3, start=(2028, 1, 1, 9)) == ["2028-01-01 09:00", "2028-02-29 09:00", "2029-03-01 09:00"]
    assert texts("FREQ=YEARLY;BYWEEKNO=1,-1;BYDAY=MO", 3) == ["2026-12-28 09:00", "2027-01-04 09:00", "2027-12-27 09:00"]
    assert texts("FREQ=YEARLY;BYDAY=1MO,-1FR", 4) == ["2026-01-05 09:00", "2026-12-25 09:00", "2027-01-04 09:00", "2027-12-31 09:00"]


def test_count_may_reach_a_hundred_years_and_no_further():
    start_ms = ms(2000, 2, 29)
    assert RRule("FREQ=YEARLY;INTERVAL=4;BYMONTH=1;BYMONTHDAY=1;COUNT=25", "UTC", start_ms)
    with pytest.raises(InvalidSchedule, match="COUNT"):
        RRule("FREQ=YEARLY;INTERVAL=10;COUNT=12", "UTC", ms(2000, 1, 1))
    assert RRule("FREQ=YEARLY;COUNT=101", "UTC", ms(2000, 1, 1))
    with pytest.raises(InvalidSchedule, match="COUNT"):
        RRule("FREQ=YEARLY;COUNT=102", "UTC", ms(2000, 1, 1))


def test_a_position_counted_from_either_end_names_the_first_and_the_last():
    assert texts("FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=1,-1", 4) == [
        "2026-01-05 09:00",
        "2026-01-27 09:00",
        "2026-02-02 09:00",
        "2026-02-24 09:00",
    ]
    assert texts("FREQ=MONTHLY;INTERVAL=5;BYDAY=MO;BYSETPOS=2", 3) == ["2026-01-12 09:00", "2026-06-08 09:00", "2026-11-09 09:00"]
    assert texts("FREQ=WEEKLY;INTERVAL=3;BYDAY=MO,FR;BYSETPOS=-1", 3) == ["2026-01-02 09:00", "2026-01-23 09:00", "2026-02-13 09:00"]


def test_a_period_that_is_passed_over_is_asked_for_the_next_one():
    rule = RRule("FREQ=MONTHLY;INTERVAL=5;BYDAY=MO;BYSETPOS=2", "UTC", ms(2026, 1, 1, 9))

    for month in (2, 3, 4, 5):
        assert rule.next_after(ms(2026, month, 1)) == ms(2026, 6, 8, 9)


def test_a_rule_of_long_periods_ends_with_the_year_9998():
    rule = RRule("FREQ=WEEKLY;INTERVAL=150;BYDAY=MO;BYSETPOS=1", "UTC", ms(9997, 6, 2))

    assert len(slots(rule, ms(9997, 1, 1), 9)) == 1
    assert len(slots(RRule("FREQ=YEARLY;COUNT=20", "UTC", ms(9990, 1, 1)), 0, 99)) == 9


def test_the_last_second_of_the_year_9998_may_be_a_slot():
    rule = RRule("FREQ=DAILY;BYHOUR=23;BYMINUTE=59;BYSECOND=59", "UTC", ms(9998, 1, 1))

    assert rule.next_after(ms(9998, 12, 31)) == END_S * 1000 - 1000
    assert rule.next_after(END_S * 1000 - 1000) is None
    bounded = RRule(rule.rule + ";UNTIL=99991231T000000Z", "UTC", rule.start_ms)
    assert bounded.next_after(ms(9998, 12, 31)) == END_S * 1000 - 1000


def test_a_rule_ends_with_the_year_9998_of_utc_and_of_its_own_clock():
    assert RRule("FREQ=DAILY;BYHOUR=19", NEW_YORK, ms(9998, 1, 1, 19)).next_after(ms(9998, 12, 31, 1)) is None
    assert RRule("FREQ=DAILY;BYHOUR=0", "Asia/Tokyo", ms(9998, 1, 1, 15)).next_after(ms(9998, 12, 30, 15)) is None


@pytest.mark.parametrize(
    ("rule", "last"),
    [
        ("FREQ=YEARLY;BYDAY=MO,TU,WE;BYSETPOS=-1", (9998, 12, 30)),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE;BYSETPOS=-1", (9998, 12, 30)),
        ("FREQ=YEARLY;INTERVAL=2;BYDAY=WE;BYSETPOS=1", (9998, 1, 7)),
    ],
)
def test_the_last_period_ends_with_the_year_9998(rule: str, last: tuple[int, ...]):
    assert slots(RRule(rule, "UTC", ms(9998, 1, 1)), 0, 99)[-1] == datetime(*last, tzinfo=UTC)


def test_after_the_last_hour_or_minute_there_is_no_other():
    hourly = RRule("FREQ=HOURLY;BYMONTHDAY=1", "UTC", ms(2026, 1, 1))
    assert hourly.next_after(ms(2026, 1, 1, 23)) == ms(2026, 2, 1)
    minutely = RRule("FREQ=MINUTELY;BYHOUR=5", "UTC", ms(2026, 1, 1))
    assert minutely.next_after(ms(2026, 1, 1, 5, 59)) == ms(2026, 1, 2, 5)


def test_a_start_lies_a_day_within_the_years_1_to_9998():
    for start_s in (FIRST_S + DAY_S, END_S - DAY_S - 1):
        assert RRule("FREQ=HOURLY", "UTC", start_s * 1000).next_after(start_s * 1000 - 1) == start_s * 1000
    for start_s in (FIRST_S + DAY_S - 1, END_S - DAY_S):
        with pytest.raises(InvalidSchedule, match="outside the years 1 to 9998"):
            RRule("FREQ=HOURLY", "UTC", start_s * 1000)


def test_the_slot_of_the_start_itself_counts_and_the_last_of_count_is_the_last():
    rule = RRule("FREQ=DAILY;COUNT=3", "UTC", ms(2026, 1, 1, 9))
    assert [slot.day for slot in slots(rule, 0, 9)] == [1, 2, 3]
    assert rule.next_after(ms(2026, 1, 1, 9)) == ms(2026, 1, 2, 9)
    assert len(slots(RRule("FREQ=DAILY;COUNT=1", "UTC", ms(2026, 1, 1, 9)), 0, 9)) == 1


def test_a_rule_that_has_fewer_slots_than_its_count_ends_with_them():
    assert len(slots(RRule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;COUNT=3", "UTC", ms(2026, 1, 1)), 0, 9)) == 3
