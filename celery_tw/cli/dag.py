"""`tw dag`: runs of DAGs: look at them, and act on them."""

import time
from collections.abc import Sequence

import click

from celery_tw.cli.failures import Failure
from celery_tw.cli.output import json_option, write_facts, write_json, write_table, yes_option
from celery_tw.cli.session import wheel_of
from celery_tw.cli.words import moment
from celery_tw.core.dag_state import RUN_ENDED, RunState
from celery_tw.dags.drawing import Drawn, dot, mermaid, tree
from celery_tw.integration.dags.views import DagRunView, NodeView

COLUMNS = ("run", "dag", "state", "submitted", "nodes")
WATCH_S = 0.5
CLEAR = "\x1b[H\x1b[2J"


@click.group()
def dag() -> None:
    """Look at the runs of DAGs, and act on them."""


@dag.command("list")
@click.option("--name", help="Only runs of this DAG.")
@click.option("--state", type=click.Choice([state.value for state in RunState]), help="Only runs in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@click.pass_context
def list_runs(ctx: click.Context, name: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List runs, the newest first."""
    wheel = wheel_of(ctx)
    runs = wheel.dags.list(name=name, state=state, limit=limit)
    if as_json:
        write_json({"runs": runs})
        return
    where = wheel.app.timezone
    rows = [(run.id, run.dag, run.state, moment(run.submitted, where), _counted(run)) for run in runs]
    write_table(COLUMNS, rows, empty="no DAG has been run")


@dag.command()
@click.argument("run_id")
@click.option("--watch", is_flag=True, help="Show it again and again, until it has ended.")
@click.option("--mermaid", "as_mermaid", is_flag=True, help="Write the graph as Mermaid draws it.")
@click.option("--dot", "as_dot", is_flag=True, help="Write the graph as Graphviz draws it.")
@json_option
@click.pass_context
def show(ctx: click.Context, run_id: str, watch: bool, as_mermaid: bool, as_dot: bool, as_json: bool) -> None:
    """Show a run and its nodes."""
    dags = wheel_of(ctx).dags
    while True:
        run, nodes = dags.show(run_id)
        if as_json:
            write_json({"run": run, "nodes": nodes})
        elif as_mermaid or as_dot:
            drawn = _drawn(nodes)
            click.echo(mermaid(drawn) if as_mermaid else dot(drawn, name=run.dag))
        else:
            _write(ctx, run, nodes, clear=watch)
        if not watch or run.state in RUN_ENDED:
            return
        time.sleep(WATCH_S)


@dag.command()
@click.argument("run_id")
@click.pass_context
def pause(ctx: click.Context, run_id: str) -> None:
    """Let no further node of a run begin until it is resumed."""
    _say(wheel_of(ctx).dags.pause(run_id))


@dag.command()
@click.argument("run_id")
@click.pass_context
def resume(ctx: click.Context, run_id: str) -> None:
    """Let the nodes of a run begin again."""
    _say(wheel_of(ctx).dags.resume(run_id))


@dag.command()
@click.argument("run_id")
@yes_option
@click.pass_context
def cancel(ctx: click.Context, run_id: str, yes: bool) -> None:
    """Let no further node of a run begin, and ask those that run to stop."""
    dags = wheel_of(ctx).dags
    view = dags.run(run_id).status()
    left = sum(count for state, count in view.counts.items() if state in ("pending", "ready", "queued", "running"))
    if not yes:
        click.confirm(f"Cancel the run of {view.dag!r}, of which {left} nodes have not ended?", abort=True)
    _say(dags.cancel(run_id))


@dag.command()
@click.argument("run_id")
@click.argument("node", required=False)
@click.pass_context
def retry(ctx: click.Context, run_id: str, node: str | None) -> None:
    """Run NODE again and all that comes after it; without a node, each that failed, is blocked or was cancelled."""
    _say(wheel_of(ctx).dags.retry(run_id, node))


@dag.command()
@click.argument("run_id")
@click.argument("node")
@click.option("--result", help="Its result, as JSON.")
@click.pass_context
def done(ctx: click.Context, run_id: str, node: str, result: str | None) -> None:
    """Take NODE for succeeded, as if it had run."""
    _say(wheel_of(ctx).dags.run(run_id).mark_done(node, _parsed(result)))


def _parsed(text: str | None) -> object:
    if text is None:
        return None
    from kombu.utils.json import loads  # noqa: PLC0415 - beside its only use

    try:
        return loads(text)
    except ValueError as error:
        raise Failure(f"--result is no JSON: {error}") from error


def _say(view: DagRunView) -> None:
    click.echo(f"{view.dag} {view.id}: {view.state} ({_counted(view)})")


def _counted(run: DagRunView) -> str:
    return ", ".join(f"{count} {state}" for state, count in run.counts.items())


def _drawn(nodes: Sequence[NodeView]) -> list[Drawn]:
    return [Drawn(node.key, node.after, node.state) for node in nodes]


def _write(ctx: click.Context, run: DagRunView, nodes: Sequence[NodeView], *, clear: bool) -> None:
    where = ctx.obj.app.timezone
    if clear:
        click.echo(CLEAR, nl=False)
    facts = [
        ("run", run.id),
        ("dag", run.dag),
        ("state", run.state),
        ("nodes", _counted(run)),
        ("submitted", moment(run.submitted, where)),
        ("ended", moment(run.ended, where) if run.ended else ""),
        ("key", run.idempotency_key or ""),
    ]
    write_facts(facts)
    click.echo()
    for line in tree(_drawn(nodes)):
        click.echo(line)
    for node in nodes:
        if node.error:
            click.echo(f"{node.key} (attempt {node.attempt}): {node.error}")
