"""What becomes of missed slots: each rule by example, then all of them against a model that walks every slot."""

from dataclasses import dataclass
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tw.core.interval import Interval
from celery_tw.core.misfire import COUNT_LIMIT, Misfire, MissedRange, Plan, SkippedRange, plan
from celery_tw.core.once import Once
from celery_tw.errors import InvalidEntry

HOUR_MS = 3_600_000
HOURLY = Interval(HOUR_MS)
TOLERANCE_MS = 5000


@dataclass(frozen=True)
class Listed:
    """A recurrence that is a list of slots, and cannot calculate."""

    slots: tuple[int, ...]

    def next_after(self, after_ms):
        return next((slot for slot in self.slots if slot > after_ms), None)


def plan_hourly(mark_hour, now_ms, misfire):
    return plan(HOURLY, mark_ms=mark_hour * HOUR_MS, now_ms=now_ms, tolerance_ms=TOLERANCE_MS, misfire=misfire)


@pytest.mark.parametrize("misfire", [Misfire.latest(), Misfire.skip(), Misfire.catch_up()])
def test_a_slot_to_come_is_planned_for_its_time(misfire):
    now_ms = 2 * HOUR_MS + 60_000

    assert plan_hourly(2, now_ms, misfire) == Plan(fire_ms=3 * HOUR_MS, mark_ms=3 * HOUR_MS, next_ms=4 * HOUR_MS)


@pytest.mark.parametrize("late_ms", [0, 1, TOLERANCE_MS])
@pytest.mark.parametrize("misfire", [Misfire.latest(), Misfire.skip(), Misfire.catch_up()])
def test_a_slot_within_the_tolerance_is_simply_fired(misfire, late_ms):
    now_ms = 3 * HOUR_MS + late_ms

    assert plan_hourly(2, now_ms, misfire) == Plan(fire_ms=3 * HOUR_MS, mark_ms=3 * HOUR_MS, next_ms=4 * HOUR_MS)


def test_latest_fires_the_last_missed_slot_and_records_the_others():
    assert plan_hourly(2, 5 * HOUR_MS + 30 * 60_000, Misfire.latest()) == Plan(
        fire_ms=5 * HOUR_MS,
        skipped=SkippedRange(from_ms=3 * HOUR_MS, to_ms=4 * HOUR_MS, count=2, reason="misfire:latest"),
        mark_ms=5 * HOUR_MS,
        next_ms=6 * HOUR_MS,
    )


def test_latest_fires_a_live_slot_in_place_of_all_missed_ones():
    assert plan_hourly(2, 5 * HOUR_MS + 1, Misfire.latest()) == Plan(
        fire_ms=5 * HOUR_MS,
        skipped=SkippedRange(from_ms=3 * HOUR_MS, to_ms=4 * HOUR_MS, count=2, reason="misfire:latest"),
        mark_ms=5 * HOUR_MS,
        next_ms=6 * HOUR_MS,
    )


def test_latest_fires_a_single_missed_slot_and_records_nothing():
    planned = plan_hourly(2, 3 * HOUR_MS + TOLERANCE_MS + 1, Misfire.latest())

    assert planned == Plan(fire_ms=3 * HOUR_MS, mark_ms=3 * HOUR_MS, next_ms=4 * HOUR_MS)


def test_skip_records_all_missed_slots_and_leaves_the_live_one_for_the_next_plan():
    now_ms = 5 * HOUR_MS + 1

    first = plan_hourly(2, now_ms, Misfire.skip())
    second = plan(HOURLY, mark_ms=first.mark_ms, now_ms=now_ms, tolerance_ms=TOLERANCE_MS, misfire=Misfire.skip())

    assert first == Plan(
        skipped=SkippedRange(from_ms=3 * HOUR_MS, to_ms=4 * HOUR_MS, count=2, reason="misfire:skip"),
        mark_ms=4 * HOUR_MS,
        next_ms=5 * HOUR_MS,
    )
    assert second.fire_ms == 5 * HOUR_MS


