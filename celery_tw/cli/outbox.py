"""`tw outbox`: messages that a broker apart does not take."""

from collections.abc import Iterator
from datetime import tzinfo

import click

from celery_tw.cli.output import json_option, plain, write_facts, write_json, write_table, yes_option
from celery_tw.cli.redaction import redacted, redacted_headers
from celery_tw.cli.session import wheel_of
from celery_tw.cli.words import moment
from celery_tw.integration.publishing.outbox_control import OutboxControl, OutboxMessage, OutboxMessageDetails

COLUMNS = ("message", "state", "task", "task id", "for", "to", "reason")


@click.group()
def outbox() -> None:
    """Look at messages that the broker refused, and deal with those that were buried."""


@outbox.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="How many at most.")
@json_option
@click.pass_context
def list_messages(ctx: click.Context, limit: int, as_json: bool) -> None:
    """List the messages that the broker refused, the buried ones first."""
    wheel = wheel_of(ctx)
    messages = wheel.outbox.troubled(limit)
    if as_json:
        write_json({"messages": messages})
        return
    write_table(COLUMNS, [_row(each, wheel.app.timezone) for each in messages], empty="The broker refused no message.")


@outbox.command()
@click.argument("message_id")
@json_option
@click.pass_context
def show(ctx: click.Context, message_id: str, as_json: bool) -> None:
    """Show one message that the broker refused."""
    wheel = wheel_of(ctx)
    found = wheel.outbox.show(message_id)
    inner = {"headers": redacted_headers(found.headers), "properties": found.properties, "args": found.args, "kwargs": found.kwargs}
    if as_json:
        write_json({"message": {**plain(found.message), **redacted(inner)}})
        return
    write_facts(_facts(found, wheel.app.timezone))
    click.echo()
    write_facts((f"{kind[:-1]} {name}", repr(value)) for kind in ("headers", "properties") for name, value in redacted(inner[kind]).items())


@outbox.command()
@click.argument("message_ids", metavar="MESSAGE...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All buried messages.")
@json_option
@yes_option
@click.pass_context
def requeue(ctx: click.Context, message_ids: tuple[str, ...], every: bool, as_json: bool, yes: bool) -> None:
    """Send buried messages again, with the ids they had.

    First see to it that the broker takes them: what it refuses again is buried again.
    """
    control = wheel_of(ctx).outbox
    wanted = _wanted(ctx, control, message_ids, every)
    if wanted and not yes:
        click.confirm(f"Send {_count(len(wanted))} again?", abort=True, err=True)
    done = control.requeue(wanted)
    if as_json:
        write_json({"requeued": done})
    else:
        click.echo(f"{_count(done)} sent again." if done else "No message is buried.")


@outbox.command()
@click.argument("message_ids", metavar="MESSAGE...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All buried messages.")
@json_option
@yes_option
@click.pass_context
def discard(ctx: click.Context, message_ids: tuple[str, ...], every: bool, as_json: bool, yes: bool) -> None:
    """Throw buried messages away; the results of their tasks become REVOKED."""
    control = wheel_of(ctx).outbox
    wanted = _wanted(ctx, control, message_ids, every)
    if wanted and not yes:
        click.confirm(f"Discard {_count(len(wanted))}? Their tasks will not run.", abort=True, err=True)
    done = control.discard(wanted)
    if as_json:
        write_json({"discarded": done})
    else:
        click.echo(f"{_count(done)} discarded." if done else "No message is buried.")


def _wanted(ctx: click.Context, control: OutboxControl, message_ids: tuple[str, ...], every: bool) -> list[str]:
    """Return the ids of the messages that a command is about; each is buried."""
    if bool(message_ids) == every:
        raise click.UsageError("name messages, as `tw outbox list` shows them, or say --all", ctx)
    if every:
        return control.buried_ids()
    control.check(message_ids)
    return list(dict.fromkeys(message_ids))


def _count(number: int) -> str:
    return f"{number} buried message{'' if number == 1 else 's'}"


def _row(message: OutboxMessage, where: tzinfo) -> tuple[str, ...]:
    state = f"refused {message.refusals} times" if message.state == "refused" else message.state
    return (message.message_id, state, message.task, message.task_id, moment(message.slot, where), message.destination, message.reason)


def _facts(found: OutboxMessageDetails, where: tzinfo) -> Iterator[tuple[str, str]]:
    message = found.message
    yield "message", message.message_id
    yield "state", message.state
    yield "reason", message.reason
    yield "refusals", str(message.refusals or "")
    yield "claimed", moment(message.claimed, where)
    yield "entry", message.entry
    yield "task", message.task
    yield "task id", message.task_id
    yield "mid", message.mid
    yield "for", moment(message.slot, where)
    yield "to", message.destination
    yield "args", "cannot be decoded here" if found.args is None else repr(redacted(found.args))
    yield "kwargs", "" if found.kwargs is None else repr(redacted(found.kwargs))
