"""Fixtures that several seams share; a *leader* is one of the test's own app *shop*."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, signals

from celery_tw.integration.node import Node


@pytest.fixture
def revoked() -> Iterator[list[str]]:
    """The ids of the tasks that ``task_revoked`` was sent for."""
    heard: list[str] = []

    def receive(sender: Any, request: Any, **facts: Any) -> None:
        heard.append(request.id)

    signals.task_revoked.connect(receive)
    yield heard
    signals.task_revoked.disconnect(receive)


@pytest.fixture
def leader(shop: Celery) -> Iterator[Node]:
    """A scheduler that leads and is stepped by hand."""
    node = Node(shop)
    node.elector.step()
    assert node.elector.leads()
    yield node
    node.close()
