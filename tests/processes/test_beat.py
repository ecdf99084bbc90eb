"""What an app relies on in beat: it stands for the time wheel as well, seen from a stock worker."""

import json
from socket import gethostname
from typing import Any

import celery
import pytest
from celery import chain, chord, group

from celery_tw import TimeWheel, every
from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import UnknownEntry
from celery_tw.testing.slots import Grid
from tests.processes.stage import Stage, now_ms, schedule_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]

TICK = Grid("tick", 500)
HAS_BEAT_PING = tuple(int(part) for part in celery.__version__.split(".")[:2]) >= (5, 7)


def test_an_entry_with_expires_runs_at_its_hundredth_slot(stage: Stage) -> None:
    grid = Grid("short-lived", 50)
    schedule = schedule_of([grid], tolerance=30.0)
    schedule["short-lived"]["options"]["expires"] = 1.5
    stage.start_beats(1, schedule=schedule)

    wait_until(lambda: len(stage.ledger.lines("short-lived")) >= 100, 40, message="a hundred runs")

    slots_ms = stage.ledger.slots("short-lived")
    assert stage.check([grid], from_ms=slots_ms[0] - 1, until_ms=slots_ms[-1]).violations == ()
    assert "revoked" not in stage.worker.logs()


def test_a_fire_that_waits_longer_than_expires_is_revoked_by_the_worker(stage: Stage, server: EmbeddedServer) -> None:
    schedule = schedule_of([TICK])
    schedule["tick"]["options"]["expires"] = 0.2
    stage.stop_worker()
    stage.start_beats(1, schedule=schedule)
    with server.client() as client:
        wait_until(lambda: client.llen("celery") >= 3, message="three messages to wait for a worker")

    started_ms = now_ms()
    stage.start_worker()

    stage.wait_for_runs(["tick"])
    assert all(slot_ms > started_ms - 500 for slot_ms in stage.ledger.slots("tick"))
    assert "Discarding revoked task" in stage.worker.logs()


def test_entries_of_code_run_as_beat_runs_them(stage: Stage) -> None:
    """Lazy arguments, an own schedule class, ``add_periodic_task`` with a task and with canvases."""
    stage.start_beats(1, module="periodic")

    wait_until(lambda: all(len(stage.ledger.lines(entry)) >= 3 for entry in ("lazy", "own class", "by code")), 30)
    wait_until(lambda: all(values(stage, "add").count(value) >= 2 for value in (3, 7, 111)), 30, message="two groups and two chains")
    wait_until(lambda: values(stage, "total").count(2003) >= 2, 30, message="two chords")

    lazy = [line.value for line in stage.ledger.lines("lazy")]
    assert lazy == sorted(set(lazy)), "the function gives another value for each fire"
    assert {line.value for line in stage.ledger.lines("by code")} == {"by code"}
    for entry in ("lazy", "own class", "by code"):
        slots_ms = stage.ledger.slots(entry)
        assert len(set(slots_ms)) == len(slots_ms)


def values(stage: Stage, task: str) -> list[Any]:
    """Return what the runs of a task gave, in order."""
    return [line.value for line in stage.ledger.lines() if line.task == f"shop.{task}"]


def test_a_canvas_runs_whole_at_each_slot(stage: Stage) -> None:
    app = stage.app
    add, total = app.signature("shop.add"), app.signature("shop.total")
    canvases = {
        "chain": chain(add.clone((1, 2)), add.clone((10,)), app=app),
        "group": group(add.clone((100, 1)), add.clone((100, 2)), app=app),
        "chord": chord((add.clone((1000, 1)), add.clone((1000, 2))), total, app=app),
    }
    for name, canvas in canvases.items():
        stage.timewheel.schedule(name, canvas, every(1))
    stage.start_beats(1)

    wait_until(lambda: values(stage, "total").count(2003) >= 3, 40, message="three chords")
    wait_until(lambda: all(values(stage, "add").count(value) >= 3 for value in (13, 102)), 40, message="three chains and groups")

    ids = [line.task_id for line in stage.ledger.lines()]
    assert len(set(ids)) == len(ids)
    assert set(values(stage, "add")) == {3, 13, 101, 102, 1001, 1002}


