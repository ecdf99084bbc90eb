"""The checker itself: each kind of fault, planted in a history without one, is named with its slot, and nothing else is."""

from dataclasses import replace

import pytest

from celery_tw.testing.checker import Findings, check
from celery_tw.testing.ledger import Line, What
from celery_tw.testing.oracles import Account, Budget, Rest, Window
from celery_tw.testing.slots import Grid, Listed, Slots

SLOTS = (Grid("tick", 1000, 250), Grid("tock", 500))
WINDOW = Window(10_000, 15_000)
EXPECTED = 5 + 10
KINDS = (What.CLAIMED, What.PUBLISHED, What.RECEIVED, What.STARTED, What.ENDED)


def lines_of(entry: str, slot_ms: int, *, at_ms: int | None = None, epoch: int = 7, mid: str = "") -> list[Line]:
    """Return what a fire leaves in a ledger."""
    send = mid or f"{entry}-{slot_ms}"
    first_ms = slot_ms + 5 if at_ms is None else at_ms
    return [
        Line(what=what, at_ms=first_ms + step, entry=entry, slot_ms=slot_ms, mid=send, epoch=epoch if what is What.CLAIMED else None)
        for step, what in enumerate(KINDS)
    ]


def history() -> list[Line]:
    """Return a history without a fault, which reaches beyond the window on both sides."""
    fires = [lines_of(grid.entry, slot_ms) for grid in SLOTS for slot_ms in grid.between(WINDOW.from_ms - 2000, WINDOW.until_ms + 2000)]
    return sorted((line for fire in fires for line in fire), key=lambda line: line.at_ms)


def without(entry: str, *slots_ms: int) -> list[Line]:
    return [line for line in history() if line.entry != entry or line.slot_ms not in slots_ms]


def skip(entry: str, from_ms: int, to_ms: int | None = None) -> Line:
    return Line(what=What.SKIPPED, at_ms=20_000, entry=entry, slot_ms=from_ms, until_ms=to_ms, reason="misfire:latest")


def named(found: Findings) -> list[tuple[str, str | None, int | None]]:
    """Return what was found, without the words and, for a slot with several lines, once."""
    return list(dict.fromkeys((violation.rule, violation.entry, violation.slot_ms) for violation in found.violations))


def test_a_history_without_a_fault_is_right() -> None:
    found = check(history(), SLOTS, WINDOW, budget=Budget(10), rest=Rest(), account=Account(added=()))

    assert found.violations == ()
    assert (found.expected, found.copies) == (EXPECTED, 0)
    assert found.late_ms == (6,) * EXPECTED, "published is the first line after the claim"


# O1


def test_a_slot_that_nobody_fired_is_missed() -> None:
    assert named(check(without("tick", 12_250), SLOTS, WINDOW)) == [("missed", "tick", 12_250)]


def test_a_slot_that_was_claimed_and_went_no_further_is_missed() -> None:
    lines = [line for line in history() if line.slot_ms != 12_250 or line.what is What.CLAIMED]

    assert named(check(lines, SLOTS, WINDOW)) == [("missed", "tick", 12_250)]


def test_an_entry_that_never_ran_is_missed_whole() -> None:
    found = check([line for line in history() if line.entry == "tick"], SLOTS, WINDOW)

    assert len(found.of("missed")) == len(found.violations) == 10


def test_a_slot_outside_the_window_may_be_missing() -> None:
    assert check(without("tick", 9_250, 15_250), SLOTS, WINDOW).violations == ()


def test_a_recorded_skip_stands_for_its_slots_and_for_no_others() -> None:
    lines = without("tick", 11_250, 12_250)

    assert check([*lines, skip("tick", 11_250, 12_250)], SLOTS, WINDOW).violations == ()
    assert named(check([*lines, skip("tick", 11_250)], SLOTS, WINDOW)) == [("missed", "tick", 12_250)]
    assert named(check([*lines, skip("tock", 9_700, 9_800)], SLOTS, WINDOW)) == [("missed", "tick", 11_250), ("missed", "tick", 12_250)]