def test_catch_up_keeps_the_newest_slots_and_records_what_is_beyond_its_limit():
    assert plan_hourly(2, 7 * HOUR_MS + 60_000, Misfire.catch_up(rate=2, limit=3)) == Plan(
        skipped=SkippedRange(from_ms=3 * HOUR_MS, to_ms=4 * HOUR_MS, count=2, reason="misfire:limit"),
        backlog=MissedRange(from_ms=5 * HOUR_MS, to_ms=7 * HOUR_MS, next_ms=5 * HOUR_MS, left=3, rate=2),
        mark_ms=7 * HOUR_MS,
        next_ms=8 * HOUR_MS,
    )


@pytest.mark.parametrize("misfire", [Misfire.latest(), Misfire.skip(), Misfire.catch_up()])
def test_an_entry_without_a_further_slot_is_left_alone(misfire):
    planned = plan(Once(1000), mark_ms=1000, now_ms=9000, tolerance_ms=0, misfire=misfire)

    assert planned == Plan(mark_ms=1000, next_ms=None)


def test_a_one_time_slot_is_fired_however_late():
    planned = plan(Once(0), mark_ms=-1, now_ms=10**12, tolerance_ms=0, misfire=Misfire.latest())

    assert planned == Plan(fire_ms=0, mark_ms=0, next_ms=None)


def test_a_mark_in_the_future_fires_nothing_again():
    planned = plan_hourly(9, 3 * HOUR_MS, Misfire.latest())

    assert planned.fire_ms == 10 * HOUR_MS
    assert planned.skipped is None


def test_a_count_stops_at_its_limit_and_says_so():
    planned = plan(Interval(10), mark_ms=0, now_ms=10**9, tolerance_ms=0, misfire=Misfire.skip())

    assert planned.skipped is not None
    assert (planned.skipped.count, planned.skipped.at_least) == (COUNT_LIMIT, True)
    assert planned.skipped.to_ms == 10**9 - 10


def test_a_year_of_missed_seconds_is_planned_in_a_bounded_number_of_questions():
    asked = 0

    class EachSecond:
        def next_after(self, after_ms):
            nonlocal asked
            asked += 1
            return after_ms // 1000 * 1000 + 1000

    plan(EachSecond(), mark_ms=0, now_ms=365 * 86_400_000, tolerance_ms=0, misfire=Misfire.catch_up(limit=1000))

    assert asked < 2 * COUNT_LIMIT


# The model: walk every slot, sort it into missed, live and to come, and say what the rules say.


def model(slots, *, mark_ms, now_ms, tolerance_ms, misfire):
    undecided = [slot for slot in slots if slot > mark_ms]
    missed = [slot for slot in undecided if slot < now_ms - tolerance_ms]
    live = [slot for slot in undecided if now_ms - tolerance_ms <= slot <= now_ms]
    if not missed:
        fire, skipped, kept = (undecided or [None])[0], [], []
    elif misfire.policy == "latest":
        fire = live[0] if live else missed[-1]
        skipped, kept = [slot for slot in missed if slot != fire], []
    elif misfire.policy == "skip":
        fire, skipped, kept = None, missed, []
    else:
        fire, skipped, kept = None, missed[: -misfire.limit], missed[-misfire.limit :]
    decided = [slot for slot in (fire, *skipped, *kept) if slot is not None]
    mark = max(decided, default=mark_ms)
    following = next((slot for slot in slots if slot > mark), None)
    return fire, skipped, kept, mark, following


POLICIES = st.one_of(
    st.just(Misfire.latest()),
    st.just(Misfire.skip()),
    st.builds(Misfire.catch_up, rate=st.just(3), limit=st.integers(1, 8)),
)


def assert_planned_as_modelled(recurrence, slots, **moment):
    planned = plan(recurrence, **moment)
    fire, skipped, kept, mark, following = model(slots, **moment)

    assert (planned.fire_ms, planned.mark_ms, planned.next_ms) == (fire, mark, following)
    if skipped:
        assert planned.skipped is not None
        found = (planned.skipped.from_ms, planned.skipped.to_ms, planned.skipped.count, planned.skipped.at_least)
        assert found == (skipped[0], skipped[-1], len(skipped), False)
    else:
        assert planned.skipped is None
    if kept:
        assert planned.backlog == MissedRange(from_ms=kept[0], to_ms=kept[-1], next_ms=kept[0], left=len(kept), rate=moment["misfire"].rate)
    else:
        assert planned.backlog is None


