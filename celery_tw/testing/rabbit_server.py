"""RabbitServer: a RabbitMQ node of a test's own, which it may kill and start again with its data.

Everything it needs is in one temporary folder, beside nothing of the machine's own RabbitMQ: configuration, data, logs, cookie, and a name
server (epmd) on a port of its own. It takes some three seconds to start. The guard of the embedded server ends it when its owner dies.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from celery_tw.embedded import GUARD
from celery_tw.errors import ServerUnavailable

SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/usr/local/sbin/rabbitmq-server", "/opt/rabbitmq/sbin/rabbitmq-server")
"""Where the server's own script lies; the one on the PATH is often a wrapper that changes the user."""

RUN = 'epmd -port "$ERL_EPMD_PORT" & names=$!; "$0" & node=$!; trap "kill -TERM $node" TERM; wait $node; wait $node; kill $names'
"""What runs a node; left to itself, that would start a name server which outlives it. A signal ends the first of the two waits."""

START_S = 60.0
POLL_S = 0.05


def find_rabbitmq() -> str:
    """Return the path of the RabbitMQ server's script; raises `ServerUnavailable`."""
    for path in SCRIPTS:
        if os.access(path, os.X_OK):
            return path
    raise ServerUnavailable(f"no RabbitMQ server is installed: looked for {', '.join(SCRIPTS)}")


class RabbitServer:
    """One node on a port of its own; use it as a context, or call `start` and `close`.

    *configuration* is added to the node's own, as in ``listeners.ssl.1 = 127.0.0.1:5671``.
    """

    def __init__(self, *, configuration: str = "") -> None:
        self._script = find_rabbitmq()
        self.folder = Path(tempfile.mkdtemp(prefix="tw-rabbit-"))
        self.port, self._distribution_port, self._epmd_port = _free_ports(3)
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = false\n{configuration}\n")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def start(self) -> Self:
        """Start the node, with the data it had when it was last ended or killed; return when it answers."""
        with (self.folder / "out").open("ab") as output:
            self._guard = guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), str(self.folder), "/bin/sh", "-c", RUN, self._script],
                env={**os.environ, **self._environment()},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        assert guard.stdout is not None
        self._pid = int(guard.stdout.readline() or 0)
        deadline = time.monotonic() + START_S
        while not self._answers():
            if guard.poll() is not None or time.monotonic() > deadline:
                raise ServerUnavailable(f"RabbitMQ did not start: {(self.folder / 'out').read_text(errors='replace')[-2000:]}")
            time.sleep(POLL_S)
        return self

    def kill(self) -> None:
        """Kill the node with SIGKILL, as a power cut does; its data stay."""
        guard, self._guard = self._guard, None
        if guard is not None:
            os.killpg(guard.pid, signal.SIGKILL)
            _see_off(guard)

    def stop(self) -> None:
        """End the node as an operator does; its data stay."""
        guard, self._guard = self._guard, None
        if guard is not None:
            os.kill(self._pid, signal.SIGTERM)
            _see_off(guard)

    def control(self, *command: str) -> str:
        """Run ``rabbitmqctl`` on this node, as in ``control("close_all_connections", "because")``; return what it says."""
        script = str(Path(self._script).with_name("rabbitmqctl"))
        options = ["-n", self._environment()["RABBITMQ_NODENAME"], "-q", *command]
        environment = {**os.environ, **self._environment()}
        return subprocess.run([script, *options], env=environment, check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        """End the node and remove all that was its."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            try:
                return bool(probe.recv(1))
            except OSError:
                return False

    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "HOME": folder,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_NODENAME": f"tw{self.port}@localhost",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
        }


def _see_off(guard: "subprocess.Popen[bytes]") -> None:
    """Wait until *guard* and its server have ended, by force when that takes too long."""
    try:
        guard.wait(START_S)
    except subprocess.TimeoutExpired:
        os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()
    for pipe in (guard.stdin, guard.stdout):
        if pipe is not None:
            pipe.close()


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listened on a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
