"""Embedded guard: the small process between an embedded server and its owner, so that the server never outlives the owner.

Run by path, with the standard library only: ``python -I -S embedded_guard.py OWNER_PID FOLDER SERVER ARGUMENT…``. It starts the
server, writes the server's pid to standard output and ends with the server, with its exit code.

::

    owner ──pipe──▶ guard ──▶ server
      │               ├── the server ends              → the guard ends; the folder stays, for a restart or the owner's clean-up
      └── is gone ────┴── end of file, or a new parent → the guard ends the server and removes FOLDER

The pipe tells at once that the owner is gone, but a forked child of the owner may hold it open: so the parent's pid is looked at too.
A guard that is killed takes the server with it where the system can do that (Linux, PR_SET_PDEATHSIG). That request is bound to the
*thread* that made it, which is why it is made here, in a process with one main thread, and not in the owner.
"""

import ctypes
import os
import select
import shutil
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1
LOOK_EVERY_S = 0.5
GRACE_S = 5.0


def main(argv: list[str]) -> int:
    owner, folder, command = int(argv[1]), argv[2], argv[3:]
    server = spawn(command)
    os.write(sys.stdout.fileno(), b"%d\n" % server)
    watch = threading.Thread(target=end_with_owner, args=(owner, server), daemon=True)
    watch.start()
    _, status = os.waitpid(server, 0)
    if owner_is_gone(owner, wait_s=0):
        shutil.rmtree(folder, ignore_errors=True)
    return abs(os.waitstatus_to_exitcode(status))


def spawn(command: list[str]) -> int:
    """Start the server as a child that is killed when this process is."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
    guard, pid = os.getpid(), os.fork()
    if pid:
        return pid
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == guard:
        os.execv(command[0], command)
    os._exit(1)


def owner_is_gone(owner: int, *, wait_s: float) -> bool:
    """Return whether the owner has closed its pipe or is no longer our parent, after at most *wait_s*."""
    readable, _, _ = select.select([sys.stdin], [], [], wait_s)
    return bool(readable) or os.getppid() != owner


def end_with_owner(owner: int, server: int) -> None:
    """Wait until the owner is gone, then end the server: politely first, by force after the grace."""
    while not owner_is_gone(owner, wait_s=LOOK_EVERY_S):
        pass
    os.kill(server, signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os.kill(server, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
