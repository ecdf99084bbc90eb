"""Faults: what goes wrong, when, and for whom. Plain values, so that a history can be made shorter by leaving some out.

A fault *at a call* waits from its moment on for the next call of its host, of the kind *call* if that is given, and strikes there: the
host is stopped, killed or deceived just before or just after the server has run what it asked for.
"""

from dataclasses import dataclass
from typing import Literal

Where = Literal["before", "after"]

ANY_SCHEDULER = "s"
"""The host of a fault that strikes whichever scheduler makes the call first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFault:
    """What strikes one call of *host* from *at_ms* on: of the script or command *call*, of any when it is ''."""

    at_ms: int
    host: str
    call: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(CallFault):
    """The process is killed, and another takes its place *restart_ms* later."""

    where: Where
    restart_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze(CallFault):
    """The process is stopped for *for_ms*."""

    where: Where
    for_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseReply(CallFault):
    """The server does as asked, and the answer does not come: the connection breaks, or nothing is heard until the time-out."""

    how: Literal["reset", "timeout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay(CallFault):
    """The call reaches the server *for_ms* later, when the caller may have given it up."""

    for_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(CallFault):
    """The server answers *times* calls with *error* and does nothing; '' stands for a connection that breaks first."""

    error: str
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The scheduler *host* is told to end, resigns, and another takes its place."""

    at_ms: int
    host: str
    restart_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The server is away for *for_ms*; it keeps its data."""

    at_ms: int
    for_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """The server stands still for *for_ms*, and then does all that was asked meanwhile."""

    at_ms: int
    for_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """All connections break, answers under way with them."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerClock:
    """The server's clock steps by *step_ms*."""

    at_ms: int
    step_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostClock:
    """The wall clock of *host* steps by *step_ms*."""

    at_ms: int
    host: str
    step_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushScripts:
    """The server forgets all scripts."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimNews:
    """The next news are cut off before anybody has read them, as when more come at once than are kept."""

    at_ms: int


Fault = CallFault | Stop | Outage | Stall | Reset | ServerClock | HostClock | FlushScripts | TrimNews

ERRORS = (
    "",
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "UNKILLABLE Sorry the script already executed write commands against the dataset.",
    "LOADING Redis is loading the dataset in memory",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "NOPERM User default has no permissions to run the command",
    "NOAUTH Authentication required.",
    "ERR max number of clients reached",
)
"""One of each class of errors that a server answers with, and '' for a connection that breaks."""
