"""Fixtures for the tests of projects: name this module in ``pytest_plugins`` of a conftest.

``tw_eager`` makes an app run its tasks at once, in the calling thread: guards are off, checkpoints are in memory, no Redis is asked.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def tw_eager() -> Iterator[Callable[[Any], Any]]:
    """Return a function that makes an app eager until the test ends: ``app = tw_eager(app)``."""
    before: list[tuple[Any, bool, bool]] = []

    def make_eager(app: Any) -> Any:
        before.append((app, app.conf.task_always_eager, app.conf.task_eager_propagates))
        app.conf.update(task_always_eager=True, task_eager_propagates=True)
        return app

    yield make_eager
    for app, always, propagates in reversed(before):
        app.conf.update(task_always_eager=always, task_eager_propagates=propagates)
