"""A worker that has a time wheel, and settings of it that are wrong."""

import logging
from collections.abc import Iterator

import pytest
from celery import Celery
from celery.result import _set_task_join_will_block, task_join_will_block

from celery_tw import TimeWheel


@pytest.fixture(autouse=True)
def results_may_be_waited_for() -> Iterator[None]:
    """A worker that is made forbids its whole process to wait for results, which other tests have to."""
    before = task_join_will_block()
    yield
    _set_task_join_will_block(before)


def start_up(name: str | None = "shop", **settings: object) -> None:
    """Make a worker of an app with *settings*, but do not run it."""
    app = Celery(name, broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(**settings)
    TimeWheel(app)
    app.WorkController(pool="solo")


def test_a_worker_with_a_wrong_setting_does_not_start_and_names_it(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.CRITICAL, logger="celery_tw"),
        pytest.raises(SystemExit, match=r"tw_leader_lease: expected seconds from 0\.5 to 300, got 'soon'"),
    ):
        start_up(tw_redis_url="redis://localhost:1/0", tw_leader_lease="soon")
    assert "tw_leader_lease" in caplog.text


def test_a_worker_without_a_redis_starts_and_says_what_will_fail(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="celery_tw"):
        start_up()
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("celery_tw")]
    assert "set tw_redis_url" in said


def test_a_worker_with_right_settings_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="celery_tw"):
        start_up(tw_redis_url="redis://localhost:1/0")
    assert [record for record in caplog.records if record.name.startswith("celery_tw")] == []


def test_a_worker_of_an_app_without_a_name_starts_and_says_that_one_is_needed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="celery_tw"):
        start_up(None, tw_redis_url="redis://localhost:1/0")
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("celery_tw")]
    assert "tw_namespace" in said
