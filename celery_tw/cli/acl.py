"""`tw acl`: the least rights that a Redis user of the time wheel needs, as commands to be pasted."""

from shlex import quote

import click

from celery_tw.cli.output import json_option, write_json
from celery_tw.cli.session import wheel_of
from celery_tw.integration.rights import rights_of
from celery_tw.stores.redis.acl import ROLES


@click.command()
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), help="Only this role; may be given several times.")
@click.option("--redis-7.0", "before_7_2", is_flag=True, help="Leave out what servers before 7.2 do not know.")
@json_option
@click.pass_context
def acl(ctx: click.Context, roles: tuple[str, ...], before_7_2: bool, as_json: bool) -> None:
    """Show the rights that a Redis user of the time wheel needs, and no more.

    They are read from the scripts of this version. Nothing is changed: paste the commands into redis-cli, with passwords of your own.
    """
    rights = rights_of(wheel_of(ctx).app, server=(7, 0) if before_7_2 else (7, 2))
    wanted = {user: rules for user, rules in rights.items() if not roles or user.role in roles}
    if as_json:
        write_json({"acl": {user.name: rules for user, rules in wanted.items()}})
        return
    for user, rules in wanted.items():
        click.echo(f"ACL SETUSER {user.name} reset on '>password' {' '.join(map(quote, rules))}")
