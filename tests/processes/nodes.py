"""Nodes: beats and workers as pytest-celery knows nodes, over local processes."""

import signal
from socket import gethostname
from typing import Any

import celery
from pytest_celery import CeleryTestNode, CeleryTestWorker

from tests.processes.container import ProcessContainer


class Beat(CeleryTestNode):
    """One beat process."""

    container: ProcessContainer

    @property
    def pid(self) -> int:
        return self.container.pid

    def pause(self) -> None:
        """Stop the process where it stands (SIGSTOP), as a host that swaps or a debugger does."""
        self.container.send(signal.SIGSTOP)

    def go_on(self) -> None:
        self.container.send(signal.SIGCONT)

    def end(self) -> int:
        """End it as a deployment does (SIGTERM); return the exit code."""
        self.container.send(signal.SIGTERM)
        return self.container.wait()

    def die(self) -> None:
        """Kill it with SIGKILL and wait until it is gone."""
        self.kill("SIGKILL")
        self.container.wait()


class Worker(CeleryTestWorker):
    """One stock Celery worker process."""

    container: ProcessContainer

    @property
    def version(self) -> str:
        return str(celery.__version__)

    @property
    def log_level(self) -> str:
        return "INFO"

    @property
    def worker_name(self) -> str:
        return self.container.name

    @property
    def worker_queue(self) -> str:
        return "celery"

    def hostname(self) -> str:
        return f"{self.worker_name}@{gethostname()}"

    def get_running_processes_info(self, *args: Any, **kwargs: Any) -> list[dict]:
        raise NotImplementedError("a local process has no container to look into")