def test_a_slot_that_is_recorded_as_skipped_and_was_fired_is_named() -> None:
    assert named(check([*history(), skip("tick", 11_250)], SLOTS, WINDOW)) == [("contradicted", "tick", 11_250)]


# O2 and O7


def test_a_slot_claimed_by_two_leaders_is_named() -> None:
    (claim, *_) = lines_of("tick", 12_250, epoch=8)

    assert named(check([*history(), claim], SLOTS, WINDOW)) == [("claimed twice", "tick", 12_250)]


def test_a_claim_by_a_leader_that_was_replaced_is_named() -> None:
    """A zombie: its epoch is older than one that has claimed before it, and the slot is nobody else's."""
    before, after = [line for line in without("tick", 12_250) if line.at_ms < 12_000], history()
    newer = [replace(line, epoch=8) if line.what is What.CLAIMED else line for line in after if line.at_ms >= 12_000]
    zombie = next(line for line in newer if line.slot_ms == 12_250)
    lines = [replace(line, epoch=7) if line is zombie else line for line in newer]

    assert named(check([*before, *lines], SLOTS, WINDOW)) == [("epoch", "tick", 12_250)]


# O3


@pytest.mark.parametrize("slot_ms", [12_250, 9_250])
def test_a_slot_that_ran_twice_is_doubled_inside_and_outside_the_window(slot_ms: int) -> None:
    again = [line for line in lines_of("tick", slot_ms, at_ms=slot_ms + 4000) if line.what is not What.CLAIMED]
    found = check([*history(), *again], SLOTS, WINDOW)

    assert named(found) == [("doubled", "tick", slot_ms)]
    assert found.violations[0].mid == f"tick-{slot_ms}"


def test_a_copy_of_the_same_send_passes_where_it_is_allowed_and_is_counted() -> None:
    again = [line for line in lines_of("tick", 12_250, at_ms=13_000) if line.what is not What.CLAIMED]
    found = check([*history(), *again], SLOTS, WINDOW, copies_run=True)

    assert (found.violations, found.copies) == ((), 1)


def test_another_send_for_the_same_slot_never_passes() -> None:
    again = [line for line in lines_of("tick", 12_250, at_ms=13_000, mid="other") if line.what is not What.CLAIMED]
    (violation,) = check([*history(), *again], SLOTS, WINDOW, copies_run=True).violations

    assert (violation.rule, violation.slot_ms, violation.mid) == ("doubled", 12_250, "other")


def test_a_guarded_run_may_begin_again_and_may_not_end_again() -> None:
    (started,) = (line for line in lines_of("tick", 12_250, at_ms=13_000) if line.what is What.STARTED)
    (ended,) = (line for line in lines_of("tick", 12_250, at_ms=13_000) if line.what is What.ENDED)

    assert check([*history(), started], SLOTS, WINDOW, effect=What.ENDED).violations == ()
    assert named(check([*history(), started, ended], SLOTS, WINDOW, effect=What.ENDED)) == [("doubled", "tick", 12_250)]


# O4 and O5


def late_by(ms: int) -> list[Line]:
    return [replace(line, at_ms=line.at_ms + ms) if line.slot_ms == 12_250 else line for line in history()]


def test_a_slot_beyond_its_budget_is_late() -> None:
    assert named(check(late_by(500), SLOTS, WINDOW, budget=Budget(400))) == [("late", "tick", 12_250)]
    assert check(late_by(500), SLOTS, WINDOW, budget=Budget(600)).violations == ()


def test_a_slot_of_a_fault_has_until_the_fault_is_over() -> None:
    fault = Window(12_000, 13_000)

    assert check(late_by(1000), SLOTS, WINDOW, budget=Budget(400, (fault,))).violations == ()
    assert named(check(late_by(1500), SLOTS, WINDOW, budget=Budget(400, (fault,)))) == [("late", "tick", 12_250)]


