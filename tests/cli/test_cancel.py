"""`tw cancel`: what it asks, does and says."""

from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

from celery_tw import TimeWheel
from celery_tw.integration.runs.runner import runner_of
from celery_tw.stores.redis.runs.claim import Claim
from tests.cli.conftest import CommandLine


@pytest.fixture
def shop(shop: Celery) -> Celery:
    shop.conf.tw_defer_eta = "always"
    TimeWheel(shop)
    return shop


def test_a_waiting_task_is_shown_and_asked_about_and_taken_off(shop: Celery, cli: CommandLine) -> None:
    shop.tasks["shop.report"].apply_async(task_id="a", eta=datetime(2031, 1, 2, 3, 4, tzinfo=UTC))

    refused = cli.refused("cancel", "a", typed="n\n")
    assert "Cancel 1 waiting task (shop.report, due 2031-01-02 04:04:00 CET)?" in refused
    assert shop.timewheel.status().waiting == 1

    assert cli.done("cancel", "a", typed="y\n") == "a: taken off the timetable: shop.report, due 2031-01-02 04:04:00 CET\n"
    assert shop.timewheel.status().waiting == 0


def test_what_does_not_wait_is_said_to_be_left_to_the_workers(shop: Celery, cli: CommandLine) -> None:
    shop.tasks["shop.report"].apply_async(task_id="a", countdown=3600)

    refused = cli.refused("cancel", "a", "b", "c", typed="n\n")
    assert "and ask the workers to revoke 2 ids under which nothing waits?" in refused

    assert "b: nothing waits under this id; the workers were asked to revoke it\n" in cli.done("cancel", "b", "a", "b", "--yes")


def test_json_says_what_was_found_and_done(shop: Celery, cli: CommandLine) -> None:
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    shop.tasks["shop.report"].apply_async(task_id="a", eta=due)

    assert cli.json("cancel", "a", "b", "--yes") == {
        "cancelled": [
            {
                "task_id": "a",
                "waiting": [{"task_id": "a", "task": "shop.report", "due": due.isoformat(), "entry": ""}],
                "revoked": False,
                "stopping": False,
                "terminate_after": None,
            },
            {"task_id": "b", "waiting": [], "revoked": True, "stopping": False, "terminate_after": None},
        ]
    }


def test_a_run_is_asked_to_stop_for_a_reason_and_given_a_limit(shop: Celery, cli: CommandLine) -> None:
    runs = runner_of(shop).runs
    runs.acquire(Claim(mid="m", owner="p", task="shop.report", task_id="a"))

    said = cli.done("cancel", "a", "--yes", "--reason", "no longer wanted", "--terminate-after", "30")

    assert said == "a: it runs, and was asked to stop, or is ended in 30 s\n"
    (record,) = runs.under_way.read(["m"])
    assert record.cancel == "no longer wanted"
