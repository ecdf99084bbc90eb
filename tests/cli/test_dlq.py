"""`tw dlq`: what it shows, asks, does and says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_tw import TimeWheel
from celery_tw.core.death import Death
from celery_tw.integration.dlq.log_lines import log_line
from celery_tw.integration.messages.collecting import collect
from celery_tw.stores.redis.dead_letters import DeadLetters
from tests.cli.conftest import CommandLine

PASSWORD = "hush"
URL = f"https://me:{PASSWORD}@bank.example/"
TRACEBACK = f"Traceback (most recent call last):\n  …\nOSError: {URL} is down"

Die = Callable[..., str]


def message_of(shop: Celery, task_id: str, **kwargs: Any) -> bytes:
    with collect(shop) as collected:
        shop.tasks["shop.report"].apply_async((7,), kwargs, task_id=task_id, producer=collected.producer)
    return collected.commands[0].payload


def death_of(task_id: str, **facts: Any) -> Death:
    standard = {"reason": "failed", "task": "shop.report", "queue": "celery", "exception": "OSError", "message": f"{URL} is down"}
    return Death(
        **{**standard, "task_id": task_id, "fingerprint": "f1", "worker": "w1@host", "traceback": TRACEBACK, "attempts": 4, **facts}
    )


@pytest.fixture
def die(shop: Celery, wheel: TimeWheel) -> Die:
    """Bury a task under its id, as a worker does; return the letter's id."""
    letters = DeadLetters(wheel._parts.client, wheel._parts.keys)

    def bury(task_id: str, *, kwargs: dict[str, Any] | None = None, **facts: Any) -> str:
        letter_id = f"letter-{task_id}"
        letters.bury(letter_id, message_of(shop, task_id, **(kwargs or {})), death_of(task_id, **facts))
        return letter_id

    return bury


def ids(cli: CommandLine, *filters: str) -> list[str]:
    return [letter["task_id"] for letter in cli.json("dlq", "list", "--each", *filters)["letters"]]


def test_without_dead_letters_it_says_so(cli: CommandLine) -> None:
    assert cli.done("dlq", "list") == "There is no such dead letter.\n"
    assert cli.json("dlq", "list") == {"groups": []}
    assert cli.json("dlq", "list", "--each") == {"letters": [], "cursor": None}
    assert cli.done("dlq", "requeue", "--all") == "There is no such dead letter.\n"
    assert cli.json("dlq", "purge", "--all") == {"purged": 0}


def test_it_lists_errors_with_their_counts_the_most_frequent_first(cli: CommandLine, die: Die) -> None:
    die("a", fingerprint="f2", exception="ValueError", message="odd", reason="rejected")
    for task_id in ("b", "c"):
        die(task_id)

    _, first, second = cli.done("dlq", "list").splitlines()
    assert first.split()[:2] == ["2", "OSError:"]
    assert second.startswith("1        ValueError: odd")
    assert PASSWORD not in first

    groups = cli.json("dlq", "list")["groups"]
    assert [(group["count"], group["exception"], group["fingerprint"]) for group in groups] == [
        (2, "OSError", "f1"),
        (1, "ValueError", "f2"),
    ]
    assert "and 1 more errors" in cli.done("dlq", "list", "--limit", "1")


def test_it_lists_letters_page_by_page_the_newest_first(cli: CommandLine, die: Die) -> None:
    for task_id in ("a", "b", "c"):
        die(task_id)
    newest = cli.json("dlq", "list", "--each")["letters"]

    page = cli.json("dlq", "list", "--each", "--limit", "2")
    rest = cli.json("dlq", "list", "--each", "--cursor", page["cursor"])
    assert page["letters"] + rest["letters"] == newest
    assert (len(page["letters"]), rest["cursor"]) == (2, None)
    assert f"--cursor {page['cursor']}" in cli.done("dlq", "list", "--each", "--limit", "2")
    assert "is no cursor" in cli.refused("dlq", "list", "--each", "--cursor", "nonsense")


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("--task", "shop.re*", ["b"]),
        ("--queue", "slow", ["a"]),
        ("--exception", "ValueError", ["a"]),
        ("--fingerprint", "f2", ["a"]),
        ("--reason", "lost", ["a"]),
        ("--since", "2030-01-01", []),
        ("--until", "2020-01-01", []),
    ],
)
def test_filters_choose_letters(cli: CommandLine, die: Die, option: str, value: str, found: list[str]) -> None:
    die("a", task="shop.other", queue="slow", exception="builtins.ValueError", fingerprint="f2", reason="lost")
    die("b")
    assert ids(cli, option, value) == found


