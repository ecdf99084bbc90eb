"""Moments: what a person types for a moment, completed with a time zone.

``2026-03-01T09:00+01:00`` says everything. ``2026-03-01 09:00`` is wall time in the zone of ``--tz``, or else in the app's: at a terminal
the zone is a context, whereas in a program (``once(datetime)``) a datetime without one is a mistake and is refused.
"""

from datetime import datetime, tzinfo
from typing import Any

import click

from celery_tw.core.zones import zone


class Moment(click.ParamType):
    """A date and time in ISO 8601, with or without an offset."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date and time such as 2026-03-01T09:00 or 2026-03-01T09:00+01:00", param, ctx)


def in_zone(moment: datetime | None, *, tz: str | None, app: Any) -> datetime | None:
    """Return *moment* as an aware datetime: one without an offset is wall time in *tz*, by default the app's zone."""
    if moment is None or moment.utcoffset() is not None:
        return moment
    return moment.replace(tzinfo=_zone(tz, app))


def _zone(tz: str | None, app: Any) -> tzinfo:
    where: tzinfo = app.timezone if tz is None else zone(tz)
    return where
