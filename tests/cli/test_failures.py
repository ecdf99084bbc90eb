"""An error is one line and an exit code: 69 when Redis is away, 2 for usage, 1 for refused."""

import os
import subprocess
import sys

import pytest
from celery import Celery

from celery_tw.embedded import EmbeddedServer
from tests.cli.conftest import CommandLine

AWAY = "redis://127.0.0.1:1/0"

COMMANDS = [
    ("status",),
    ("schedule", "list"),
    ("schedule", "show", "tea"),
    ("schedule", "add", "tea", "celery.backend_cleanup", "--every", "5"),
    ("schedule", "pause", "tea"),
    ("schedule", "resume", "tea"),
    ("schedule", "remove", "--yes", "tea"),
    ("schedule", "trigger", "tea"),
    ("schedule", "preview", "tea"),
    ("schedule", "history", "tea"),
    ("schedule", "backfill", "tea", "--from", "2026-01-01", "--to", "2026-01-02"),
    ("cancel", "a"),
    ("outbox", "list"),
    ("outbox", "show", "1-1"),
    ("outbox", "requeue", "1-1"),
    ("outbox", "discard", "--all"),
    ("clock", "show"),
    ("clock", "accept"),
    ("clock", "repair"),
]


def app_on(url: str | None, **settings) -> Celery:
    app = Celery("shop", broker=url, set_as_current=False)
    app.conf.update(settings)
    return app


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_redis_away_is_code_69_and_one_line_with_the_server(arguments):
    error = CommandLine(app_on(AWAY)).refused(*arguments, code=69)
    assert error.startswith("Error: Redis at localhost:1/0 does not answer: ")
    assert error.count("\n") == 1


def test_a_server_that_dies_later_is_code_69():
    with EmbeddedServer.start(appendonly=False) as server:
        cli = CommandLine(app_on(server.url))
        cli.done("status")
        server.kill()
        cli.refused("status", code=69)


def test_the_password_of_the_broker_is_not_shown():
    error = CommandLine(app_on("redis://:hush@127.0.0.1:1/0")).refused("status", code=69)
    assert "hush" not in error


def test_another_broker_is_refused_by_name():
    assert "'memory'" in CommandLine(app_on("memory://")).refused("status")


def test_a_mistyped_setting_is_refused_with_the_near_match(redis_url):
    assert "tw_leader_lease" in CommandLine(app_on(redis_url, tw_leader_leese=3)).refused("status")


def test_an_app_without_a_broker_is_refused():
    assert "no broker_url is set" in CommandLine(app_on(None)).refused("status")


def test_without_an_app_the_usage_is_shown():
    assert "celery -A proj tw" in CommandLine(Celery("default", set_as_current=False)).refused("status", code=2)


def test_another_project_in_the_namespace_is_refused(make_app):
    CommandLine(make_app("shop", tw_namespace="shared")).done("schedule", "list")
    error = CommandLine(make_app("bakery", tw_namespace="shared")).refused("schedule", "list")
    assert "belongs to the project 'shop'" in error


def test_a_queue_key_of_the_wrong_type_is_refused_in_one_line(cli, redis_client):
    cli.done("schedule", "add", "tea", "shop.report", "--every", "60")
    redis_client.set("celery", "not a list")
    assert "WRONGTYPE" in cli.refused("schedule", "trigger", "tea")


def test_a_redis_out_of_memory_is_refused_in_one_line():
    with EmbeddedServer.start(appendonly=False, config=["maxmemory 1"]) as server:
        error = CommandLine(app_on(server.url)).refused("schedule", "add", "tea", "celery.backend_cleanup", "--every", "5")
    assert "out of memory" in error
    assert error.count("\n") == 1


def test_a_payload_that_is_too_large_is_refused(cli):
    error = cli.refused("schedule", "add", "tea", "shop.report", "--every", "5", "--args", f'["{"x" * 300_000}"]')
    assert "262,144" in error


def test_it_is_a_command_of_celery(redis_url):
    command = [sys.executable, "-m", "celery", "-b", redis_url, "-A", "example_project.app", "tw", "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert '"namespace": "example_project"' in done.stdout


def test_it_exits_as_a_process_with_the_code(redis_url):
    command = [sys.executable, "-m", "celery", "-b", AWAY, "-A", "example_project.app", "tw", "status"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 69
    assert done.stderr.startswith("Error: Redis at localhost:1/0 does not answer")
    assert done.stdout == ""
