"""Letter options: which dead letters a command is about, the same for `list`, `requeue` and `purge`."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from celery_tw.cli.moments import Moment, in_zone
from celery_tw.core.death import REASONS
from celery_tw.errors import UnknownDeadLetter
from celery_tw.integration.dlq.dead_letters import DeadLetterBox
from celery_tw.integration.dlq.letter_filter import Filters


def letter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose dead letters to a command."""
    options = (
        click.option("--task", help="Only of this task; a pattern such as 'shop.import_*'."),
        click.option("--queue", help="Only from this queue; a pattern."),
        click.option("--exception", help="Only with this type of error, with or without its module; a pattern."),
        click.option("--fingerprint", help="Only of this error, as `tw dlq list` shows it."),
        click.option("--reason", type=click.Choice(REASONS), help="Only for this reason."),
        click.option("--since", type=Moment(), help="Only what has died at or after this moment."),
        click.option("--until", type=Moment(), help="Only what has died at or before this moment."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def filters_of(ctx: click.Context, *, since: datetime | None, until: datetime | None, **given: Any) -> Filters:
    """Return the filters that the options name; a moment without an offset is wall time of the app."""
    app = ctx.obj.app
    moments = {"since": in_zone(since, tz=None, app=app), "until": in_zone(until, tz=None, app=app)}
    return Filters(**{name: value for name, value in {**given, **moments}.items() if value is not None})  # type: ignore[typeddict-item]


def chosen(ctx: click.Context, box: DeadLetterBox, letter_ids: tuple[str, ...], *, every: bool, **given: Any) -> Filters:
    """Return the filters of a command that acts: of letters by name, by filters, or of all that there are now.

    What dies after the question is not meant by the answer. Raises a usage error when nothing is chosen, and `UnknownDeadLetter`.
    """
    filters = filters_of(ctx, **given)
    if bool(letter_ids or filters) == every:
        raise click.UsageError("name letters or filters, as `tw dlq list` shows them, or say --all", ctx)
    if letter_ids:
        known = {letter.letter_id for letter in box.list(limit=len(letter_ids), ids=letter_ids).letters}
        unknown = next((letter_id for letter_id in letter_ids if letter_id not in known), None)
        if unknown is not None:
            raise UnknownDeadLetter(unknown)
        return Filters(**{**filters, "ids": letter_ids})
    return Filters(**{"until": datetime.now(UTC), **filters})
