"""ACL: the least that a Redis user needs, read from the scripts themselves.

Redis holds a script to the rights of its caller, commands and keys alike. So the commands that the scripts call are the ones to grant, and
a list kept by hand would be wrong after the next script. What the stores ask without a script stands here in short lists.

========= ============================================ =====================================================================
role      who                                          may
========= ============================================ =====================================================================
scheduler beats with the time wheel                    all of it, and push to the queues
client    web processes and workers of the app         store, change, cancel and read; no queue of the broker
observer  monitoring                                   read, and nothing else
========= ============================================ =====================================================================

All are held to the keys of one namespace. The rules are for connections of the time wheel alone (``tw_redis_url`` with a user of its own);
what kombu and the result backend do under the broker's own user is theirs.
"""

import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Literal, get_args

from celery_tw.core.command import Operation
from celery_tw.stores.redis.scripts import script

Role = Literal["scheduler", "client", "observer"]
ROLES: tuple[Role, ...] = get_args(Role)

LEADERS_OWN = frozenset(
    {
        "acquire",
        "admit",
        "drain",
        "fire",
        "fire_once",
        "hold_clock",
        "make_room",
        "poll",
        "quarantine",
        "renew",
        "rerender",
        "resend",
        "report_starving",
        "resign",
        "settle",
        "sweep_templates",
    }
)
"""Scripts that only a scheduler calls."""

BESIDE_RESULTS = frozenset({"conclude_run"})
"""Scripts that write where the result backend does, and are called with its user alone."""

CONNECTING = ("auth", "client|setname", "hello", "ping", "select")
SINCE_7_2 = ("client|setinfo",)
"""A command that redis-py sends when it connects; older servers do not know it and refuse a rule that names it."""
READING = (
    "get", "hget", "hgetall", "hkeys", "hlen", "hmget", "hscan", "llen", "lrange", "mget", "pttl", "smembers", "time", "xlen", "xrange",
    "xread", "xrevrange", "zcard", "zcount", "zmscore", "zrange", "zrevrange", "zrevrank", "zscore",
)  # fmt: skip
WRITING = ("evalsha", "script|load", "multi", "exec", "incr", "incrby", "hset", "hdel", "del", "set")
ASKED_AT_THE_START = ("config|get",)

_CALLED = re.compile(r"(?:redis\.p?call|keep)\([^'()]*'([A-Z]+)'")


def rules(role: Role, *, namespace: str, queues: Iterable[str] = (), server: tuple[int, int] = (7, 2), shard: int = 0) -> list[str]:
    """Return the rules of ``ACL SETUSER`` for *role*, without name, state and password, for a *server* of that version or a later one.

    *queues* are the names of the broker's queues to which a scheduler pushes; a message with a priority goes to a key of its own beside it.
    """
    keys = f"{'%R' if role == 'observer' else ''}~{{tw:{namespace}:{shard}}}:*"
    granted = ["resetkeys", "resetchannels", "-@all", keys]
    if role == "scheduler":
        granted += [pattern for queue in queues for pattern in _queue_keys(queue)]
    commands = _commands(role) | ({*SINCE_7_2} if server >= (7, 2) else set())
    return granted + [f"+{command}" for command in sorted(commands)]


def script_names() -> list[str]:
    """Return the names of all scripts."""
    scripts = files("celery_tw.stores.redis").joinpath("lua").iterdir()
    return sorted(file.name.removesuffix(".lua") for file in scripts if file.name.endswith(".lua"))


def commands_of(name: str) -> set[str]:
    """Return the commands that the script *name* calls by name."""
    return {command.lower() for command in _CALLED.findall(script(name).text)}


def _commands(role: Role) -> set[str]:
    commands = {*CONNECTING, *READING}
    if role != "observer":
        commands |= {*WRITING, *_of_scripts(name for name in _granted(role))}
    if role == "scheduler":
        commands |= {*ASKED_AT_THE_START, *_operations()}
    return commands


def _granted(role: Role) -> list[str]:
    return [name for name in script_names() if name not in BESIDE_RESULTS and (role == "scheduler" or name not in LEADERS_OWN)]


def _of_scripts(names: Iterable[str]) -> set[str]:
    return {command for name in names for command in commands_of(name)}


def _operations() -> Iterator[str]:
    """Yield what a fire asks of the broker; a claim and a count go to keys of ours, by commands that the script names."""
    yield from (operation for operation in get_args(Operation) if operation not in ("claim", "count"))


def _queue_keys(queue: str) -> tuple[str, str]:
    escaped = re.sub(r"([*?\[\]\\])", r"\\\1", queue)
    return f"~{escaped}", f"~{escaped}\x06\x16*"