def test_what_happens_before_a_slots_time_is_early_beyond_the_guard() -> None:
    lines = late_by(-20)

    assert named(check(lines, SLOTS, WINDOW)) == [("early", "tick", 12_250)]
    assert check(lines, SLOTS, WINDOW, guard_ms=20).violations == ()


# O6


@pytest.mark.parametrize(("entry", "slot_ms"), [("tick", 12_251), ("gone", 12_250)])
def test_a_fire_for_no_slot_that_there_is_is_a_phantom(entry: str, slot_ms: int) -> None:
    assert named(check([*history(), *lines_of(entry, slot_ms)], SLOTS, WINDOW)) == [("phantom", entry, slot_ms)]


def test_a_run_for_no_slot_at_all_is_a_phantom() -> None:
    line = Line(what=What.STARTED, at_ms=12_000, entry="tick")

    assert named(check([*history(), line], SLOTS, WINDOW)) == [("phantom", "tick", None)]


def test_a_fire_after_the_entry_was_removed_is_a_phantom() -> None:
    removed: tuple[Slots, ...] = (Grid("tick", 1000, 250, until_ms=12_000, edge_ms=300), SLOTS[1])
    found = check(without("tick", 13_250, 15_250, 16_250), removed, WINDOW)

    assert named(found) == [("phantom", "tick", 14_250)], "12,250 lies on the edge and may be either way"


def test_a_slot_before_the_entry_was_added_is_not_missed() -> None:
    added: tuple[Slots, ...] = (Grid("tick", 1000, 250, since_ms=12_100, edge_ms=200), SLOTS[1])

    assert check(without("tick", 8_250, 9_250, 10_250, 11_250, 12_250), added, WINDOW).violations == ()


def test_listed_slots_must_be_fired_and_others_of_the_list_may_be() -> None:
    listed = (Listed("tick", {10_250, 11_250, 13_250, 14_250}, {8_250, 9_250, 12_250, 15_250}), SLOTS[1])

    assert named(check(without("tick", 11_250, 12_250), listed, WINDOW)) == [("missed", "tick", 11_250), ("phantom", "tick", 16_250)]


# O8 and O9


@pytest.mark.parametrize(
    ("rest", "what"),
    [
        (Rest(leaders=0), "0 lead"),
        (Rest(leaders=2), "2 lead"),
        (Rest(backlogs=3), "3 slots wait in backlogs"),
        (Rest(late=1), "1 entries are late"),
        (Rest(outbox=9), "9 messages wait in the outbox"),
        (Rest(set_aside=1), "1 are set aside"),
    ],
)
def test_what_is_left_when_all_is_healed_is_named(rest: Rest, what: str) -> None:
    (violation,) = check(history(), SLOTS, WINDOW, rest=rest).violations

    assert (violation.rule, violation.what) == ("stuck", what)


def test_a_task_that_is_nowhere_or_in_two_places_is_named() -> None:
    fired = lines_of("fired", 12_000) + lines_of("both", 12_000)
    tasks = tuple(Listed(name, {12_000}) for name in ("fired", "both"))
    account = Account(added=("fired", "both", "lost", "waits"), waiting={"waits", "both"}, cancelled={"gone"})
    found = check(fired, tasks, WINDOW, account=account)

    assert [(violation.entry, violation.what.split(" is ")[1]) for violation in found.of("unaccounted")] == [
        ("both", "fired and waiting"),
        ("lost", "nowhere"),
    ]
    assert len(found.violations) == 2


# Slots


def test_a_slot_is_between_when_it_is_after_the_first_and_not_after_the_second_moment() -> None:
    assert list(Grid("tick", 1000, 250).between(1250, 3250)) == [2250, 3250]
    assert list(Grid("tick", 1000, 5250).between(1249, 1251)) == [1250]


def test_the_lateness_of_a_share_is_that_of_the_slot_at_its_end() -> None:
    found = Findings(expected=4, late_ms=(1, 2, 3, 40))

    assert (found.lateness_ms(0.5), found.lateness_ms(0.99), Findings(expected=0).lateness_ms(0.5)) == (3, 40, 0)
