"""The ledger: what several processes write is read whole, and what is no line is told."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_tw.errors import MalformedRecord
from celery_tw.testing.ledger import Ledger, Line, What
from celery_tw.testing.recording import record_runs
from tests.stock_worker import stock_worker

WRITER = """
import sys
from celery_tw.testing.ledger import Ledger, Line, What
ledger = Ledger(sys.argv[1])
for number in range(500):
    ledger.append(Line(what=What.STARTED, at_ms=number, entry=sys.argv[2], slot_ms=number, value="x" * 3000))
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def started(entry: str, slot_ms: int | None, at_ms: int) -> Line:
    return Line(what=What.STARTED, at_ms=at_ms, entry=entry, slot_ms=slot_ms)


def test_what_is_written_is_read_and_a_ledger_not_yet_begun_is_empty(ledger: Ledger) -> None:
    assert ledger.lines() == []

    line = Line(what=What.SKIPPED, at_ms=3, entry="tick", slot_ms=1, until_ms=2, reason="misfire:skip", value={"any": [1]})
    ledger.append(line, started("tock", 5, 6))

    assert ledger.lines() == [line, started("tock", 5, 6)]
    assert ledger.lines("tick") == [line]
    assert (ledger.slots("tick"), ledger.slots("tock")) == ([], [5])


def test_a_ledger_grows_while_it_is_read(ledger: Ledger) -> None:
    ledger.append(started("tick", 1, 1))
    ledger.lines()
    ledger.append(started("tick", 2, 9), started("tock", 2, 3))

    assert ledger.slots("tick") == [1, 2]
    assert ledger.reaches(["tick", "tock"], 1)
    assert not ledger.reaches(["tick", "tock"], 2)
    assert ledger.longest_gap_ms() == 6


def test_the_lines_of_several_processes_stand_whole(ledger: Ledger) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(ledger.path), f"writer-{number}"]) for number in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4

    for number in range(4):
        assert [line.at_ms for line in ledger.lines(f"writer-{number}")] == list(range(500))


def test_a_line_that_is_being_written_is_read_when_it_is_whole(ledger: Ledger) -> None:
    text = json.dumps({"what": "started", "at_ms": 1}) + "\n"
    ledger.path.write_text(text[:10])
    assert ledger.lines() == []

    ledger.path.write_text(text)
    assert ledger.lines() == [Line(what=What.STARTED, at_ms=1)]


@pytest.mark.parametrize("text", ["nonsense", "[]", "{}", '{"what": "dreamt", "at_ms": 1}', '{"what": "started", "at_ms": 1, "more": 2}'])
def test_what_is_no_line_is_told(ledger: Ledger, text: str) -> None:
    ledger.path.write_text(text + "\n")

    with pytest.raises(MalformedRecord, match="expected a line of a ledger"):
        ledger.lines()


def test_a_worker_records_what_it_receives_starts_and_ends(ledger: Ledger, make_app: Callable[..., Celery]) -> None:
    app = make_app()

    received: list[str] = []

    @app.task(name="shop.record", shared=False, bind=True)
    def record(self: Any) -> None:
        received.append(self.request.get("tw_mid") or self.request.headers["tw_mid"])

    stop = record_runs(ledger)
    try:
        with stock_worker(app):
            result = record.apply_async(headers={"tw_mid": "mid-1", "tw_slot": 4000, "periodic_task_name": "tick"})
            result.get(timeout=20)
    finally:
        stop()

    assert [line.what for line in ledger.lines()] == [What.RECEIVED, What.STARTED, What.ENDED]
    told = {(line.entry, line.slot_ms, line.mid, line.task, line.task_id) for line in ledger.lines()}
    assert told == {("tick", 4000, received[0], "shop.record", result.id)}
