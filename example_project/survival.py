"""`python -m example_project.survival`: a long task survives its worker, and stops when it is asked to; exit 0 when all facts hold.

1.  A beat and two workers are started, and an inventory of 100,000 shelves is sent. One of the workers takes it.
2.  In the middle that worker is killed with SIGKILL. The leader notices its silence, and the other worker goes on from the last checkpoint.
3.  The inventory is cancelled. It stops at its next look, with its last state saved.
4.  What was promised is held against what happened: see `facts`.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from celery_tw import CeleryTWError, TimeWheel
from celery_tw.embedded import EmbeddedServer
from example_project import URL_VARIABLE
from example_project.journal import Entry, Journal
from example_project.observer import Failed, Observer
from example_project.processes import Children
from example_project.screen import Screen, screen

SHELVES = 100_000
EVERY = 500
KILLED_AT, CANCELLED_AT = 30_000, 60_000
REASON = "the shop closes"

START_TIMEOUT_S = 25.0
COUNT_TIMEOUT_S = 60.0
TAKEOVER_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What happened: the checkpoints that stood when the worker was dead and at the end, the journal, and the result."""

    entries: list[Entry]
    saved_at_death: int
    saved_at_end: int
    shelves_counted: int
    state: str
    reason: str
    still_running: int


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that was promised, and whether it holds."""

    text: str
    holds: bool


def facts(account: Account) -> list[Fact]:
    """Return each promise beside what happened. Pure, so that it can be tested with planted faults."""
    begins = [entry for entry in account.entries if entry.what == "begins"]
    ends = [entry for entry in account.entries if entry.what == "ends"]
    if len(begins) != 2 or len(ends) != 1:
        return [Fact(f"two workers began, and one ended by itself (began: {len(begins)}, ended: {len(ends)})", False)]
    (first, second), (last,) = begins, ends
    repeated = account.shelves_counted - last.counted
    return [
        Fact(f"the first worker began with nothing counted ({first.counted:,})", first.counted == 0),
        Fact(f"another worker went on (pid {first.pid}, then {second.pid})", first.pid != second.pid == last.pid),
        Fact(
            f"it began at the last checkpoint of the dead one ({account.saved_at_death:,}, then {second.counted:,})",
            KILLED_AT <= account.saved_at_death == second.counted,
        ),
        Fact(
            f"its token is higher, so the dead one could write nothing any more ({first.token}, {second.token})", second.token > first.token
        ),
        Fact(f"no more was counted twice than one checkpoint holds ({repeated} of {EVERY})", 0 <= repeated <= EVERY),
        Fact(f"it stopped before its end when it was cancelled ({last.counted:,} of {SHELVES:,})", CANCELLED_AT <= last.counted < SHELVES),
        Fact(f"where it stopped is saved ({account.saved_at_end:,})", account.saved_at_end == last.counted),
        Fact(
            f"its result is REVOKED, with the reason ({account.state}: {account.reason})",
            account.state == "REVOKED" and REASON in account.reason,
        ),
        Fact(f"nothing of it runs any more ({account.still_running})", account.still_running == 0),
    ]


class Survival:
    """One run; ``run`` reads as the list above."""

    def __init__(self, app: Any, wheel: TimeWheel, children: Children, observer: Observer, journal: Journal) -> None:
        self.app = app
        self.wheel = wheel
        self.children = children
        self.observer = observer
        self.journal = journal
        self.say = observer.screen.step

    def run(self) -> Account:
        """Return what happened; raises `Failed` when something did not come about."""
        self.start()
        result = self.app.tasks["shop.take_inventory"].delay(SHELVES)
        saved_at_death = self.kill_worker(result.id)
        self.cancel(result.id)
        self.wait_for("the result", lambda: result.state == "REVOKED", STOP_TIMEOUT_S)
        self.wait_for("the last worker to write down where it stopped", lambda: self._entries("ends"), STOP_TIMEOUT_S)
        self.wait_for("the run to be over", lambda: not self.wheel.runs.under_way(), STOP_TIMEOUT_S)
        return Account(
            entries=self.journal.entries(),
            saved_at_death=saved_at_death,
            saved_at_end=self._saved(result.id),
            shelves_counted=self.journal.shelves_counted(),
            state=result.state,
            reason=str(result.info),
            still_running=len(self.wheel.runs.under_way()),
        )

    # Steps

    def start(self) -> None:
        """Start the processes, and wait until one leads."""
        self.say("A beat and two workers start")
        self.children.beat(1)
        self.children.worker(1)
        self.children.worker(2)
        self.wait_for("the beat to lead", lambda: self.wheel.status().leader, START_TIMEOUT_S)

    def kill_worker(self, task_id: str) -> int:
        """Kill the worker that counts, when it is well under way; return its last checkpoint once the other one has begun."""
        (first,) = self.wait_for("a worker to begin", lambda: self._entries("begins"), START_TIMEOUT_S)
        self.say(f"An inventory of {SHELVES:,} shelves: the worker with pid {first.pid} counts")
        self.wait_for(f"{KILLED_AT:,} shelves", lambda: self._saved(task_id) >= KILLED_AT, COUNT_TIMEOUT_S)
        child = self.children.of_pid(first.pid)
        if child is None:
            raise Failed(f"the inventory should be one of the workers' started here, and is that of pid {first.pid}")
        child.kill()
        killed_s, saved = time.monotonic(), self._saved(task_id)
        self.say(f"{child.name} is killed with SIGKILL; its last checkpoint says {saved:,}")
        _, second = self.wait_for("the other worker to begin", lambda: self._entries("begins", at_least=2), TAKEOVER_TIMEOUT_S)
        self.say(f"The worker with pid {second.pid} goes on at {second.counted:,}, {time.monotonic() - killed_s:.1f} s later")
        return saved

    def cancel(self, task_id: str) -> None:
        """Cancel the inventory when it is well under way again."""
        self.wait_for(f"{CANCELLED_AT:,} shelves", lambda: self._saved(task_id) >= CANCELLED_AT, COUNT_TIMEOUT_S)
        self.say(f"Cancelled at {self._saved(task_id):,}: {REASON}")
        if not self.wheel.cancel(task_id, reason=REASON).stopping:
            raise Failed("the inventory was not found running when it was cancelled")

    # Facts

    def wait_for(self, what: str, find: Callable[[], Any], timeout_s: float) -> Any:
        return self.observer.wait_for(what, find, timeout_s)

    def _entries(self, what: str, at_least: int = 1) -> list[Entry]:
        found = [entry for entry in self.journal.entries() if entry.what == what]
        return found if len(found) >= at_least else []

    def _saved(self, task_id: str) -> int:
        """Return how many shelves the last checkpoint says."""
        saved = self.wheel.runs.checkpoint(task_id)
        return 0 if saved is None else int(saved["counted"])


def main() -> int:
    """Run it, and return the exit code."""
    signal.signal(signal.SIGTERM, _exit)
    shown = screen()
    folder = Path(tempfile.mkdtemp(prefix="example-project-"))
    try:
        with EmbeddedServer.start() as server:
            return _run_on(server.url, folder, shown)
    except (CeleryTWError, Failed) as error:
        shown.verdict(f"FAILED: {error}", right=False)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_on(url: str, folder: Path, shown: Screen) -> int:
    os.environ[URL_VARIABLE] = url
    from example_project.app import app, tw  # noqa: PLC0415 - its settings read the URL when they are imported
    from example_project.tasks import journal, ledger  # noqa: PLC0415

    children = Children(url, folder)
    try:
        observer = Observer(ledger, children, shown, shows_runs=False)
        return _sum_up(facts(Survival(app, tw, children, observer, journal).run()), shown)
    finally:
        children.end()


def _sum_up(found: list[Fact], shown: Screen) -> int:
    shown.step("What was promised, and whether it holds")
    for fact in found:
        shown.fact(fact.text, holds=fact.holds)
    right = all(fact.holds for fact in found)
    if right:
        shown.verdict("The task survived its worker and stopped when it was asked to.", right=True)
    else:
        shown.verdict(f"FAILED: {sum(not fact.holds for fact in found)} of {len(found)} facts do not hold.", right=False)
    return 0 if right else 1


def _exit(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
