"""A Redis that dies, comes back with all, some or none of its data, or refuses to work for a while."""

import os
import random
import shutil
import signal
import threading
from collections.abc import Callable

import redis

from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import StoreRefused
from tests.faults.outcome import Played
from tests.faults.scene import Scene, scene
from tests.faults.wire import Wire
from tests.waiting import wait_until

BUSY = "local until_s = tonumber(redis.call('TIME')[1]) + tonumber(ARGV[1]) while tonumber(redis.call('TIME')[1]) < until_s do end"
Strike = Callable[[Scene, redis.Redis], object]


def killed_with_its_log(dice: random.Random, times: int) -> Played:
    """Redis is killed and comes back on its append-only file: nothing is lost."""
    with scene(dice) as s:
        s.start(2)
        from_ms = s.now_ms()
        for _ in range(times):
            s.pause(dice.uniform(0.5, 2))
            with s.strike("Redis killed"):
                s.server.kill()
                s.pause(dice.uniform(0.1, 2))
                s.revive_server()
                s.recovered_ms()
        return s.judge(from_ms=from_ms, until_ms=s.settle())


def restarted_without_data(dice: random.Random, times: int) -> Played:
    """Redis forgets everything: entries of the settings are there again, others are gone for good, epochs grow all the same.

    The slots of the time in which nobody knew them are lost, which is documented: the window begins when all is there again.
    """
    with scene(dice, appendonly=False, tasks=False) as s:
        s.start(2)
        for number in range(times):
            name = f"stored-{number}"
            s.timewheel.schedule(name, s.app.signature("shop.record"), 3600.0)
            with s.strike("Redis restarted empty"):
                s.server.kill()
                s.revive_server()
                from_ms = s.recovered_ms()
        status, until_ms = s.timewheel.status(), s.settle()
        assert status.names == len(s.grids), f"{status.names} entries where the settings have {len(s.grids)}"
        return s.judge(from_ms=from_ms, until_ms=until_ms, note="slots between the loss and the next term are lost with the data")


def older_log_restored(dice: random.Random, times: int) -> Played:
    """Redis comes back as it was some seconds ago: slots of the lost time are fired again, as copies of the same sends."""
    with scene(dice, tasks=False) as s:
        data, kept = s.folder / "data", s.folder / "kept"
        s.start(2)
        from_ms = s.now_ms()
        for _ in range(times):
            shutil.copytree(data, kept)
            s.pause(dice.uniform(1, 3))
            with s.strike("older data restored"):
                s.server.kill()
                shutil.rmtree(data / "appendonlydir")
                shutil.move(kept / "appendonlydir", data / "appendonlydir")
                shutil.rmtree(kept)
                s.revive_server()
                s.recovered_ms()
        until_ms = s.settle()
        return s.judge(from_ms=from_ms, until_ms=until_ms, copies_run=True, except_rules=("claimed twice",), note="repeats are documented")


def lagging_replica_promoted(dice: random.Random, times: int) -> Played:
    """The master dies while its replica has not heard of it for some seconds, and the replica becomes the master."""
    played = []
    for _ in range(times):
        with (
            scene(dice, tasks=False) as s,
            EmbeddedServer.start() as replica,
            Wire(s.server.socket_path) as way,
            Wire(s.server.socket_path) as link,
        ):
            with replica.client() as client:
                client.replicaof("127.0.0.1", link.port)
                wait_until(lambda: client.info("replication")["master_link_status"] == "up", 30)
            s.start(2, conf={"broker_url": way.url, "result_backend": way.url})
            from_ms = s.now_ms()
            link.part(deaf=False)
            s.pause(dice.uniform(1, 3))
            with s.strike("lagging replica promoted"):
                s.server.kill()
                with replica.client() as client:
                    client.replicaof("NO", "ONE")
                s.lead_to(replica)
                way.lead_to(replica.socket_path)
                s.recovered_ms()
            until_ms = s.settle()
            played.append(s.judge(from_ms=from_ms, until_ms=until_ms, copies_run=True, except_rules=("claimed twice",)))
    return Played.sum(played, note="repeats are documented")


def demoted_for_a_while(dice: random.Random, times: int) -> Played:
    """The server becomes a read-only replica under its schedulers, and a master again."""

    def strike(s: Scene, client: redis.Redis) -> None:
        client.replicaof("127.0.0.1", 1)
        s.pause(dice.uniform(1, 5))
        client.replicaof("NO", "ONE")

    return _hurt(dice, times, "READONLY", strike)


def out_of_memory(dice: random.Random, times: int) -> Played:
    """The server has no memory left: entries are refused with a typed error, and what is there goes on firing in time."""

    def strike(s: Scene, client: redis.Redis) -> None:
        client.config_set("maxmemory", 1)
        try:
            s.timewheel.schedule("one-more", s.app.signature("shop.record"), 3600.0)
            raise AssertionError("a full server took an entry")
        except StoreRefused:
            s.wait_for_fires(s.now_ms() + 1000)
        client.config_set("maxmemory", 0)

    return _hurt(dice, times, "OOM", strike)


def scripts_flushed(dice: random.Random, times: int) -> Played:
    """The server forgets its scripts at any moment."""
    return _hurt(dice, times, "SCRIPT FLUSH", lambda s, client: client.script_flush())


def clients_killed(dice: random.Random, times: int) -> Played:
    """The server throws all its clients out at any moment."""
    return _hurt(dice, times, "CLIENT KILL", lambda s, client: client.client_kill_filter(_type="normal", skipme=True))


def busy_with_a_script(dice: random.Random, times: int) -> Played:
    """A script of somebody else's keeps the server busy for longer than the lease."""

    def strike(s: Scene, client: redis.Redis) -> None:
        client.config_set("busy-reply-threshold", 100)
        with s.connect(socket_timeout=30) as slow:
            busy = threading.Thread(target=lambda: slow.eval(BUSY, 0, dice.randint(3, 5)))
            busy.start()
            busy.join()

    return _hurt(dice, times, "BUSY", strike)


def stopped_for_a_while(dice: random.Random, times: int) -> Played:
    """The server stands still, as on a host that swaps, for longer than the lease."""

    def strike(s: Scene, client: redis.Redis) -> None:
        os.kill(s.server.pid, signal.SIGSTOP)
        s.pause(dice.uniform(1, 6))
        os.kill(s.server.pid, signal.SIGCONT)

    return _hurt(dice, times, "Redis stopped", strike)


def emptied_by_mistake(dice: random.Random, times: int) -> Played:
    """Somebody calls FLUSHALL: as with a server that comes back without data."""
    with scene(dice, tasks=False) as s:
        s.start(2)
        for _ in range(times):
            s.pause(dice.uniform(0.5, 2))
            with s.strike("FLUSHALL"), s.connect() as client:
                client.flushall()
                from_ms = s.recovered_ms()
        return s.judge(from_ms=from_ms, until_ms=s.settle(), note="slots between the loss and the next term are lost with the data")


def _hurt(dice: random.Random, times: int, what: str, strike: Strike) -> Played:
    with scene(dice) as s:
        s.start(2)
        from_ms = s.now_ms()
        for _ in range(times):
            s.pause(dice.uniform(0.2, 1.5))
            with s.strike(what), s.connect() as client:
                strike(s, client)
                s.leader()
        return s.judge(from_ms=from_ms, until_ms=s.settle())
