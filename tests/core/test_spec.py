"""A schedule as plain JSON is trusted in nothing."""

import json

import pytest

from celery_tw.core.cron import Cron
from celery_tw.core.interval import Interval
from celery_tw.core.once import Once
from celery_tw.core.rrule import RRule
from celery_tw.core.spec import recurrence_from_spec
from celery_tw.errors import InvalidSchedule


@pytest.mark.parametrize(
    ("text", "recurrence"),
    [
        (
            '{"kind": "cron", "expression": "0 9 * * 1-5", "zone": "Europe/Berlin", "day_or": false, "hash_id": "a"}',
            Cron("0 9 * * 1-5", "Europe/Berlin", False, "a"),
        ),
        ('{"kind": "cron", "expression": "@daily", "zone": "UTC"}', Cron("@daily", "UTC")),
        ('{"kind": "interval", "period_ms": 30000, "anchor_ms": 5}', Interval(30_000, 5)),
        ('{"kind": "interval", "period_ms": 30000}', Interval(30_000)),
        ('{"kind": "once", "at_ms": 1767225600000}', Once(1_767_225_600_000)),
        ('{"kind": "rrule", "rule": "FREQ=DAILY", "zone": "UTC", "start_ms": 0}', RRule("FREQ=DAILY", "UTC", 0)),
        ('{"kind": "once", "at_ms": 1, "added_later": []}', Once(1)),
    ],
)
def test_a_spec_gives_its_recurrence(text: str, recurrence: object):
    assert recurrence_from_spec(json.loads(text)) == recurrence


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (None, "mapping"),
        ([], "mapping"),
        ("cron", "mapping"),
        ({}, "kind of schedule None"),
        ({"kind": "weekly"}, "'weekly'"),
        ({"kind": ["cron"]}, "kind"),
        ({"kind": "cron", "zone": "UTC"}, "'expression'.*nothing"),
        ({"kind": "cron", "expression": "* * * * *"}, "'zone'.*nothing"),
        ({"kind": "cron", "expression": 5, "zone": "UTC"}, "'expression'.*5"),
        ({"kind": "cron", "expression": "* * * * *", "zone": "UTC", "day_or": "yes"}, "'day_or'"),
        ({"kind": "cron", "expression": "* * * * *", "zone": "UTC", "hash_id": None}, "'hash_id'.*None"),
        ({"kind": "cron", "expression": "* * * *", "zone": "UTC"}, "4 fields"),
        ({"kind": "interval"}, "'period_ms'"),
        ({"kind": "interval", "period_ms": 1.5}, "'period_ms'.*1.5"),
        ({"kind": "interval", "period_ms": True}, "'period_ms'"),
        ({"kind": "interval", "period_ms": 30_000, "anchor_ms": "0"}, "'anchor_ms'"),
        ({"kind": "interval", "period_ms": 1}, "10"),
        ({"kind": "once", "at_ms": "tomorrow"}, "'at_ms'"),
        ({"kind": "rrule", "rule": None, "zone": "UTC", "start_ms": 0}, "'rule'"),
        ({"kind": "rrule", "rule": "FREQ=DAILY", "zone": "UTC"}, "'start_ms'.*nothing"),
        ({"kind": "rrule", "rule": "FREQ=DAILY", "zone": "Mars/Base", "start_ms": 0}, "Mars/Base"),
    ],
)
def test_a_malformed_spec_is_refused_by_its_field(spec: object, says: str):
    with pytest.raises(InvalidSchedule, match=says):
        recurrence_from_spec(spec)
