"""What cannot work is refused when beat starts: one line that says what and what to do, and an exit code that a supervisor notices."""

from typing import Any

import pytest

from celery_tw.embedded import EmbeddedServer
from tests.processes.container import ProcessContainer
from tests.processes.processes import Processes
from tests.processes.stage import Stage

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]


def assert_refused(beat: ProcessContainer, *words: str) -> None:
    """Assert that *beat* ends with an error, and that exactly one line of its log has all *words*."""
    assert beat.wait(30) == 1
    telling = [line for line in beat.logs().splitlines() if all(word in line for word in words)]
    assert len(telling) == 1
    assert "Traceback" not in beat.logs()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"conf": {"tw_leader_leese": 3}}, ("tw_leader_leese", "did you mean tw_leader_lease?"), id="unknown setting"),
        pytest.param({"conf": {"tw_leader_lease": 0.1}}, ("tw_leader_lease", "from 0.5 to 300", "0.1"), id="impossible setting"),
        pytest.param({"conf": {"tw_shards": 4}}, ("tw_shards", "not available in this version"), id="setting of a later version"),
        pytest.param({"conf": {"broker_url": None}}, ("no broker_url", "redis://localhost:6379/0"), id="no broker"),
        pytest.param({"conf": {"broker_url": "amqp://localhost:1//"}}, ("'amqp'", "set tw_redis_url"), id="another broker"),
        pytest.param({"module": "unnamed"}, ("tw_namespace is needed", "tw_namespace = 'shop'"), id="an app without a name"),
    ],
)
def test_beat_refuses_settings_that_cannot_work(processes: Processes, settings: dict[str, Any], words: tuple[str, ...]) -> None:
    assert_refused(processes.beat(**settings), *words)


def test_beat_refuses_a_redis_that_evicts(processes: Processes, server: EmbeddedServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")

    assert_refused(processes.beat(), "may evict keys", "allkeys-lru", "set maxmemory-policy noeviction")


def test_beat_refuses_the_namespace_of_another_project(stage: Stage) -> None:
    (ours,) = stage.start_beats(1)

    theirs = stage.processes.beat(module="warehouse", conf={"tw_namespace": "shop"})

    assert_refused(theirs, "belongs to the project 'shop'", "not to 'warehouse'", "set tw_namespace to a name of its own")
    assert stage.leader(ours) is ours
