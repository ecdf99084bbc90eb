"""Stage: pytest-celery's setup, with beats and a time wheel besides the broker, the backend and the workers."""

import signal
import time
from collections.abc import Iterable
from typing import Any, cast

from celery import Celery
from pytest_celery import CeleryTestSetup

from celery_tw import TimeWheel
from celery_tw.errors import StoreUnavailable
from celery_tw.testing.checker import Findings, check
from celery_tw.testing.ledger import Ledger, Line
from celery_tw.testing.oracles import Window
from celery_tw.testing.recording import recorded_skips
from celery_tw.testing.slots import Grid
from tests.processes.container import ProcessContainer
from tests.processes.nodes import Beat
from tests.processes.processes import Processes
from tests.waiting import wait_until

LEAD_TIMEOUT_S = 20.0
RUN_TIMEOUT_S = 30.0


class Stage(CeleryTestSetup):
    """The architecture of one test, and what one asks of it. *app* is a client of the project."""

    processes: Processes

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.beats: list[Beat] = []

    @classmethod
    def name(cls) -> str:
        return "shop"

    @classmethod
    def create_setup_app(cls, celery_setup_config: dict[str, Any], celery_setup_app_name: str) -> Celery:
        app = Celery(celery_setup_app_name, set_as_current=False)
        app.conf.update(celery_setup_config)
        app.task(name="shop.record", shared=False)(_runs_elsewhere)
        return app

    def _set_app_for_all_nodes(self) -> None:
        """Leave the nodes without an app: pytest-celery would make it the current one at each restart."""

    def on(self, processes: Processes) -> "Stage":
        self.processes = processes
        self.ledger = Ledger(processes.ledger)
        return self

    @property
    def timewheel(self) -> TimeWheel:
        return TimeWheel(self.app)

    def start_beat(self, *options: str, **settings: Any) -> Beat:
        """Start a beat and return at once."""
        beat = Beat(self.processes.beat(*options, **settings), None)
        self.beats.append(beat)
        return beat

    def start_beats(self, number: int, **settings: Any) -> list[Beat]:
        """Start *number* beats with the same settings; return when all are ready and one leads."""
        beats = [self.start_beat(**settings) for _ in range(number)]
        for beat in beats:
            beat.ready()
        wait_until(lambda: self.leader(*self.beats), LEAD_TIMEOUT_S, message="one of the beats to lead")
        return beats

    def stop_worker(self) -> None:
        """End the worker, so that messages stay in the queue."""
        self.worker_container.send(signal.SIGTERM)
        self.worker_container.wait()

    def start_worker(self) -> None:
        self.worker_container.restart()

    @property
    def worker_container(self) -> ProcessContainer:
        return cast(ProcessContainer, self.worker.container)

    def wait_for_leader(self, *candidates: Beat) -> Beat:
        """Return that of *candidates* which leads, as soon as one does."""
        return wait_until(lambda: self.leader(*candidates), LEAD_TIMEOUT_S, message="one of the beats to lead")

    def leader(self, *candidates: Beat) -> Beat | None:
        try:
            owner = self.timewheel.status().leader or "::"
        except StoreUnavailable:
            return None
        return next((beat for beat in candidates if owner.split(":")[1] == str(beat.pid)), None)

    def wait_for_runs(self, entries: Iterable[str], *, after_ms: int = 0, timeout_s: float = RUN_TIMEOUT_S) -> int:
        """Wait until each entry ran for a slot after *after_ms*; return the present moment."""
        names = list(entries)
        wait_until(lambda: self.ledger.reaches(names, after_ms), timeout_s, message=f"{len(names)} entries to run after {after_ms}")
        return now_ms()

    def watch(self, grids: Iterable[Grid], *, for_ms: int) -> int:
        """Let every entry run on for so long; return the moment up to which all slots must have run by now."""
        until_ms = now_ms() + for_ms
        self.wait_for_runs((grid.entry for grid in grids), after_ms=until_ms, timeout_s=RUN_TIMEOUT_S + for_ms / 1000)
        return until_ms

    def check(self, grids: Iterable[Grid], *, from_ms: int, until_ms: int, since_ms: int = 0, skipped: Iterable[Line] = ()) -> Findings:
        """Return what is wrong with what ran for the entries of *grids*; slots before *since_ms*, of another grid, are left out."""
        known = {grid.entry: grid for grid in grids}
        runs = [line for line in self.ledger.lines() if line.entry in known and (line.slot_ms or since_ms) >= since_ms]
        return check([*runs, *skipped], known.values(), Window(from_ms, until_ms))

    def skipped(self, *entries: str) -> list[Line]:
        """Return the ranges of slots that are recorded as skipped."""
        return recorded_skips(self.timewheel, entries)


def _runs_elsewhere() -> None:
    """Stand for a task of the project; a project is known by the packages of its tasks."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def spread(number: int, *, period_ms: int = 1000) -> list[Grid]:
    """Return grids of *number* entries whose slots are spread evenly over the period."""
    return [Grid(f"entry-{index}", period_ms, index * period_ms // number) for index in range(number)]


def schedule_of(grids: Iterable[Grid], **options: Any) -> dict[str, Any]:
    """Return the ``beat_schedule`` of *grids*; *options* are our own, such as tolerance."""
    return {
        grid.entry: {
            "task": "shop.record",
            "schedule": {"every": grid.period_ms / 1000, "anchor_ms": grid.anchor_ms},
            "options": {"tw": options},
        }
        for grid in grids
    }
