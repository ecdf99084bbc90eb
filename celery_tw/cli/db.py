"""`tw db`: the tables of DAGs, for those who may create them."""

import click

from celery_tw.cli.session import wheel_of


@click.group()
def db() -> None:
    """Look after the tables of DAGs."""


@db.command()
@click.pass_context
def upgrade(ctx: click.Context) -> None:
    """Make the tables in tw_database_url, or bring them up to date; what is there is left as it is."""
    wheel_of(ctx).dags.set_up()
    click.echo("the tables of DAGs are up to date")
