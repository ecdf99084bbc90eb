"""What the occurrences of one error have in common is found in their tracebacks, or in their texts."""

import sys

import billiard.exceptions
import pytest
from billiard.einfo import ExceptionInfo
from celery.exceptions import NotRegistered, Reject, SoftTimeLimitExceeded

from celery_tw.core.death import LONGEST_TRACEBACK, Death, error_fingerprint, read_death, shortened
from celery_tw.errors import MalformedRecord
from celery_tw.integration.dlq.deaths import death_of, frames_in, name_of, reason_of

HEADERS = {"id": "t1", "task": "shop.pay", "tw_mid": "m1", "retries": 2, "group": "g1", "root_id": "r1", "parent_id": "p1"}


def charge(amount: int) -> None:
    raise ValueError(f"cannot charge {amount}")


def refund(amount: int) -> None:
    raise ValueError(f"cannot charge {amount}")


def traceback_of(body, amount: int) -> str:
    try:
        body(amount)
    except ValueError:
        return ExceptionInfo(sys.exc_info()).traceback
    raise AssertionError


def fingerprint(body, amount: int, task: str = "shop.pay") -> str:
    error = ValueError(f"cannot charge {amount}")
    return death_of(error, headers={**HEADERS, "task": task}, queue="q", worker="w", traceback=traceback_of(body, amount)).fingerprint


def test_errors_of_one_place_are_one_error_whatever_they_say() -> None:
    assert fingerprint(charge, 1) == fingerprint(charge, 2)
    assert fingerprint(charge, 1) != fingerprint(refund, 1)
    assert fingerprint(charge, 1) != fingerprint(charge, 1, task="shop.refund")


def test_without_a_place_the_text_counts_but_not_what_varies_in_it() -> None:
    texts = ("no row 17 for 'ann' at 0x7f00", "no row 4 for 'bob' at 0x11ab")
    first, second = (error_fingerprint("shop.pay", "KeyError", text) for text in texts)
    assert first == second != error_fingerprint("shop.pay", "KeyError", "no table 17")


def test_frames_are_those_of_the_tasks_own_code_in_the_last_traceback() -> None:
    first = traceback_of(refund, 1)
    assert frames_in(first + "\nDuring handling of it another came:\n" + traceback_of(charge, 1))[-1] == ("test_deaths.py", "charge")
    assert all(function != "refund" for _, function in frames_in(first + traceback_of(charge, 1)))
    assert frames_in(f'Traceback (most recent call last)\n  File "{billiard.__file__}", line 7, in run\n') == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError(), "failed"),
        (SoftTimeLimitExceeded(), "timed_out"),
        (billiard.exceptions.TimeLimitExceeded(1), "timed_out"),
        (billiard.exceptions.WorkerLostError(), "lost"),
        (Reject(), "rejected"),
        (NotRegistered("shop.pay"), "unregistered"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_tells_the_reason(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_the_facts_come_from_the_message() -> None:
    chord = {"task": "shop.sum", "options": {"task_id": "c1"}}
    death = death_of(ValueError("no"), headers={**HEADERS, "tw_generation": 3, "tw_replay_of": "m0"}, queue="q", worker="w", chord=chord)

    assert (death.task, death.task_id, death.mid, death.attempts, death.generation, death.replay_of) == ("shop.pay", "t1", "m1", 3, 3, "m0")
    assert (death.group, death.chord, death.root, death.parent) == ("g1", "c1", "r1", "p1")
    assert read_death(death.write()) == death


def test_a_message_from_a_process_without_the_plug_in_has_a_mid_all_the_same() -> None:
    death = death_of(ValueError(), headers={"id": "t1", "task": "shop.pay", "retries": 2}, queue="q", worker="w")
    assert death.mid == "t1:2:0"


def test_an_error_that_cannot_be_shown_hides_nothing_else() -> None:
    class Shy(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    death = death_of(Shy(), headers=HEADERS, queue="q", worker="w")
    assert (death.message, name_of(Shy()).rpartition(".")[2]) == ("Shy cannot be shown", "Shy")


def test_what_is_long_keeps_its_beginning_and_its_end() -> None:
    text = shortened("a" + "x" * 10 * LONGEST_TRACEBACK + "z", LONGEST_TRACEBACK)
    assert (text[0], text[-1], len(text) < LONGEST_TRACEBACK + 100) == ("a", "z", True)


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b'{"task": "x"}', b'{"reason": "failed", "attempts": "many"}'])
def test_facts_that_are_none_are_told_from_facts(raw: bytes) -> None:
    with pytest.raises(MalformedRecord):
        read_death(raw)


def test_facts_of_a_newer_version_are_passed_over() -> None:
    assert read_death(b'{"reason": "failed", "weather": "rain"}') == Death(reason="failed")
