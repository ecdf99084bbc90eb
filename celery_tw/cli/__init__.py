"""`celery -A proj tw …`: the command line for people.

Celery loads this module at the start of *every* one of its commands, a worker's too: nothing is imported here beyond what the library
itself needs, and rich only when a table is drawn.

Exit codes: 0 done, 1 refused (the reason is on standard error, in one line), 2 wrong usage, 69 Redis, or the database, does not answer.
"""

import click

from celery_tw.cli.acl import acl
from celery_tw.cli.cancel import cancel
from celery_tw.cli.clock import clock
from celery_tw.cli.dag import dag
from celery_tw.cli.db import db
from celery_tw.cli.dlq import dlq
from celery_tw.cli.eject import eject
from celery_tw.cli.failures import OneLineErrors
from celery_tw.cli.lane import lane
from celery_tw.cli.outbox import outbox
from celery_tw.cli.run import run
from celery_tw.cli.schedule import schedule
from celery_tw.cli.status import status
from celery_tw.integration.hidden_settings import hide_our_urls

hide_our_urls()  # `celery report` loads this module like every other command, and an app need not have a TimeWheel


@click.group(cls=OneLineErrors)
def tw() -> None:
    """Look at the time wheel and change its entries."""


tw.add_command(status)
tw.add_command(schedule)
tw.add_command(cancel)
tw.add_command(run)
tw.add_command(lane)
tw.add_command(dag)
tw.add_command(db)
tw.add_command(outbox)
tw.add_command(dlq)
tw.add_command(clock)
tw.add_command(eject)
tw.add_command(acl)

__all__ = ["tw"]
