"""The call that ends a run, when its answer is lost."""

import pytest

from celery_tw.errors import StoreUnavailable
from celery_tw.integration.runs.last_call import LastCall


def answers(*given: bool | None):
    """Return a call that gives these answers in turn; None is one that is lost."""
    left = list(given)

    def ask() -> bool:
        answer = left.pop(0)
        if answer is None:
            raise StoreUnavailable("the answer is lost")
        return answer

    return ask


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_refusal_after_a_lost_answer_is_looked_into_however_many_were_lost(has_ended: bool) -> None:
    call = LastCall(answers(None, None, False), has_ended=lambda: has_ended)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            call()
    assert call() is has_ended


def test_a_refusal_without_a_lost_answer_is_one() -> None:
    assert LastCall(answers(False), has_ended=lambda: True)() is False


def test_an_end_is_one() -> None:
    assert LastCall(answers(True), has_ended=lambda: False)() is True


def test_a_look_that_has_no_answer_is_made_again() -> None:
    call = LastCall(answers(None, False, False), has_ended=answers(None, True))
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            call()
    assert call() is True