def test_it_shows_one_letter_without_its_secrets(cli: CommandLine, die: Die) -> None:
    letter_id = die("a", kwargs={"password": PASSWORD, "city": "Ulm"}, chord="chord-1", worker="w\x1b[2J1")

    said = cli.done("dlq", "show", letter_id)
    for word in (
        "shop.report",
        "'city': 'Ulm'",
        "'password': '********'",
        "header id",
        "its chord has ended",
        "Traceback (most recent",
        "is down",
    ):
        assert word in said
    assert "\x1b" not in said

    found = cli.json("dlq", "show", letter_id)["letter"]
    assert (found["args"], found["kwargs"]) == ([7], {"password": "********", "city": "Ulm"})
    assert (found["task_id"], found["headers"]["id"], found["attempts"], found["chord"]) == ("a", "a", 4, "chord-1")
    assert PASSWORD not in said + str(found)


def test_letters_are_requeued_when_a_person_says_yes_to_their_number(cli: CommandLine, wheel: TimeWheel, die: Die) -> None:
    for task_id in ("a", "b"):
        die(task_id)

    question = cli.refused("dlq", "requeue", "--exception", "OSError", typed="n\n")
    assert "Run 2 dead letters again? (2 of shop.report, OSError)" in question
    assert (len(ids(cli)), wheel.canceller.waiting("a")) == (2, [])

    assert cli.done("dlq", "requeue", "--exception", "OSError", typed="y\n") == "2 dead letters requeued.\n"
    assert ids(cli) == []
    assert [len(wheel.canceller.waiting(task_id)) for task_id in ("a", "b")] == [1, 1]


def test_a_letter_is_requeued_with_other_arguments_and_warned_of(cli: CommandLine, wheel: TimeWheel, die: Die) -> None:
    letter_id = die("a", chord="chord-1")
    done = cli.json("dlq", "requeue", letter_id, "--args", "[8]", "--kwargs", '{"city": "Ulm"}', "--yes")

    assert (done["requeued"], done["gone"]) == (1, 0)
    assert [warning.partition(": ")[0] for warning in done["warnings"]] == ["shop.report[a]", "no scheduler leads"]
    assert "its chord has ended" in done["warnings"][0]
    (record,) = [found.record for found in wheel.canceller.cancelling.read(wheel.canceller.cancelling.listed(["a"])["a"])]
    assert b"Ulm" in record


def test_other_arguments_are_for_one_letter_only(cli: CommandLine, die: Die) -> None:
    for task_id in ("a", "b"):
        die(task_id)
    assert "for a single letter, not for 2" in cli.refused("dlq", "requeue", "--all", "--args", "[8]", "--yes", code=2)
    assert len(ids(cli)) == 2


def test_letters_are_thrown_away_when_a_person_says_yes_to_their_number(cli: CommandLine, wheel: TimeWheel, die: Die) -> None:
    kept, gone = die("a"), die("b", exception="ValueError")

    assert "Throw 1 dead letter away, for good? (1 of shop.report, ValueError)" in cli.refused("dlq", "purge", gone, typed="n\n")
    assert len(ids(cli)) == 2

    assert cli.done("dlq", "purge", gone, typed="y\n") == "1 dead letter thrown away.\n"
    assert ids(cli) == ["a"]
    assert cli.json("dlq", "purge", kept, "--yes") == {"purged": 1}
    assert not wheel.canceller.waiting("b")


@pytest.mark.parametrize("verb", ["requeue", "purge"])
def test_an_unknown_letter_is_refused_and_no_other_is_touched(verb: str, cli: CommandLine, die: Die) -> None:
    letter_id = die("a")
    assert "there is no dead letter 'nonsense': `celery tw dlq list --each`" in cli.refused("dlq", verb, "--yes", letter_id, "nonsense")
    assert "there is no dead letter" in cli.refused("dlq", "show", "nonsense")
    assert ids(cli) == ["a"]


@pytest.mark.parametrize("verb", ["requeue", "purge"])
@pytest.mark.parametrize("arguments", [(), ("--all", "letter-a"), ("--all", "--task", "shop.*")])
def test_letters_are_chosen_or_all_are_meant_and_not_both(verb: str, arguments: tuple[str, ...], cli: CommandLine, die: Die) -> None:
    die("a")
    assert "or say --all" in cli.refused("dlq", verb, *arguments, "--yes", code=2)
    assert ids(cli) == ["a"]


def test_letters_in_a_log_are_brought_back_once(cli: CommandLine, shop: Celery, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    line = log_line("letter-a", message_of(shop, "a"), death_of("a"))
    log.write_text(f"[…: INFO] ready.\n[…: CRITICAL] {line}\n")

    for _ in range(2):
        assert cli.done("dlq", "import", str(log)) == "1 dead letter imported.\n"
    assert ids(cli) == ["a"]


def test_a_log_with_a_letter_that_cannot_be_read_is_no_success(cli: CommandLine, shop: Celery, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    whole = log_line("letter-a", message_of(shop, "a"), death_of("a"))
    log.write_text(f"{whole}\n{whole[:100]}\n")

    assert "1 lines should hold a dead letter and cannot be read" in cli.refused("dlq", "import", str(log))
    assert ids(cli) == ["a"]
