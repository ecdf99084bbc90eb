"""The command line, called in this process with an app of the test's choice."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from celery_tw import TimeWheel
from celery_tw.cli import tw


class CommandLine:
    """`celery -A … tw`, without the process."""

    def __init__(self, app: Celery | None) -> None:
        self.app = app

    def run(self, *arguments: str, typed: str | None = None) -> Result:
        """Run a command, *typed* being what a person answers; an error that is no exit is raised here."""
        context = CLIContext(app=self.app, no_color=True, workdir=None)
        return CliRunner().invoke(tw, arguments, input=typed, obj=context, catch_exceptions=False)

    def done(self, *arguments: str, typed: str | None = None) -> str:
        """Run a command that must succeed, and return its standard output."""
        result = self.run(*arguments, typed=typed)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command with --json, and return what it wrote."""
        return json.loads(self.done(*arguments, "--json"))

    def refused(self, *arguments: str, code: int = 1, typed: str | None = None) -> str:
        """Run a command that must fail with *code*, and return what it says on standard error."""
        result = self.run(*arguments, typed=typed)
        assert result.exit_code == code, result.output
        return result.stderr


@pytest.fixture
def shop(make_app: Callable[..., Celery]) -> Celery:
    """An app with one task."""
    app = make_app("shop", timezone="Europe/Berlin")

    @app.task(name="shop.report", shared=False)
    def report(*args: Any, **kwargs: Any) -> None:
        """Do nothing: no worker runs here."""

    return app


@pytest.fixture
def wheel(shop: Celery) -> TimeWheel:
    return TimeWheel(shop)


@pytest.fixture
def cli(shop: Celery) -> CommandLine:
    return CommandLine(shop)
