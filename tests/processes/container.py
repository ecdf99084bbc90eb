"""ProcessContainer: a local process that pytest-celery takes for a container.

pytest-celery's nodes ask little of what they wrap: a name, a status, logs, ``kill``, ``restart``, ``teardown``. A process in a session of
its own, with its output in a file, can answer all of that, and can be stopped, continued and killed by pid as no container can.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

START_TIMEOUT_S = 30.0
END_TIMEOUT_S = 10.0


class ProcessContainer:
    """One process, started again by `restart`, its log kept in *log*.

    *ready_prompt* is what it logs when it is ready. *celeryconfig* is what the node's cluster adds to the configuration of the app.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        folder: Path,
        ready_prompt: str = "",
        celeryconfig: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.environment = dict(environment)
        self.folder = folder
        self.ready_prompt = ready_prompt
        self._celeryconfig = dict(celeryconfig or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "ProcessContainer":
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                cwd=self.folder,
                start_new_session=True,
            )
        return self

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, f"{self.name} was never started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def id(self) -> str:
        return f"{self.name}-{self.pid}"

    @property
    def status(self) -> str:
        return "running" if self._process is not None and self._process.poll() is None else "exited"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return dict(self._celeryconfig)

    def logs(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def ready(self) -> bool:
        """Wait until the process has said that it is ready; fail when it ends before."""
        wait_until(self._ready_or_ended, START_TIMEOUT_S, message=f"{self.name} to log {self.ready_prompt!r}")
        assert self.status == "running", f"{self.name} ended with code {self.process.returncode}:\n{self.logs()[-2000:]}"
        return True

    def _ready_or_ended(self) -> bool:
        return self.ready_prompt in self.logs() or self.status != "running"

    def send(self, what: signal.Signals) -> None:
        """Send a signal to the process alone, not to its children."""
        self.process.send_signal(what)

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal to the process alone."""
        self.send(_signal(signal))

    def wait(self, timeout_s: float = END_TIMEOUT_S) -> int:
        """Wait until the process has ended; return its exit code."""
        return self.process.wait(timeout_s)

    def reload(self) -> None:
        """Do nothing: a process needs no second look. (pytest-celery calls this after each kill and restart.)"""

    def restart(self, timeout: float = END_TIMEOUT_S) -> None:
        """End the process as a deployment does, if it runs, and start it again."""
        self._end(timeout)
        self.start()

    def teardown(self) -> None:
        """End the process, and with it whatever is left of its session."""
        if self._process is None:
            return
        self._end(END_TIMEOUT_S)
        self._signal_session(signal.SIGKILL)

    def _end(self, timeout_s: float) -> None:
        if self.status != "running":
            return
        self._signal_session(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._signal_session(signal.SIGKILL)
            self.process.wait()

    def _signal_session(self, what: signal.Signals) -> None:
        try:
            os.killpg(self.pid, what)
        except ProcessLookupError:  # the whole session is gone already, which is what is wanted
            return


def _signal(given: str | int) -> signal.Signals:
    return signal.Signals[given] if isinstance(given, str) else signal.Signals(given)


class ServerContainer:
    """A running server of this process's own, as pytest-celery's broker or backend."""

    status = "running"

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.id = name
        self.url = url

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.url, "host_url": self.url}

    def ready(self) -> bool:
        return True

    def logs(self) -> str:
        return ""

    def teardown(self) -> None:
        """Do nothing: whoever started the server ends it."""
