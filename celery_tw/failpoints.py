"""Failpoints: places where a test can make this very process die, stop, fail or dawdle, so that what happens then is seen and not assumed.

``TW_FAILPOINT`` names a place and what is to happen when the process first comes there, or for the n-th time:

==========================  ==================================================================================
``K3:kill``                 the process is killed with SIGKILL
``K3:stop``                 it is stopped as by a debugger or a suspended host, until SIGCONT
``K3:raise:ReadOnlyError``  an error is raised: one of ours, of redis-py, or of Python, by its name
``K3:delay:200ms``          the thread dawdles for so long, this time and each time after
``K3:kill:5``               the fifth time; likewise ``K3:delay:200ms:5``, from the fifth time on
==========================  ==================================================================================

With ``TW_FAILPOINT_ONCE`` only one process does so, whichever makes the file that it names: the others go on, as they must where a process
that dies is replaced. Without the variable each place costs a comparison.

=====  =============================================================================
K0     before what is due is claimed
K1     after it was claimed
K2     before claimed messages are published
K3     after they were sent to the broker, before it has confirmed them
K4     after the broker has confirmed them, before that is recorded
K5     after it is recorded
K6     after the lease was renewed in the store, before this process knows it
K7     after this process has stopped leading, before the store knows it
L0     before messages that were chosen from lanes are admitted
L1     after they were admitted
R1     before the body of a run
R2     after the body, before its result is on record
R3     after its result is on record, before Celery passes it on
R4     after Celery has passed it on, before the run is finished
R5     after the run is finished, before its message is acknowledged
=====  =============================================================================
"""

import builtins
import os
import re
import signal
import threading
import time
from itertools import count
from typing import NamedTuple

import redis.exceptions

from celery_tw import errors

_GRAMMAR = re.compile(r"(?P<place>\w+):(?:(?P<signal>kill|stop)|raise:(?P<error>\w+)|delay:(?P<delay_ms>\d+)ms)(?::(?P<time>\d+))?")
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class _Armed(NamedTuple):
    """What ``TW_FAILPOINT`` asks for; *place* is empty when it asks for nothing."""

    place: str = ""
    time: int = 1
    signal: str | None = None
    error: type[BaseException] | None = None
    delay_ms: int = 0


def parse(text: str) -> _Armed:
    """Return what *text*, the value of ``TW_FAILPOINT``, asks for; raises `ValueError`."""
    if not text:
        return _Armed()
    asked = _GRAMMAR.fullmatch(text)
    if asked is None:
        raise ValueError(f"TW_FAILPOINT: expected K3:kill, K3:stop, K3:raise:ReadOnlyError or K3:delay:200ms, or one with :5, got {text!r}")
    return _Armed(asked["place"], int(asked["time"] or 1), asked["signal"], _error(asked["error"]), int(asked["delay_ms"] or 0))


def _error(name: str | None) -> type[BaseException] | None:
    if name is None:
        return None
    for module in (errors, redis.exceptions, builtins):
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
    raise ValueError(f"TW_FAILPOINT: expected the name of an error of celery_tw, redis or Python, got {name!r}")


_armed = parse(os.environ.get("TW_FAILPOINT", ""))
_passes = count(1)


def failpoint(name: str) -> None:
    """Do nothing, unless ``TW_FAILPOINT`` names this place."""
    if name != _armed.place:
        return
    passed = next(_passes)
    if _armed.delay_ms and passed >= _armed.time:
        time.sleep(_armed.delay_ms / 1000)
    if passed == _armed.time and _is_first(os.environ.get("TW_FAILPOINT_ONCE")):
        _strike(name)


def _is_first(flag: str | None) -> bool:
    """Return whether no process has been here before this one; always when no file can tell."""
    if not flag:
        return True
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _strike(name: str) -> None:
    if _armed.signal is not None:
        signal.pthread_kill(threading.get_ident(), _SIGNALS[_armed.signal])  # this thread, so that it does not go on for a moment
    if _armed.error is not None:
        raise _armed.error(f"as asked for at {name}")
