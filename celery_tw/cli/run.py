"""`tw run`: the runs that are under way, of tasks with one of our bases."""

import json

import click

from celery_tw.cli.output import json_option, plain, write_json, write_table
from celery_tw.cli.session import wheel_of
from celery_tw.cli.words import moment

COLUMNS = ("task id", "task", "state", "since", "process", "losses", "holds")


@click.group()
def run() -> None:
    """Look at the runs that are under way."""


@run.command("list")
@json_option
@click.pass_context
def list_runs(ctx: click.Context, as_json: bool) -> None:
    """List the runs under way, the oldest first."""
    wheel = wheel_of(ctx)
    runs = wheel.runs.under_way()
    if as_json:
        write_json({"runs": runs})
        return
    where = wheel.app.timezone
    rows = [
        (
            each.task_id,
            each.task,
            each.state,
            moment(each.started, where) if each.started else "",
            each.process,
            str(each.losses),
            " ".join(each.holds),
        )
        for each in runs
    ]
    write_table(COLUMNS, rows, empty="no run is under way")


@run.command()
@click.argument("task_id")
@json_option
@click.pass_context
def show(ctx: click.Context, task_id: str, as_json: bool) -> None:
    """Show the runs of one task, with the last checkpoint."""
    runs = wheel_of(ctx).runs.show(task_id)
    if as_json:
        write_json({"runs": runs})
        return
    if not runs:
        click.echo(f"no run of {task_id} is under way")
    for each in runs:
        for name, value in plain(each).items():
            click.echo(f"{name}: {value if isinstance(value, str) else json.dumps(value)}")
