"""An app whose failed tasks are looked for in its dead letters."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from celery_tw import TimeWheel
from celery_tw.integration.dlq.letter_views import DeadLetter
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    """An app with the time wheel, which decodes JSON only."""
    app = make_app(accept_content=["json"])
    TimeWheel(app)
    return app


@pytest.fixture
def dead(app: Celery) -> Callable[..., list[DeadLetter]]:
    """Return the dead letters, once there are as many as told."""

    def find(count: int = 1, **filters: Any) -> list[DeadLetter]:
        box = TimeWheel(app).dlq
        wait_until(lambda: box.count(**filters) >= count, message=f"{count} dead letters")
        letters = list(box.list(**filters).letters)
        assert len(letters) == count
        return letters

    return find
