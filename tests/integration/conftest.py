"""Fixtures that several seams share; a *leader* is one of the test's own app *shop*."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, signals

from celery_tw.integration.node import Node


@pytest.fixture
def revoked(shop: Celery) -> Iterator[list[str]]:
    """The ids of the tasks of *shop* that ``task_revoked`` was sent for: a worker that another test left behind sends it as well."""
    heard: list[str] = []

    def receive(sender: Any, request: Any, **facts: Any) -> None:
        if sender.app is shop:
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
