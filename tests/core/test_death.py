"""What is known of a task that has failed for good: written, read again, shortened, and told apart."""

import json
from dataclasses import replace

import pytest

from celery_tw.core.death import LONGEST_MESSAGE, REASONS, Death, error_fingerprint, read_death, shortened
from celery_tw.errors import MalformedRecord

FULL = Death(
    reason="failed",
    task="shop.pay",
    task_id="t1",
    mid="m1",
    queue="orders",
    generation=2,
    replay_of="l0",
    exception="ValueError",
    message="no such order",
    traceback="Traceback …",
    fingerprint="f" * 16,
    worker="w@host",
    attempts=3,
    group="g",
    chord="c",
    root="r",
    parent="p",
    claim="1-0",
    token="7",
)


def test_a_death_is_read_as_it_was_written():
    assert read_death(FULL.write()) == FULL
    assert read_death(Death(reason="lost").write()) == Death(reason="lost")


def test_facts_that_say_nothing_are_not_written():
    assert json.loads(Death(reason="lost").write()) == {"reason": "lost", "attempts": 1}
    assert set(json.loads(FULL.write())) == set(Death.__slots__)


def test_a_death_counts_one_attempt_and_no_replay_unless_told():
    death = Death(reason="failed")

    assert (death.attempts, death.generation, death.task, death.claim) == (1, 0, "", "")


def test_facts_that_are_not_known_yet_are_passed_over_and_numbers_are_numbers():
    death = read_death(b'{"reason": "failed", "attempts": "4", "generation": 1, "mid": 5, "later": [1]}')

    assert (death.attempts, death.generation, death.mid) == (4, 1, "5")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"7", b"{}", b'{"reason": "failed", "attempts": "x"}', b"[" * 100_000, b"\xff"])
def test_what_cannot_be_read_is_malformed(raw: bytes):
    with pytest.raises(MalformedRecord, match="dead letter"):
        read_death(raw)


def test_reasons_have_ten_different_words():
    assert len(set(REASONS)) == len(REASONS) == 10


def test_an_occasion_is_the_worker_and_the_error_or_else_the_reason():
    assert FULL.occasion == "w@host ValueError"
    assert replace(FULL, exception="").occasion == "w@host failed"


def test_a_text_that_is_not_too_long_stays_whole():
    assert shortened("abcdefgh", 8) == "abcdefgh"


def test_a_long_text_keeps_a_quarter_from_its_beginning_and_the_rest_from_its_end():
    text = "".join(chr(97 + number % 26) for number in range(1108))
    short = shortened(text, 100)

    head, said, tail = short.split("\n")
    assert (head, tail) == (text[:25], text[-75:])
    assert said == "… 1,008 characters are left out …"


def test_one_error_has_one_fingerprint_whatever_varies_in_its_message():
    def fingerprint(message: str) -> str:
        return error_fingerprint("shop.pay", "ValueError", message)

    same = [
        "order 17 at 0x7f3a: 'ann' (6f1c0a9e-1111-2222-3333-0123456789ab, deadbeefdeadbeef)",
        "order 4 at 0xAB: 'bob' (00000000-aaaa-bbbb-cccc-0123456789ab, DEADBEEF0DEADBEEF1)",
    ]
    assert len({fingerprint(message) for message in same}) == 1
    assert fingerprint("order lost") != fingerprint("order found")
    assert len(fingerprint("")) == 16
    int(fingerprint(""), 16)


def test_frames_of_the_tasks_own_code_stand_for_the_message():
    frames = [("shop.py", "pay"), ("bank.py", "call")]

    def of(message: str, frames: list[tuple[str, str]], *, task: str = "shop.pay", error: str = "ValueError") -> str:
        return error_fingerprint(task, error, message, frames)

    assert of("one", frames) == of("another", frames)
    assert of("one", frames) != of("one", frames[:1])
    assert of("one", frames) != of("one", frames[::-1])
    assert of("one", frames) != of("one", frames, task="shop.send")
    assert of("one", frames) != of("one", frames, error="KeyError")


def test_of_a_long_message_only_the_beginning_counts():
    beginning = "x y " * (LONGEST_MESSAGE // 4)

    assert error_fingerprint("t", "E", beginning + "a") == error_fingerprint("t", "E", beginning + "b")
    assert error_fingerprint("t", "E", beginning[:-1] + "a") != error_fingerprint("t", "E", beginning[:-1] + "b")
    assert error_fingerprint("t", "E", "\udc80") != ""
