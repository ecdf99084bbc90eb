"""Works: workers of the project that run the nodes of DAGs, and what they have run."""

from collections.abc import Callable
from typing import Any

from celery import Celery

from celery_tw import DAG, TimeWheel
from celery_tw.integration.dags.dag_run import DagRun
from celery_tw.testing.ledger import Ledger
from tests.processes.container import ProcessContainer
from tests.processes.processes import Processes

TIMEOUT_S = 60
QUICK = {
    "tw_heartbeat_interval": 0.3,
    "tw_heartbeat_timeout": 2,
    "worker_prefetch_multiplier": 1,
    "tw_lock_timeout": 4,
    "tw_lock_extend_interval": 1,
}


class Works:
    """Workers of the project, a beat that leads, and a client, all with the DAGs of one database."""

    def __init__(self, processes: Processes, database_url: str, **settings: Any) -> None:
        self.processes = processes
        self.conf = {**QUICK, "tw_database_url": database_url, **settings}
        self.ledger = Ledger(processes.ledger)
        self.app = Celery("shop", broker=processes.url, backend=processes.url, set_as_current=False)
        self.app.conf.update(self.conf)
        for name in ("shop.step", "shop.guarded_step", "shop.long_step"):
            self.app.task(name=name, shared=False)(_runs_elsewhere)
        self.wheel = TimeWheel(self.app)

    def beat(self) -> ProcessContainer:
        beat = self.processes.beat(module="workflows", conf=self.conf)
        beat.ready()
        return beat

    def worker(self, pool: str = "prefork") -> ProcessContainer:
        worker = self.processes.worker("-c", "2", pool=pool, module="workflows", conf=self.conf)
        worker.ready()
        return worker

    def submit(self, parents: dict[str, list[str]], *, task: str = "shop.step", seconds: Callable[[], float] = lambda: 0.0) -> DagRun:
        with DAG("graph") as dag:
            for key, after in parents.items():
                dag.node(key, self.app.tasks[task].s(key, seconds()), after=after)
        return self.wheel.dags.submit(dag)

    def moments(self, run: DagRun, what: str) -> dict[str, list[int]]:
        """Return at which lines of the ledger each node of *run* began, or ended."""
        found: dict[str, list[int]] = {}
        for place, line in enumerate(self.ledger.lines()):
            if line.task_id.startswith(run.id) and line.value[0] == what:
                found.setdefault(line.value[1], []).append(place)
        return found

    def check(self, run: DagRun, parents: dict[str, list[str]], *, kills: int = 0) -> None:
        """Each node has succeeded, and began after all of its parents had ended; without kills, each ran once."""
        assert run.status().counts == {"succeeded": len(parents)}
        began, ended = self.moments(run, "begins"), self.moments(run, "ends")
        assert began.keys() == ended.keys() == parents.keys()
        for key, after in parents.items():
            early = [parent for parent in after if ended[parent][0] > began[key][0]]
            assert not early, f"{key} began before {early} had ended"
        twice = [key for key, places in began.items() if len(places) > 1]
        assert len(twice) <= 3 * kills, f"{twice} ran more than once, with {kills} kills"


def _runs_elsewhere(*args: Any) -> None:
    """Stand for a task of the project."""
