"""Numbers of messages: larger with each one, across the terms of all leaders."""

import json

from celery_tw.core.sequence import HEADER, MARK, NUMBERS_A_MS, Numbers, numbered

EPOCH = 1_800_000_000_000


def test_the_numbers_of_a_term_begin_at_its_epoch_and_follow_each_other():
    numbers = Numbers()

    assert numbers.take(EPOCH, 3) == EPOCH * 2**20
    assert numbers.take(EPOCH, 1) == EPOCH * 2**20 + 3
    assert numbers.take(EPOCH, 2) == EPOCH * 2**20 + 4


def test_a_later_term_begins_above_all_that_went_before():
    numbers = Numbers()
    numbers.take(EPOCH, NUMBERS_A_MS - 1)
    last = numbers.take(EPOCH, 1)

    assert numbers.take(EPOCH + 1, 5) == last + 1 == (EPOCH + 1) * 2**20
    assert numbers.take(EPOCH + 1, 1) == last + 6


def test_what_a_stale_leader_still_draws_in_an_older_term_was_given_to_nobody():
    numbers = Numbers()
    given = {numbers.take(EPOCH, 1), numbers.take(EPOCH + 1, 1)}

    late = numbers.take(EPOCH, 1)

    assert late not in given
    assert late < (EPOCH + 1) * 2**20


def test_a_number_stands_in_the_place_of_the_mark_in_the_json_of_a_message():
    marked = json.dumps({"a": 1, HEADER: MARK}).encode()

    assert json.loads(numbered(marked, 7)) == {"a": 1, "tw_seq": 7}


def test_a_message_without_a_mark_is_left_alone():
    assert numbered(b'{"tw_seq": 5}', 7) == b'{"tw_seq": 5}'
