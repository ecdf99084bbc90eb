"""Processes: every process of one test, its settings, its log and its end."""

import json
import os
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from tests.processes.container import ProcessContainer

APPLICATION = Path(__file__).parent / "application"
ROOT = Path(__file__).parents[2]
LOG_SHOWN = 4000

QUIET_WORKER = ("--without-gossip", "--without-mingle", "--without-heartbeat")


class Processes:
    """Starts the ``celery`` commands of one test in *folder* and ends them all."""

    def __init__(self, folder: Path, *, url: str) -> None:
        self.folder = folder
        self.url = url
        self.ledger = folder / "ledger"
        self.all: list[ProcessContainer] = []
        self._number = count(1)

    def beat(self, *options: str, module: str = "shop", scheduler: str = "timewheel", **settings: Any) -> ProcessContainer:
        """Start a beat; *settings* as `celery` takes them."""
        name = f"beat-{next(self._number)}"
        files = (f"--pidfile={self.folder / name}.pid", f"--schedule={self.folder / 'shelve'}")
        command = ("beat", "-S", scheduler, "-l", "INFO", *files, *options)
        return self.celery(name, *command, module=module, ready_prompt="beat: Starting...", **settings)

    def worker(self, *options: str, pool: str = "solo", module: str = "shop", **settings: Any) -> ProcessContainer:
        """Start a stock worker."""
        name = f"worker-{next(self._number)}"
        command = ("worker", "-n", f"{name}@%h", "-P", pool, "-l", "INFO", *QUIET_WORKER, *options)
        return self.celery(name, *command, module=module, ready_prompt="ready.", **settings)

    def celery(
        self,
        name: str,
        *command: str,
        module: str = "shop",
        ready_prompt: str = "",
        schedule: Mapping[str, Any] | None = None,
        conf: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ProcessContainer:
        """Start ``celery -A module command`` with that ``beat_schedule`` and configuration; a value of None takes a key out.

        *environment* is added to what the process has from here.
        """
        container = ProcessContainer(
            name,
            [sys.executable, "-m", "celery", "-A", module, *command],
            log=self.folder / f"{name}.log",
            environment={**self._environment(name, schedule or {}, conf or {}), **(environment or {})},
            folder=self.folder,
            ready_prompt=ready_prompt,
        )
        self.all.append(container)
        return container.start()

    def _environment(self, name: str, schedule: Mapping[str, Any], conf: Mapping[str, Any]) -> dict[str, str]:
        standard = {"broker_url": self.url, "result_backend": self.url, "broker_connection_retry_on_startup": True}
        settings = self.folder / f"{name}.json"
        whole = {key: value for key, value in {**standard, **conf}.items() if value is not None}
        settings.write_text(json.dumps({"schedule": schedule, "conf": whole}))
        return {
            "SHOP_SETTINGS": str(settings),
            "SHOP_LEDGER": str(self.ledger),
            "PYTHONPATH": os.pathsep.join([str(APPLICATION), str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PYTHONUNBUFFERED": "1",
        }

    def end(self) -> None:
        for container in self.all:
            container.teardown()

    def logs(self) -> str:
        """Return the ends of all logs, for a person who looks at a failed test."""
        return "\n".join(f"----- {each.name} ({each.status})\n{_telling(each.logs())}" for each in self.all)


def _telling(log: str) -> str:
    """Return the end of *log* without the lines that a worker writes for each task."""
    return "\n".join(line for line in log.splitlines() if "] Task shop." not in line)[-LOG_SHOWN:]
