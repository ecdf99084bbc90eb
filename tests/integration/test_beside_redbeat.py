"""A project that comes from RedBeat may go on importing it."""

import pytest
from celery import Celery
from celery.beat import Service
from celery.signals import beat_init

from celery_tw.integration.beat import TimeWheelScheduler


def test_what_redbeat_does_when_a_beat_starts_takes_no_offence(redis_url: str) -> None:
    pytest.importorskip("redbeat.schedulers", reason="RedBeat is not installed")
    app = Celery("shop", broker=redis_url, set_as_current=False)

    answers = beat_init.send(sender=Service(app, scheduler_cls=TimeWheelScheduler))

    assert [answer for _, answer in answers if isinstance(answer, Exception)] == []
    app.close()