def test_a_trigger_runs_now_and_a_one_time_task_runs_once(stage: Stage) -> None:
    wheel = stage.timewheel
    stage.start_beats(1)
    wheel.schedule("rare", stage.app.signature("shop.add", args=(2, 3)), every(hours=5))

    assert wheel.trigger("rare").get(timeout=20) == 5

    (line,) = stage.ledger.lines()
    assert line.slot_ms is None


def test_an_edit_is_seen_at_once(stage: Stage) -> None:
    wheel, record = stage.timewheel, stage.app.signature("shop.record")
    stage.start_beats(1)

    added_ms = now_ms()
    wheel.schedule("new", record, every(milliseconds=100))
    wait_until(lambda: len(stage.ledger.lines("new")) > 5)
    assert stage.ledger.lines("new")[0].at_ms - added_ms < 3000

    wheel.pause("new")
    assert_silent(stage, wheel, "new")
    wheel.resume("new")
    resumed_ms = now_ms()
    wait_until(lambda: any((line.slot_ms or 0) > resumed_ms for line in stage.ledger.lines("new")))

    wheel.remove("new")
    assert_silent(stage, wheel, "new")
    with pytest.raises(UnknownEntry):
        wheel.entry("new")


def assert_silent(stage: Stage, wheel: TimeWheel, entry: str) -> None:
    """Assert that *entry*, paused or removed by now, runs for no slot from now on, while another does."""
    since_ms = now_ms()
    wheel.schedule("witness", stage.app.signature("shop.record"), every(milliseconds=100))
    wait_until(lambda: stage.ledger.reaches(["witness"], since_ms + 1000))
    assert [slot_ms for slot_ms in stage.ledger.slots(entry) if slot_ms > since_ms] == []


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_a_worker_carries_a_beat(stage: Stage, pool: str) -> None:
    stage.stop_worker()
    worker = stage.processes.worker("-c", "1", "-B", "--scheduler", "timewheel", pool=pool, schedule=schedule_of([TICK], tolerance=30.0))
    from_ms = stage.wait_for_runs(["tick"])
    until_ms = stage.watch([TICK], for_ms=1000)

    worker.teardown()

    assert stage.check([TICK], from_ms=from_ms, until_ms=until_ms).violations == ()
    assert stage.timewheel.status().leader is None, "the beat inside the worker has handed the lead over"


@pytest.mark.skipif(not HAS_BEAT_PING, reason="beat answers ping from Celery 5.7 on")
def test_beat_answers_ping_even_when_it_started_without_redis(stage: Stage, server: EmbeddedServer) -> None:
    stage.stop_worker()
    server.kill()
    beat = stage.start_beat(conf={"beat_enable_remote_control": True})
    beat.wait_for_log("waits for Redis", timeout=15)
    server.restart()
    name = f"celerybeat@{gethostname()}"

    def answer() -> Any:
        asked = stage.processes.celery("ping", "inspect", "ping", "-d", name, "--json", "--timeout", "5")
        return asked.wait(30) == 0 and asked

    asked = wait_until(answer, 40, message="an answer to ping")
    assert json.loads(asked.logs().splitlines()[-1]) == {name: {"ok": "pong"}}


def test_the_cleanup_of_results_comes_with_a_backend_that_needs_it(stage: Stage) -> None:
    stage.start_beats(1, conf={"result_backend": f"file://{stage.processes.folder}"})

    entry = wait_until(lambda: cleanup_of(stage.timewheel), message="the entry celery.backend_cleanup")

    assert (entry.task, entry.schedule["expression"]) == ("celery.backend_cleanup", "0 4 * * *")


def cleanup_of(wheel: TimeWheel) -> Any:
    try:
        return wheel.entry("celery.backend_cleanup")
    except UnknownEntry:
        return None
