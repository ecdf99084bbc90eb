"""A leader that dies as it admits what waits in lanes: nothing is lost, and what comes twice is the same send."""

from collections.abc import Callable, Iterator

import pytest

from celery_tw.core.lane import LANES
from tests.processes.processes import Processes
from tests.processes.test_rabbitmq import RECEIVE_S, Depot
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(180)]

CAPACITY = 20
TASKS = 300


class FairDepot(Depot):
    """A depot whose queue is fair, and has room for a part of what waits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fair = {"tw_fair_queues": [self.queue], "tw_fair_capacity": CAPACITY}
        self.conf |= fair  # type: ignore[assignment,operator]
        self.app.conf.update(fair)

    def send_in_lanes(self, count: int) -> list[str]:
        """Send tasks to each lane in turn; return their ids."""
        record = self.app.tasks["shop.record"]
        return [record.apply_async((number,), lane=LANES[number % len(LANES)]).id for number in range(count)]


@pytest.fixture
def make_fair_depot(processes: Processes, request: pytest.FixtureRequest) -> Iterator[Callable[[str], FairDepot]]:
    depots: list[FairDepot] = []

    def make(broker: str) -> FairDepot:
        url = processes.url if broker == "redis" else request.getfixturevalue("rabbitmq_url")
        depots.append(FairDepot(processes, url))
        return depots[-1]

    yield make
    for depot in depots:
        depot.close()


@pytest.mark.parametrize(
    ("broker", "place"),
    [("redis", "L0"), ("redis", "L1"), ("rabbitmq", "L0"), ("rabbitmq", "L1"), ("rabbitmq", "K2"), ("rabbitmq", "K3"), ("rabbitmq", "K4")],
)
def test_a_leader_killed_at_any_step_of_an_admission_loses_nothing(
    make_fair_depot: Callable[[str], FairDepot], broker: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot = make_fair_depot(broker)
    monkeypatch.setenv("TW_FAILPOINT", f"{place}:kill:3")
    first = depot.leading_beat()
    monkeypatch.delenv("TW_FAILPOINT")
    depot.beat().ready()
    sent = depot.send_in_lanes(TASKS)

    wait_until(lambda: depot.receive() is not None and first.status != "running", RECEIVE_S, message="the leader to die")
    depot.wait_for_ids(sent)

    assert sorted(depot.ids()) == sorted(sent)
    copies = depot.copies()
    assert not copies or (broker == "rabbitmq" and place in ("K3", "K4")), "only what was sent and not struck out goes out again"
    assert depot.wheel.lanes.stats()[0].waiting == 0
