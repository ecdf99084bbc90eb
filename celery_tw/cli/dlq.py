"""`tw dlq`: tasks that have failed for good: look at them, run them again, throw them away."""

from collections.abc import Callable, Iterator, Sequence
from datetime import tzinfo
from typing import Any, TypeVar

import click

from celery_tw.cli.adding import JSONValue
from celery_tw.cli.failures import Failure
from celery_tw.cli.letter_options import chosen, filters_of, letter_options
from celery_tw.cli.output import json_option, plain, printable, write_facts, write_json, write_table, yes_option
from celery_tw.cli.redaction import redacted, redacted_headers
from celery_tw.cli.session import wheel_of
from celery_tw.cli.words import moment
from celery_tw.integration.dlq.letter_views import DeadLetter, DeadLetterDetails, ErrorGroup

GROUP_COLUMNS = ("letters", "error", "task", "reason", "last", "fingerprint")
LETTER_COLUMNS = ("letter", "task", "task id", "error", "reason", "attempts", "died")
LONGEST_ERROR = 80
ERRORS_ASKED_ABOUT = 5
LEADERLESS = "no scheduler leads: what was requeued waits until one does"

T = TypeVar("T")


@click.group()
def dlq() -> None:
    """Look at tasks that have failed for good, and run them again or throw them away."""


@dlq.command("list")
@letter_options
@click.option("--each", is_flag=True, help="List each letter, the newest first, instead of errors with their counts.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many to show.")
@click.option("--cursor", help="With --each: go on where an earlier list ended.")
@json_option
@click.pass_context
def list_letters(ctx: click.Context, /, each: bool, limit: int, cursor: str | None, as_json: bool, **given: Any) -> None:
    """List the errors that tasks have died of, the most frequent first, or the letters themselves."""
    wheel = wheel_of(ctx)
    filters, where = filters_of(ctx, **given), wheel.app.timezone
    if not each:
        groups = wheel.dlq.groups(**filters)
        if as_json:
            write_json({"groups": [redacted(plain(group)) for group in groups[:limit]]})
            return
        write_table(GROUP_COLUMNS, [_group_row(group, where) for group in groups[:limit]], empty="There is no such dead letter.")
        _write_more(len(groups) - limit, "errors")
        return
    page = _of_the_box(lambda: wheel.dlq.list(limit, cursor, **filters))
    if as_json:
        write_json({"letters": [redacted_letter(letter) for letter in page.letters], "cursor": page.cursor})
        return
    write_table(LETTER_COLUMNS, [_letter_row(letter, where) for letter in page.letters], empty="There is no such dead letter.")
    if page.cursor:
        click.echo(f"There are more: --cursor {page.cursor}")


@dlq.command()
@click.argument("letter_id", metavar="LETTER")
@json_option
@click.pass_context
def show(ctx: click.Context, letter_id: str, as_json: bool) -> None:
    """Show all of one dead letter, but for its secrets."""
    wheel = wheel_of(ctx)
    found = wheel.dlq.show(letter_id)
    if as_json:
        write_json({"letter": _json_of(found)})
        return
    write_facts(_facts(found, wheel.app.timezone))
    for warning in found.warnings:
        click.echo(f"warning: {warning}")
    click.echo()
    for kind, values in (("header", redacted_headers(found.headers)), ("property", redacted(found.properties))):
        write_facts((f"{kind} {name}", repr(value)) for name, value in values.items())
    for line in ("", *redacted(found.traceback).splitlines()) if found.traceback else ():
        click.echo(printable(line))


