"""`tw cancel`: keep tasks from running that were sent already."""

from datetime import tzinfo

import click

from celery_tw.cli.output import json_option, printable, write_json, yes_option
from celery_tw.cli.session import wheel_of
from celery_tw.cli.words import moment
from celery_tw.integration.cancellation.cancelling import Cancellation, WaitingTask
from celery_tw.integration.timewheel import TimeWheel


@click.command()
@click.argument("task_ids", metavar="TASK_ID...", nargs=-1, required=True)
@click.option("--reason", default="cancelled", help="What the result says.")
@click.option("--terminate-after", type=click.FloatRange(0), metavar="SECONDS", help="End a run that has not stopped by then (prefork).")
@json_option
@yes_option
@click.pass_context
def cancel(ctx: click.Context, task_ids: tuple[str, ...], reason: str, terminate_after: float | None, as_json: bool, yes: bool) -> None:
    """Take tasks that wait off the timetable.

    TASK_ID is the id of a task that was sent with an ETA, or of the fire of a one-time entry. What does not wait may be on its way: the
    workers are asked to revoke it. A task with one of our bases that runs already is asked to stop; any other is left to run.
    """
    wanted = list(dict.fromkeys(task_ids))
    if "" in wanted:
        raise click.BadParameter("a task id is not empty", param_hint="TASK_ID")
    wheel = wheel_of(ctx)
    if not yes:
        click.confirm(_question(wheel, wanted), abort=True, err=True)
    cancelled = [wheel.cancel(task_id, reason, terminate_after=terminate_after) for task_id in wanted]
    if as_json:
        write_json({"cancelled": cancelled})
        return
    for each in cancelled:
        click.echo(_words(each, wheel.app.timezone))


def _question(wheel: TimeWheel, wanted: list[str]) -> str:
    found = {task_id: wheel.canceller.waiting(task_id) for task_id in wanted}
    waiting = [task for tasks in found.values() for task in tasks]
    elsewhere = sum(not tasks for tasks in found.values())
    parts = []
    if waiting:
        parts.append(f"cancel {_count(len(waiting), 'waiting task')} ({_shown(waiting, wheel.app.timezone)})")
    if elsewhere:
        parts.append(f"ask the workers to revoke {_count(elsewhere, 'id')} under which nothing waits")
    question = " and ".join(parts)
    return f"{question[0].upper()}{question[1:]}?"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _shown(waiting: list[WaitingTask], where: tzinfo) -> str:
    first = _one(waiting[0], where)
    return first if len(waiting) == 1 else f"{first}, …"


def _one(task: WaitingTask, where: tzinfo) -> str:
    due = f", due {moment(task.due, where)}" if task.due else ""
    return printable((task.entry or task.task or "unreadable") + due)


def _words(cancelled: Cancellation, where: tzinfo) -> str:
    task_id = printable(cancelled.task_id)
    if cancelled.stopping:
        limit = "" if cancelled.terminate_after is None else f", or is ended in {cancelled.terminate_after:g} s"
        return f"{task_id}: it runs, and was asked to stop{limit}"
    if not cancelled.found:
        return f"{task_id}: nothing waits under this id; the workers were asked to revoke it"
    return f"{task_id}: taken off the timetable: {'; '.join(_one(task, where) for task in cancelled.waiting)}"
