"""A missing service is a skip with its reason, and a failure where it is required."""

import pytest

from tests.requirements import require
from tests.waiting import wait_until


def test_a_service_that_is_there_lets_the_test_run():
    require("redis", missing=None)


def test_a_missing_service_skips_the_test_and_says_why(monkeypatch):
    monkeypatch.delenv("TW_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs rabbitmq: nothing answers"):
        require("rabbitmq", missing="nothing answers")


def test_a_missing_service_that_is_required_fails_the_test(monkeypatch):
    monkeypatch.setenv("TW_REQUIRE", "redis, rabbitmq")
    with pytest.raises(pytest.fail.Exception, match="rabbitmq is required here"):
        require("rabbitmq", missing="nothing answers")


def test_waiting_in_vain_says_for_what_and_what_was_seen():
    with pytest.raises(AssertionError, match="in vain for the bus; the last value was None"):
        wait_until(lambda: None, 0.02, message="the bus")
