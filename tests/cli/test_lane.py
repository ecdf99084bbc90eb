"""`tw lane`: what it shows, asks, does and says."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from celery import Celery

from celery_tw import InvalidLane, TimeWheel
from tests.cli.conftest import CommandLine

HOUR_MS = 3_600_000


@pytest.fixture
def shop(shop: Celery) -> Celery:
    """The app with a fair queue, while somebody leads who admits nothing."""
    shop.conf.update(tw_fair_queues=["celery"])
    parts = TimeWheel(shop)._parts
    parts.election.acquire("me", lease_ms=60_000)
    return shop


@pytest.fixture
def wait(shop: Celery, wheel: TimeWheel) -> Callable[..., str]:
    """Send a task that waits in a lane, as if so many hours ago; return its id."""

    def put(lane: str, *, hours: float = 0, task: str = "shop.report") -> str:
        task_id: str = shop.send_task(task, lane=lane).id
        (found,) = wheel.lanes._lanes.under_task("celery", task_id)
        parts = wheel._parts
        parts.client.zadd(parts.keys.lane("celery", lane), {found.entry_id: found.since_ms - round(hours * HOUR_MS)})
        return task_id

    return put


def test_without_fair_queues_it_says_so(make_app: Callable[..., Celery]) -> None:
    cli = CommandLine(make_app("shop"))
    assert cli.done("lane", "list") == "No queue is fair: name some in tw_fair_queues.\n"
    assert cli.json("lane", "list") == {"queues": []}


def test_it_lists_the_lanes_of_each_fair_queue(cli: CommandLine, wait: Callable[..., str]) -> None:
    wait("high")
    wait("low", hours=5)
    wait("low")

    _, high, medium, low, warning = cli.done("lane", "list").splitlines()
    assert high.split() == ["celery", "high", "1", "0", "ms", "0", "0", "50", "%"]
    assert medium.split() == ["celery", "medium", "0", "0", "0", "30", "%"]
    assert low.split() == ["celery", "low", "2", "5", "h", "1", "0", "20", "%"]
    assert warning == "celery: no worker has said that it consumes this queue"
    assert cli.json("lane", "list")["queues"][0]["lanes"][2]["starving"] == 1


def test_it_shows_the_shares_of_what_went_on(cli: CommandLine, wheel: TimeWheel) -> None:
    parts = wheel._parts
    minute = parts.timetable.now_ms() // 60_000
    parts.client.hset(parts.keys.admitted("celery"), mapping={f"{minute} high": 6, f"{minute - 1} low": 2, f"{minute - 30} low": 90})

    lanes = cli.json("lane", "list")["queues"][0]["lanes"]

    assert [(lane["admitted"], lane["share"], lane["asked"]) for lane in lanes] == [(6, 75.0, 50), (0, 0.0, 30), (2, 25.0, 20)]


def test_it_lists_the_tasks_that_wait(cli: CommandLine, wait: Callable[..., str]) -> None:
    old, new = wait("low", hours=1.5), wait("low", task="shop.mail")
    wait("high")

    _, first, second = cli.done("lane", "list", "--lane", "low").splitlines()
    assert first.split()[:5] == [old, "shop.report", "celery", "low", "medium"]
    assert second.split()[:5] == [new, "shop.mail", "celery", "low", "low"]
    assert [task["task_id"] for task in cli.json("lane", "list", "--task", "*.mail")["tasks"]] == [new]
    assert [task["task_id"] for task in cli.json("lane", "list", "--older-than", "60")["tasks"]] == [old]
    assert len(cli.json("lane", "list", "--tasks", "--limit", "2")["tasks"]) == 2
    assert cli.done("lane", "list", "--lane", "medium") == "No such task waits in a lane.\n"


def test_one_task_is_boosted_by_its_id(cli: CommandLine, wait: Callable[..., str], wheel: TimeWheel) -> None:
    task_id = wait("low", hours=1)

    assert cli.done("lane", "boost", task_id) == "1 task waits in the lane high.\n"

    (task,) = wheel.lanes.list(lane="high")
    assert task.task_id == task_id
    assert task.waited > 3000
    assert cli.done("lane", "boost", "unknown") == "No such task waits in a lane.\n"


def test_many_tasks_are_boosted_when_a_person_confirms_their_number(cli: CommandLine, wait: Callable[..., str], wheel: TimeWheel) -> None:
    for lane in ("low", "low", "medium", "high"):
        wait(lane)

    refused = cli.run("lane", "boost", "--queue", "celery", typed="n\n")
    assert "Let 3 tasks wait in the lane high? [y/N]" in refused.stderr
    assert refused.exit_code == 1
    assert len(wheel.lanes.list(lane="high")) == 1

    assert cli.done("lane", "boost", "--lane", "low", "--to", "medium", "--limit", "1", typed="y\n") == "1 task waits in the lane medium.\n"
    assert cli.json("lane", "boost", "--queue", "celery", "--yes") == {"boosted": 3, "to": "high"}
    assert len(wheel.lanes.list(lane="high")) == 4


@pytest.mark.parametrize("arguments", [(), ("some-id", "--lane", "low")])
def test_a_boost_says_either_an_id_or_which(arguments: tuple[str, ...], cli: CommandLine) -> None:
    assert "name the id of one task, or say which are meant" in cli.refused("lane", "boost", *arguments, code=2)


def test_a_lane_that_is_none_is_refused(cli: CommandLine) -> None:
    assert "'high', 'medium', 'low'" in cli.refused("lane", "boost", "--lane", "lo", code=2)
    assert "'high', 'medium', 'low'" in cli.refused("lane", "boost", "some-id", "--to", "urgent", code=2)


def test_the_status_tells_of_fair_queues(cli: CommandLine, wait: Callable[..., str]) -> None:
    wait("low", hours=5)

    status = cli.done("status")

    (line,) = [line for line in status.splitlines() if line.startswith("queue celery")]
    assert line.partition("  ")[2].strip() == "fair, no worker has said that it consumes it, 1 wait (low 1), the oldest 5 h, 1 too long"


def test_a_program_says_which_tasks_it_means(wheel: TimeWheel, wait: Callable[..., str]) -> None:
    wait("low", hours=2)
    wait("low")

    with pytest.raises(TypeError, match="boost takes the id of a task, or says which are meant"):
        wheel.lanes.boost()
    with pytest.raises(InvalidLane):
        wheel.lanes.boost(lane="low", to="urgent")
    assert wheel.lanes.boost(older_than=timedelta(hours=1)) == 1
    assert [lane.waiting for lane in wheel.lanes.stats()[0].lanes] == [1, 0, 1]