@dlq.command()
@click.argument("letter_ids", metavar="LETTER...", nargs=-1)
@letter_options
@click.option("--all", "every", is_flag=True, help="All dead letters.")
@click.option("--args", type=JSONValue(list, "JSON list"), help="Other positional arguments, for a single letter.")
@click.option("--kwargs", type=JSONValue(dict, "JSON object"), help="Other keyword arguments, for a single letter.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="So many a second; all at once.")
@json_option
@yes_option
@click.pass_context
def requeue(
    ctx: click.Context,
    /,
    letter_ids: tuple[str, ...],
    every: bool,
    args: list[Any] | None,
    kwargs: dict[str, Any] | None,
    rate: float | None,
    as_json: bool,
    yes: bool,
    **given: Any,
) -> None:
    """Run dead tasks again, as new sends under their old ids.

    First see to it that the cause is gone: what dies again is a dead letter again. The tasks wait in the timetable until a scheduler that
    leads sends them.
    """
    wheel = wheel_of(ctx)
    box = wheel.dlq
    filters = chosen(ctx, box, letter_ids, every=every, **given)
    errors = box.groups(**filters)
    count = sum(error.count for error in errors)
    if (args is not None or kwargs is not None) and count != 1:
        raise click.UsageError(f"--args and --kwargs are for a single letter, not for {count}", ctx)
    if count and not yes:
        click.confirm(f"Run {_counted(count)} again? {_words_of(errors)}", abort=True, err=True)
    done = _of_the_box(lambda: box.requeue(args, kwargs, rate, **filters))
    warnings = [*done.warnings, *([LEADERLESS] if done.count and wheel.status().leader is None else [])]
    if as_json:
        write_json({"requeued": done.count, "gone": done.gone, "warnings": warnings})
        return
    click.echo(f"{_counted(done.count)} requeued." if count else "There is no such dead letter.")
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


@dlq.command()
@click.argument("letter_ids", metavar="LETTER...", nargs=-1)
@letter_options
@click.option("--all", "every", is_flag=True, help="All dead letters.")
@json_option
@yes_option
@click.pass_context
def purge(ctx: click.Context, /, letter_ids: tuple[str, ...], every: bool, as_json: bool, yes: bool, **given: Any) -> None:
    """Throw dead letters away: nobody can run those tasks again."""
    box = wheel_of(ctx).dlq
    filters = chosen(ctx, box, letter_ids, every=every, **given)
    errors = box.groups(**filters)
    count = sum(error.count for error in errors)
    if count and not yes:
        click.confirm(f"Throw {_counted(count)} away, for good? {_words_of(errors)}", abort=True, err=True)
    done = box.purge(**filters) if count else 0
    if as_json:
        write_json({"purged": done})
    else:
        click.echo(f"{_counted(done)} thrown away." if done else "There is no such dead letter.")


@dlq.command("import")
@click.argument("log", type=click.File(errors="replace"))
@json_option
@click.pass_context
def import_log(ctx: click.Context, log: Any, as_json: bool) -> None:
    """Bring back the letters that workers wrote to their LOG while Redis was away; - reads standard input.

    Lines without a letter are passed over. A log may be read again: a letter is kept once.
    """
    done = wheel_of(ctx).dlq.import_lines(log)
    if as_json:
        write_json({"imported": done})
    else:
        click.echo(f"{_counted(done.letters)} imported.")
    if done.unreadable:
        raise Failure(f"{done.unreadable} lines should hold a dead letter and cannot be read")


def redacted_letter(letter: DeadLetter) -> dict[str, Any]:
    """Return a letter as plain fields, without a password that its error shows."""
    return {**plain(letter), "message": redacted(letter.message)}


def _of_the_box(verb: Callable[[], T]) -> T:
    """Return what *verb* does; what it refuses becomes one line."""
    try:
        return verb()
    except ValueError as error:
        raise Failure(str(error)) from error


def _counted(number: int) -> str:
    return f"{number} dead letter{'' if number == 1 else 's'}"


def _words_of(errors: Sequence[ErrorGroup]) -> str:
    """Return which errors a question is about."""
    words = [f"{each.count} of {each.task or 'unknown tasks'}, {each.exception or each.reason}" for each in errors[:ERRORS_ASKED_ABOUT]]
    more = [f"{len(errors) - ERRORS_ASKED_ABOUT} other errors"] if len(errors) > ERRORS_ASKED_ABOUT else []
    return f"({'; '.join(words + more)})"


def _write_more(left: int, what: str) -> None:
    if left > 0:
        click.echo(f"and {left} more {what}")


def _group_row(group: ErrorGroup, where: tzinfo) -> tuple[str, ...]:
    return (
        str(group.count),
        _error(group.exception, group.message),
        group.task,
        group.reason,
        moment(group.last, where),
        group.fingerprint,
    )


def _letter_row(letter: DeadLetter, where: tzinfo) -> tuple[str, ...]:
    error = _error(letter.exception, letter.message)
    return (letter.letter_id, letter.task, letter.task_id, error, letter.reason, str(letter.attempts), moment(letter.last, where))


def _error(exception: str, message: str) -> str:
    text = ": ".join(part for part in (exception, redacted(message)) if part)
    return text if len(text) <= LONGEST_ERROR else f"{text[: LONGEST_ERROR - 1]}…"


def _json_of(found: DeadLetterDetails) -> dict[str, Any]:
    inner = {"args": found.args, "kwargs": found.kwargs, "properties": found.properties, "traceback": found.traceback}
    position = {"group": found.group, "chord": found.chord, "root": found.root, "parent": found.parent}
    headers = {"headers": redacted_headers(found.headers), "warnings": found.warnings}
    return {**redacted_letter(found.letter), **position, **redacted(inner), **headers}


def _facts(found: DeadLetterDetails, where: tzinfo) -> Iterator[tuple[str, str]]:
    letter = found.letter
    yield "letter", letter.letter_id
    yield "task", letter.task
    yield "task id", letter.task_id
    yield "reason", letter.reason
    yield "error", ": ".join(part for part in (letter.exception, redacted(letter.message)) if part)
    yield "fingerprint", letter.fingerprint
    yield "attempts", str(letter.attempts)
    yield "died", moment(letter.last, where)
    yield "died before", f"{letter.count - 1} times, first {moment(letter.first, where)}" if letter.count > 1 else ""
    yield "worker", letter.worker
    yield "queue", letter.queue
    yield "mid", letter.mid
    yield "replay of", letter.replay_of
    yield "generation", str(letter.generation or "")
    yield from (("group", found.group), ("chord", found.chord), ("root", found.root), ("parent", found.parent))
    yield "size", f"{letter.size} bytes"
    yield "args", "cannot be decoded here" if found.args is None else repr(redacted(found.args))
    yield "kwargs", "" if found.kwargs is None else repr(redacted(found.kwargs))
