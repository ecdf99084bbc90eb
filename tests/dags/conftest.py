"""Fixtures: an app with DAGs on a fresh database, whose tasks write down when they run.

The database is SQLite, or what ``TW_DAG_DATABASE`` says: sqlite, postgres or mariadb.
"""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_tw import TimeWheel
from celery_tw.integration.dags.parts import parts_of
from tests.databases import database_of

MakeApp = Callable[..., Celery]


@dataclass
class Diary:
    """What ran, in the order in which it began and ended."""

    began: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    with database_of(os.environ.get("TW_DAG_DATABASE", "sqlite"), tmp_path) as url:
        yield url


@pytest.fixture
def app(make_app: MakeApp, database_url: str) -> Iterator[Celery]:
    app = make_app(tw_database_url=database_url, tw_heartbeat_interval=0.2, tw_heartbeat_timeout=0.8)
    TimeWheel(app)
    yield app
    parts_of(app).close()


@pytest.fixture
def tw(app: Celery) -> TimeWheel:
    return TimeWheel(app)


@pytest.fixture
def diary(app: Celery) -> Diary:
    """The diary of the app's tasks: ``shop.work``, ``shop.add``, ``shop.total``."""
    diary = Diary()

    @app.task(name="shop.work", shared=False)
    def work(key: str, result: Any = None) -> Any:
        diary.began.append(key)
        if key in diary.gates:
            assert diary.gates[key].wait(20)
        if key in diary.failing:
            raise ValueError(key)
        diary.ended.append(key)
        return result

    @app.task(name="shop.add", shared=False)
    def add(*numbers: int) -> int:
        return sum(numbers)

    @app.task(name="shop.total", shared=False)
    def total(numbers: list[int], *more: int) -> int:
        return sum(numbers) + sum(more)

    return diary
