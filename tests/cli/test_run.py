"""`tw run`: what it shows of runs under way."""

import json

from celery import Celery

from celery_tw import TimeWheel
from celery_tw.runtime.lock import lock
from celery_tw.stores.redis.runs.claim import Claim
from tests.cli.conftest import CommandLine


def begin(shop: Celery) -> None:
    claim = Claim(mid="m", owner="host:7:x", task="shop.report", task_id="a", guards=[lock("k")])
    assert TimeWheel(shop)._parts.runs.acquire(claim).verdict == "run"


def test_runs_under_way_are_listed(shop: Celery, cli: CommandLine) -> None:
    assert cli.done("run", "list") == "no run is under way\n"
    begin(shop)
    (line,) = (line for line in cli.done("run", "list").splitlines() if line.startswith("a "))
    assert "shop.report" in line
    assert "host:7" in line
    assert "lock:k" in line


def test_a_run_is_shown_as_json(shop: Celery, cli: CommandLine) -> None:
    begin(shop)
    (shown,) = json.loads(cli.done("run", "show", "a", "--json"))["runs"]
    assert (shown["state"], shown["process"], shown["holds"]) == ("running", "host:7", ["lock:k"])
    assert cli.done("run", "show", "b") == "no run of b is under way\n"


def test_cancelling_a_run_says_that_it_was_asked_to_stop(shop: Celery, cli: CommandLine) -> None:
    begin(shop)
    assert cli.done("cancel", "a", "--yes") == "a: it runs, and was asked to stop\n"