@given(
    slots=st.sets(st.integers(0, 60)),
    mark_ms=st.integers(-2, 60),
    now_ms=st.integers(-2, 62),
    tolerance_ms=st.integers(0, 20),
    misfire=POLICIES,
)
def test_any_list_of_slots_is_planned_as_the_model_says(slots, **moment):
    ordered = sorted(slots)

    assert_planned_as_modelled(Listed(tuple(ordered)), ordered, **moment)


@given(
    period_ms=st.integers(10, 40),
    anchor_ms=st.integers(-50, 50),
    mark_ms=st.integers(-100, 300),
    now_ms=st.integers(-100, 300),
    tolerance_ms=st.integers(0, 100),
    misfire=POLICIES,
)
def test_any_interval_is_planned_as_the_model_says(period_ms, anchor_ms, **moment):
    slots = [anchor_ms + step * period_ms for step in range(-20, 60)]

    assert_planned_as_modelled(Interval(period_ms, anchor_ms), slots, **moment)


@pytest.mark.parametrize("misfire", [Misfire.latest(), Misfire.skip(), Misfire.catch_up(limit=1), Misfire.catch_up(limit=3)])
def test_every_small_interval_is_planned_as_the_model_says(misfire):
    slots = [10 * step for step in range(-2, 12)]
    for mark_ms in range(-5, 45, 5):
        for now_ms in range(-5, 75, 5):
            for tolerance_ms in (0, 4, 5, 10, 25):
                moment = {"mark_ms": mark_ms, "now_ms": now_ms, "tolerance_ms": tolerance_ms, "misfire": misfire}
                assert_planned_as_modelled(Interval(10), slots, **moment)


@pytest.mark.parametrize("misfire", [Misfire.latest(), Misfire.skip(), Misfire.catch_up(limit=1), Misfire.catch_up(limit=2)])
def test_slots_of_neighbouring_milliseconds_are_all_planned_as_the_model_says(misfire):
    for count in range(5):
        for slots in combinations(range(4), count):
            for mark_ms, now_ms, tolerance_ms in product(range(-1, 4), range(-1, 6), range(3)):
                moment = {"mark_ms": mark_ms, "now_ms": now_ms, "tolerance_ms": tolerance_ms, "misfire": misfire}
                assert_planned_as_modelled(Listed(slots), list(slots), **moment)


@given(
    slots=st.sets(st.integers(0, 200)),
    mark_ms=st.integers(-1, 200),
    gaps_ms=st.lists(st.integers(0, 80), max_size=12),
    tolerance_ms=st.integers(0, 20),
    misfire=POLICIES,
)
def test_no_slot_is_lost_or_decided_twice_from_plan_to_plan(slots, mark_ms, gaps_ms, tolerance_ms, misfire):
    recurrence = Listed(tuple(sorted(slots)))
    start_ms, now_ms, decided = mark_ms, mark_ms, []

    for gap_ms in gaps_ms:
        now_ms += gap_ms
        while (
            planned := plan(recurrence, mark_ms=mark_ms, now_ms=now_ms, tolerance_ms=tolerance_ms, misfire=misfire)
        ).mark_ms <= now_ms and planned.mark_ms != mark_ms:
            decided += [slot for slot in sorted(slots) if mark_ms < slot <= planned.mark_ms]
            mark_ms = planned.mark_ms

    assert decided == [slot for slot in sorted(slots) if start_ms < slot <= now_ms]


@pytest.mark.parametrize("name", ["latest", "skip", "catch_up"])
def test_a_policy_survives_the_way_through_json(name):
    misfire = Misfire.parse(name)

    assert Misfire.from_spec(misfire.to_spec()) == misfire
    assert Misfire.parse(misfire) is misfire


def test_an_unknown_policy_is_refused_by_name():
    with pytest.raises(InvalidEntry, match="latest, skip, catch_up, not 'newest'"):
        Misfire.parse("newest")


@pytest.mark.parametrize("numbers", [{"rate": 0}, {"rate": True}, {"rate": float("inf")}, {"limit": 0}, {"limit": 1.5}])
def test_catch_up_refuses_a_rate_or_limit_that_catches_nothing_up(numbers):
    with pytest.raises(InvalidEntry):
        Misfire.catch_up(**numbers)


def test_only_catch_up_takes_numbers():
    with pytest.raises(InvalidEntry, match="only misfire catch_up"):
        Misfire("latest", rate=5)
