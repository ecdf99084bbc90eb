"""`tw outbox`: what it shows, asks, does and says."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from celery import Celery

from celery_tw import TimeWheel
from celery_tw.integration.messages.collecting import collect
from celery_tw.stores.redis.claims import Settlement
from celery_tw.stores.redis.election import Led
from tests.cli.conftest import CommandLine

SLOT_MS = 1_925_000_000_000


@pytest.fixture
def shop(shop: Celery, redis_url: str) -> Celery:
    """The app on a broker apart."""
    shop.conf.update(broker_url="memory://", tw_redis_url=redis_url, task_default_queue=f"tw-{uuid4().hex}")
    TimeWheel(shop)
    return shop


@pytest.fixture
def refuse(shop: Celery, wheel: TimeWheel) -> Callable[..., str]:
    """Put a message into the outbox that the broker has refused, in the way of a leader; return its id."""
    parts = wheel._parts
    led = parts.election.acquire("me", lease_ms=60_000)
    assert isinstance(led, Led)

    def put(task_id: str, *, verb: str = "buried", **kwargs: str) -> str:
        with collect(shop) as collected:
            headers = {"tw_eta": SLOT_MS}
            shop.tasks["shop.report"].apply_async((7,), kwargs, task_id=task_id, headers=headers, producer=collected.producer)
        (command,) = collected.commands
        claim_id = parts.client.xadd(parts.keys.outbox, {"entry": "3", "delivery": "at_least_once", "message": command.payload}).decode()
        refused = {"reason": "its queue is full", "count": 2}
        buried = {"reason": "its queue is full", "refusals": 5, "entry": 3, "name": "shop.report", "slot_ms": SLOT_MS}
        record = buried if verb == "buried" else refused
        parts.claims.settle(led.epoch, [Settlement(claim_id=claim_id, verb=verb, record=record)])  # type: ignore[arg-type]
        return claim_id

    return put


def test_without_trouble_it_says_so(cli: CommandLine) -> None:
    assert cli.done("outbox", "list") == "The broker refused no message.\n"
    assert cli.json("outbox", "list") == {"messages": []}
    assert cli.done("outbox", "requeue", "--all") == "No message is buried.\n"
    assert cli.json("outbox", "discard", "--all") == {"discarded": 0}


def test_it_lists_what_was_refused_and_what_was_buried(cli: CommandLine, refuse: Callable[..., str]) -> None:
    waiting, buried = refuse("a", verb="refused"), refuse("b")

    _, first, second = cli.done("outbox", "list").splitlines()
    assert first.startswith(f"{buried}  buried ")
    assert second.startswith(f"{waiting}  refused 2 times ")
    assert "its queue is full" in first

    listed = cli.json("outbox", "list")["messages"]
    assert [(each["message_id"], each["state"], each["task_id"]) for each in listed] == [(buried, "buried", "b"), (waiting, "refused", "a")]
    assert listed[0]["slot"] == datetime.fromtimestamp(SLOT_MS / 1000, UTC).isoformat()
    assert len(cli.json("outbox", "list", "--limit", "1")["messages"]) == 1


def test_status_counts_them(cli: CommandLine, refuse: Callable[..., str]) -> None:
    refuse("a", verb="refused")
    refuse("b")
    assert "1 wait for the broker, 1 of them refused by it, 1 buried" in cli.done("status")


def test_status_tells_what_is_set_aside_and_what_to_do_about_it(cli: CommandLine, wheel: TimeWheel, refuse: Callable[..., str]) -> None:
    message_id = refuse("a")
    reasons = {"8": '{"reason": "its record is no JSON"}', "8:2": "its range is none", "9": "[9]", "message 1-2": "[no note]"}
    wheel._parts.client.hset(wheel._parts.keys.bad, mapping=reasons)

    lines = [line.split("  ") for line in cli.done("status").splitlines()]
    found = {
        cells[0]: [cell.strip() for cell in cells if cell.strip()] for cells in lines if cells[0] in ("entry", "one-time task", "backfill")
    }
    assert found["entry"] == ["entry", "8", "its record is no JSON", "store it again under its name, or tw schedule remove that"]
    assert found["one-time task"] == ["one-time task", "9", "[9]", "send its task again, after tw cancel with its task id"]
    assert found["backfill"] == ["backfill", "8:2", reasons["8:2"], "order it again: tw schedule backfill"]
    unreadable, message = ([cell.strip() for cell in cells if cell.strip()] for cells in lines if cells[0] == "message")
    assert unreadable[1:3] == ["1-2", "[no note]"]
    assert message[1:] == [
        "shop.report",
        message_id,
        "its queue is full",
        f"tw outbox show {message_id}; then tw outbox requeue or discard",
    ]

    as_noted = cli.json("status")["status"]["quarantined"]
    assert reasons.items() <= as_noted.items()
    assert as_noted[f"message {message_id}"].startswith("{")


def test_it_shows_one_message_without_its_secrets(cli: CommandLine, refuse: Callable[..., str]) -> None:
    message_id = refuse("a", password="hush", city="Ulm")

    said = cli.done("outbox", "show", message_id)
    for word in ("its queue is full", "shop.report", "'city': 'Ulm'", "header id"):
        assert word in said
    found = cli.json("outbox", "show", message_id)["message"]
    assert (found["args"], found["kwargs"]) == ([7], {"password": "********", "city": "Ulm"})
    assert (found["task_id"], found["headers"]["id"]) == ("a", "a")
    assert "hush" not in said + str(found)


def test_buried_messages_are_sent_again_when_a_person_says_yes(cli: CommandLine, wheel: TimeWheel, refuse: Callable[..., str]) -> None:
    message_id = refuse("a")

    assert "Send 1 buried message again?" in cli.refused("outbox", "requeue", message_id, typed="n\n")
    assert wheel.status().buried == 1

    assert cli.done("outbox", "requeue", message_id, typed="y\n") == "1 buried message sent again.\n"
    assert (wheel.status().buried, wheel.status().claimed) == (0, 1)


def test_buried_messages_are_discarded_when_a_person_says_yes(cli: CommandLine, wheel: TimeWheel, refuse: Callable[..., str]) -> None:
    for task_id in ("a", "b"):
        refuse(task_id)

    assert "Discard 2 buried messages? Their tasks will not run." in cli.refused("outbox", "discard", "--all", typed="n\n")
    assert wheel.status().buried == 2

    assert cli.json("outbox", "discard", "--all", "--yes") == {"discarded": 2}
    assert (wheel.status().buried, wheel.status().claimed) == (0, 0)


@pytest.mark.parametrize("verb", ["requeue", "discard"])
def test_an_unknown_message_or_one_that_waits_is_refused_and_no_other_is_touched(
    verb: str, cli: CommandLine, wheel: TimeWheel, refuse: Callable[..., str]
) -> None:
    buried, waiting = refuse("a"), refuse("b", verb="refused")

    assert "'1-1' is not among those that the broker refused" in cli.refused("outbox", verb, "--yes", buried, "1-1")
    assert "is not buried" in cli.refused("outbox", verb, "--yes", buried, waiting)
    assert "is not among" in cli.refused("outbox", "show", "nonsense")

    assert wheel.status().buried == 1


@pytest.mark.parametrize("arguments", [(), ("--all", "1-1")])
def test_messages_are_named_or_all_are_meant_and_not_both(arguments: tuple[str, ...], cli: CommandLine) -> None:
    assert "name messages" in cli.refused("outbox", "discard", *arguments, code=2)
