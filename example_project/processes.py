"""Processes: the worker and the beats, each a `celery` command in a process of its own, as it is run in a deployment.

They are ended by their own pids, and, where the system can (Linux), by the kernel when this process dies in any other way.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from example_project import URL_VARIABLE

ROOT = Path(__file__).parent.parent
PR_SET_PDEATHSIG = 1
END_TIMEOUT_S = 8.0
LOG_LINES_SHOWN = 12


@dataclass(eq=False, slots=True)
class Child:
    """A running `celery` command, with its log in a file."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    killed: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ended(self) -> bool:
        """Whether it ended although nobody killed it."""
        return not self.killed and self.process.poll() is not None

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self.killed = True
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LOG_LINES_SHOWN:]) or "(its log is empty)"


class Children:
    """All processes of one run."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.all: list[Child] = []
        self.environment = {**os.environ, URL_VARIABLE: url, "PYTHONPATH": _with_root(os.environ.get("PYTHONPATH"))}

    def worker(self, number: int = 1) -> Child:
        """Start a worker with two threads."""
        name = ("--hostname", f"worker-{number}@%h")
        return self._start(
            f"worker {number}", "worker", *name, "--pool", "threads", "--concurrency", "2", "--without-gossip", "--without-mingle"
        )

    def beat(self, number: int) -> Child:
        """Start a beat; the first one to come leads, the others stand by."""
        schedule = self.folder / f"beat-{number}.schedule"
        pid_file = f"--pidfile={self.folder / f'beat-{number}.pid'}"
        return self._start(f"beat {number}", "beat", "-S", "timewheel", "--schedule", str(schedule), pid_file)

    def of_pid(self, pid: int) -> Child | None:
        """Return the running process with that pid, if it is ours."""
        return next((child for child in self.all if child.pid == pid and child.process.poll() is None), None)

    def ended(self) -> Child | None:
        """Return a process that has ended by itself, which none should."""
        return next((child for child in self.all if child.ended), None)

    def end(self) -> None:
        """End every process, with SIGKILL the one that does not listen."""
        running = [child for child in self.all if child.process.poll() is None]
        for child in running:
            child.killed = True
            child.process.terminate()
        for child in running:
            try:
                child.process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()

    def _start(self, name: str, *arguments: str) -> Child:
        log = self.folder / f"{name.replace(' ', '-')}.log"
        command = [sys.executable, "-m", "celery", "-A", "example_project.app", *arguments, "--loglevel", "INFO"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,  # Ctrl-C is for this process, which ends the others in its own order
                preexec_fn=_die_with_parent(),
            )
        self.all.append(Child(name, process, log))
        return self.all[-1]


def _with_root(path: str | None) -> str:
    return str(ROOT) if not path else f"{ROOT}{os.pathsep}{path}"


def _die_with_parent() -> Callable[[], object] | None:
    """Return what a child does before it becomes the command, or None where the system cannot."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return lambda: library.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
