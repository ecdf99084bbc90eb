"""A spawned pool process works with a copy of the app, made from a pickle; real ones are in ``tests/processes/test_deferral_around.py``."""

import pickle
from collections.abc import Iterator

import pytest
from celery import Celery, _state
from celery.app import base
from celery.signals import worker_process_init

from celery_tw import TimeWheel


@pytest.fixture
def current() -> Iterator[None]:
    """Restore whatever app was current."""
    before = _state._tls.current_app
    yield
    _state._tls.current_app = before


def copy_of(app: Celery) -> Celery:
    copied = pickle.loads(pickle.dumps(app))
    assert isinstance(copied, Celery)
    return copied


def test_the_copy_of_an_app_is_given_a_time_wheel_when_the_process_starts(current: None) -> None:
    app = Celery("shop", set_as_current=False)
    TimeWheel(app)
    copied = copy_of(app)
    assert "send_task" not in vars(copied)

    copied.set_current()
    worker_process_init.send(sender=None)

    assert vars(copied)["timewheel"].deferral.app is copied
    assert hasattr(copied.send_task, "replaces")


def test_an_app_without_one_is_left_alone(current: None) -> None:
    TimeWheel(Celery("shop", set_as_current=False))
    other = Celery("warehouse", set_as_current=False)

    other.set_current()
    worker_process_init.send(sender=None)

    assert "timewheel" not in vars(other)


def test_patterns_reach_the_copy_when_the_module_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "USING_EXECV", True)
    app = Celery("shop", set_as_current=False)
    copied, other = copy_of(app), Celery("warehouse", set_as_current=False)

    TimeWheel(app, guard={"shop.*": {"once": True}})

    assert vars(copied)["timewheel"].guard.patterns == {"shop.*": {"once": True}}
    assert "timewheel" not in vars(other)


def test_two_apps_of_one_process_have_patterns_of_their_own() -> None:
    app, other = Celery("shop", set_as_current=False), Celery("shop", set_as_current=False)

    TimeWheel(app, guard={"shop.*": {"once": True}})

    assert "timewheel" not in vars(other)
