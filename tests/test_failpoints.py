"""Failpoints: what the variable asks for happens at its place, at its time, and nowhere else."""

import os
import signal
import subprocess
import sys

import pytest

from celery_tw import failpoints

PASSES = """
from celery_tw.failpoints import failpoint
for number in range(1, 4):
    failpoint("K1")
    try:
        failpoint("K3")
    except Exception as error:
        print(type(error).__name__, error)
    print(number, flush=True)
"""


def passing(asked: str) -> tuple[int, str]:
    """Return how a process ends that comes to K1 and K3 three times, and what it says."""
    done = subprocess.run([sys.executable, "-c", PASSES], env={"TW_FAILPOINT": asked}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_without_the_variable_and_for_another_place_nothing_happens() -> None:
    assert passing("") == passing("K2:kill") == (0, "1\n2\n3\n")


def test_a_process_is_killed_at_its_place_and_time() -> None:
    assert passing("K3:kill:2") == (-signal.SIGKILL, "1\n")


def test_a_process_is_stopped_until_it_is_continued() -> None:
    process = subprocess.Popen([sys.executable, "-c", PASSES], env={"TW_FAILPOINT": "K3:stop"}, stdout=subprocess.PIPE, text=True)
    _, status = _wait_for_stop(process.pid)
    assert status == signal.SIGSTOP

    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=20)[0] == "1\n2\n3\n"


def _wait_for_stop(pid: int) -> tuple[int, int]:
    stopped, status = os.waitpid(pid, os.WUNTRACED)
    return stopped, os.WSTOPSIG(status)


@pytest.mark.parametrize(
    ("name", "kind"), [("ReadOnlyError", "ReadOnlyError"), ("StoreUnavailable", "StoreUnavailable"), ("OSError", "OSError")]
)
def test_an_error_is_raised_once(name: str, kind: str) -> None:
    assert passing(f"K3:raise:{name}:2") == (0, f"1\n{kind} as asked for at K3\n2\n3\n")


def test_a_thread_dawdles_from_its_time_on(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(failpoints.time, "sleep", slept.append)
    monkeypatch.setattr(failpoints, "_armed", failpoints.parse("K3:delay:200ms:2"))
    monkeypatch.setattr(failpoints, "_passes", iter(range(1, 4)))

    for _ in range(3):
        failpoints.failpoint("K3")

    assert slept == [0.2, 0.2]


@pytest.mark.parametrize("text", ["K3", "K3:", "K3:die", "K3:raise", "K3:raise:Nothing", "K3:delay:200", "K3:kill:x", "K3:kill:5:6"])
def test_what_cannot_be_meant_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="TW_FAILPOINT: expected"):
        failpoints.parse(text)
