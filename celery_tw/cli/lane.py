"""`tw lane`: what waits for fair queues, and letting it wait in another lane."""

import click

from celery_tw.cli.output import json_option, write_json, write_table, yes_option
from celery_tw.cli.session import wheel_of
from celery_tw.cli.words import aged, moment
from celery_tw.core.lane import LANES
from celery_tw.integration.lanes.lanes import Which
from celery_tw.integration.lanes.views import QueueView
from celery_tw.integration.timewheel import TimeWheel

QUEUE_COLUMNS = ("queue", "lane", "waiting", "oldest", "too long", "admitted", "share", "asked")
TASK_COLUMNS = ("task id", "task", "queue", "lane", "counts as", "since", "waited")


@click.group()
def lane() -> None:
    """Look at the lanes of fair queues, and let tasks wait in another one."""


@lane.command("list")
@click.option("--queue", help="Only tasks for this queue.")
@click.option("--lane", "in_lane", type=click.Choice(LANES), help="Only tasks of this lane.")
@click.option("--task", help="Only tasks of this name; * and ? stand for any letters.")
@click.option("--older-than", type=click.FloatRange(0), metavar="SECONDS", help="Only tasks that have waited longer.")
@click.option("--tasks", "each", is_flag=True, help="List the tasks, not the lanes.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many tasks at most.")
@click.option("--minutes", type=click.IntRange(1, 59), default=5, show_default=True, help="Shares over how many minutes.")
@json_option
@click.pass_context
def list_lanes(
    ctx: click.Context,
    queue: str | None,
    in_lane: str | None,
    task: str | None,
    older_than: float | None,
    each: bool,
    limit: int,
    minutes: int,
    as_json: bool,
) -> None:
    """List the lanes of each fair queue, with the shares that they had and were to have; or the tasks in them.

    Any of --lane, --task and --older-than lists tasks.
    """
    wheel = wheel_of(ctx)
    if each or in_lane or task or older_than is not None:
        _list_tasks(wheel, Which(queue, in_lane, task, older_than), limit, as_json)
        return
    queues = [view for view in wheel.lanes.stats(minutes=minutes) if queue in (None, view.queue)]
    if as_json:
        write_json({"queues": queues})
        return
    write_table(QUEUE_COLUMNS, [row for view in queues for row in _rows(view)], empty="No queue is fair: name some in tw_fair_queues.")
    for view in queues:
        if view.unconsumed:
            click.echo(f"{view.queue}: no worker has said that it consumes this queue")


@lane.command()
@click.argument("task_id", required=False)
@click.option("--queue", help="Tasks for this queue.")
@click.option("--lane", "in_lane", type=click.Choice(LANES), help="Tasks of this lane.")
@click.option("--task", help="Tasks of this name; * and ? stand for any letters.")
@click.option("--older-than", type=click.FloatRange(0), metavar="SECONDS", help="Tasks that have waited longer.")
@click.option("--to", type=click.Choice(LANES), default="high", show_default=True, help="The lane that they are to wait in.")
@click.option("--limit", type=click.IntRange(min=1), help="How many at most, the oldest first.")
@json_option
@yes_option
@click.pass_context
def boost(
    ctx: click.Context,
    task_id: str | None,
    queue: str | None,
    in_lane: str | None,
    task: str | None,
    older_than: float | None,
    to: str,
    limit: int | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Let tasks wait in another lane: the one with TASK_ID, or all that the options say.

    The time for which they have waited counts on.
    """
    wheel, which = wheel_of(ctx), Which(queue, in_lane, task, older_than)
    if (task_id is None) == (which == Which()):
        raise click.UsageError("name the id of one task, or say which are meant with --queue, --lane, --task or --older-than", ctx)
    if task_id is None and not yes:
        click.confirm(_question(wheel, which, to, limit), abort=True, err=True)
    filters = {"queue": queue, "lane": in_lane, "task": task, "older_than": older_than}
    done = wheel.lanes.boost(task_id, to=to) if task_id else wheel.lanes.boost(**filters, to=to, limit=limit)  # type: ignore[arg-type]
    if as_json:
        write_json({"boosted": done, "to": to})
    else:
        click.echo(f"{_count(done)} in the lane {to}." if done else "No such task waits in a lane.")


def _question(wheel: TimeWheel, which: Which, to: str, limit: int | None) -> str:
    found = wheel.lanes.count(which, leave_out=to)
    return f"Let {_count(found if limit is None else min(found, limit), verb='wait')} in the lane {to}?"


def _count(number: int, *, verb: str = "") -> str:
    what = "task" if number == 1 else "tasks"
    return f"{number} {what} {verb}" if verb else f"{number} {what} {'waits' if number == 1 else 'wait'}"


def _list_tasks(wheel: TimeWheel, which: Which, limit: int, as_json: bool) -> None:
    tasks = wheel.lanes.list(queue=which.queue, lane=which.lane, task=which.task, older_than=which.older_than, limit=limit)
    if as_json:
        write_json({"tasks": tasks})
        return
    where = wheel.app.timezone
    rows = [
        (each.task_id, each.task, each.queue, each.lane, each.counts_as, moment(each.since, where), aged(each.waited)) for each in tasks
    ]
    write_table(TASK_COLUMNS, rows, empty="No such task waits in a lane.")


def _rows(view: QueueView) -> list[tuple[str, ...]]:
    return [
        (
            view.queue,
            each.lane,
            str(each.waiting),
            aged(each.oldest),
            str(each.starving),
            str(each.admitted),
            "" if each.share is None else f"{each.share:.1f} %",
            f"{each.asked} %",
        )
        for each in view.lanes
    ]
