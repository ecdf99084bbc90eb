"""`python -m example_project [--keep]`: run the demonstration on a server of its own; exit 0 when no slot was missed or doubled.

`--keep` leaves everything running afterwards, with a new second beat, until Ctrl-C.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from os.path import relpath
from pathlib import Path
from statistics import median
from types import FrameType

from celery_tw import CeleryTWError
from celery_tw.embedded import EmbeddedServer
from example_project import URL_VARIABLE
from example_project.ledger import Line
from example_project.observer import Failed, Observer
from example_project.processes import Children
from example_project.screen import Screen, screen
from example_project.verdict import Outcome

TRY = """\
It keeps running. In another terminal, in this folder:

    export {variable}='{url}'
    {python} -m celery -A example_project.app tw status
    {python} -m celery -A example_project.app tw schedule list
    {python} -m celery -A example_project.app tw schedule pause stock-level --note 'counting by hand'
    {python} -m celery -A example_project.app tw schedule add tea shop.report --every 3 --args '["tea"]'
    {python} -m celery -A example_project.app tw schedule history stock-level --limit 10
    {python} -m celery -A example_project.app tw schedule preview opening-bell -n 5

Logs are in {folder}. Ctrl-C ends it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m example_project", description="A worker, two beats, and the leader killed.")
    parser.add_argument("--keep", action="store_true", help="leave everything running afterwards, until Ctrl-C")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _exit)
    shown = screen()
    folder = Path(tempfile.mkdtemp(prefix="example-project-"))
    try:
        with EmbeddedServer.start() as server:
            return _run_on(server.url, folder, shown, keep=options.keep)
    except (CeleryTWError, Failed) as error:
        shown.verdict(f"FAILED: {error}", right=False)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_on(url: str, folder: Path, shown: Screen, *, keep: bool) -> int:
    os.environ[URL_VARIABLE] = url
    from example_project.app import app, tw  # noqa: PLC0415 - its settings read the URL when they are imported
    from example_project.demonstration import Demonstration  # noqa: PLC0415
    from example_project.tasks import ledger  # noqa: PLC0415

    children = Children(url, folder)
    observer = Observer(ledger, children, shown)
    try:
        demonstration = Demonstration(app, tw, children, observer)
        outcomes = demonstration.run()
        code = _sum_up(outcomes, observer.lines, demonstration.takeover_s, shown)
        if keep:
            _keep(observer, url)
        return code
    finally:
        children.end()


def _sum_up(outcomes: list[Outcome], lines: list[Line], takeover_s: float, shown: Screen) -> int:
    late_ms = [line.started_ms - line.slot_ms for line in lines if line.slot_ms is not None]
    shown.step("What had to run, and what ran (slots from before the watch began may have run too)")
    shown.summary(outcomes)
    lateness = f"{median(late_ms):.0f} ms after their slots (median; at most {max(late_ms)} ms)"
    figures = f"Tasks started {lateness}; the stand-by led after {takeover_s:.1f} s."
    right = all(outcome.right for outcome in outcomes)
    if right:
        shown.verdict(f"No slot was missed, none ran twice. {figures}", right=True)
    else:
        wrong = ", ".join(outcome.entry for outcome in outcomes if not outcome.right)
        shown.verdict(f"FAILED: slots were missed, doubled or unexpected: {wrong}. {figures}", right=False)
    return 0 if right else 1


def _keep(observer: Observer, url: str) -> None:
    observer.children.beat(3)
    observer.screen.step(TRY.format(variable=URL_VARIABLE, url=url, python=relpath(sys.executable), folder=observer.children.folder))
    try:
        while True:
            observer.look()
    except KeyboardInterrupt:
        observer.screen.step("Ending")


def _exit(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
