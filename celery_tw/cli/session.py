"""Session: the time wheel of the app that `celery -A` names, with all its tasks imported."""

from typing import Any

import click

from celery_tw.integration.timewheel import TimeWheel


def wheel_of(ctx: click.Context) -> TimeWheel:
    """Return the time wheel of the command's app; raises a usage error when no app was named."""
    app = ctx.obj.app
    if app.main in (None, "default") and not _has_broker(app):
        raise click.UsageError("name your app before the command: celery -A proj tw …", ctx)
    app.loader.import_default_modules()
    app.finalize()
    return TimeWheel(app)


def _has_broker(app: Any) -> bool:
    return bool(app.conf.broker_write_url or app.conf.broker_transport)
