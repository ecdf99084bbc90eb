"""`python -m example_project.workflow`: a DAG with a branch that fails, a retry, and a repair; exit 0 when all came about as it should.

It runs on a Redis server and a SQLite file of its own, with one worker.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from celery_tw import CeleryTWError
from celery_tw.embedded import EmbeddedServer
from example_project import DATABASE_VARIABLE, FOLDER_VARIABLE, URL_VARIABLE
from example_project.processes import Children

TIMEOUT_S = 60
AFTER_THE_FIRST_TRY = {
    "orders": "succeeded",
    "rates": "succeeded",
    "prices": "succeeded",
    "total": "succeeded",
    "publish": "failed",
    "tell": "blocked",
    "archive": "succeeded",
    "tidy": "succeeded",
}


def main() -> int:
    """Run it, and return the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="example-project-"))
    os.environ[FOLDER_VARIABLE] = str(folder)
    os.environ[DATABASE_VARIABLE] = f"sqlite:///{folder / 'dags.db'}"
    try:
        with EmbeddedServer.start() as server:
            os.environ[URL_VARIABLE] = server.url
            children = Children(server.url, folder)
            try:
                children.worker()
                return _run()
            finally:
                children.end()
    except CeleryTWError as error:
        print(f"FAILED: {error}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run() -> int:
    from celery_tw.dags.drawing import mermaid, tree  # noqa: PLC0415 - beside the app, whose settings read the environment
    from example_project.app import tw  # noqa: PLC0415
    from example_project.etl import make_dag, room  # noqa: PLC0415

    run = tw.dags.submit(make_dag(), idempotency_key="2026-03-01")
    print(f"The run {run.id} of the nightly figures begins\n\n{mermaid(run.graph())}\n")
    run.wait(TIMEOUT_S)
    nodes = {node.key: node for node in run.nodes()}
    _show("The rates came at the second try. There was no room to publish: that branch is blocked, the others went on", tree(run.graph()))
    first_try = {key: node.state for key, node in nodes.items()} == AFTER_THE_FIRST_TRY and nodes["rates"].attempt == 2

    room().mkdir()
    run.retry("publish")
    view = run.wait(TIMEOUT_S)
    _show("Somebody made room and ran the node again, and with it all that comes after it", tree(run.graph()))
    published = (room() / "total").read_text() if room().exists() else ""
    right = first_try and view.state == "succeeded" and published == f"{run.result('total'):g}" == "40"
    print(f"Published: {published}. All came about as it should." if right else f"FAILED: the run has {view.state}: {view.counts}")
    return 0 if right else 1


def _show(what: str, lines: list[str]) -> None:
    print("\n".join([what, "", *(f"    {line}" for line in lines), ""]))


if __name__ == "__main__":
    sys.exit(main())
