"""Whatever is typed, the command line does it or refuses it in one line."""

from collections.abc import Callable

import pytest
from celery import Celery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.conftest import CommandLine
from tests.fuzz.spoiling import WORDS

NUMBERS = st.one_of(st.integers(), st.floats()).map(str)
TYPED = st.one_of(st.sampled_from(WORDS), st.text(max_size=12), NUMBERS).filter(lambda text: "\0" not in text)
COMMANDS = (
    ["schedule", "add", "{}", "shop.report", "--every", "60"],
    ["schedule", "add", "e", "shop.report", "--cron", "{}", "--tz", "{}"],
    ["schedule", "add", "e", "shop.report", "--every", "{}", "--jitter", "{}"],
    ["schedule", "add", "e", "shop.report", "--at", "{}"],
    ["schedule", "add", "e", "shop.report", "--rrule", "{}", "--start", "{}"],
    ["schedule", "add", "e", "{}", "--unregistered", "--every", "60", "--args", "{}", "--kwargs", "{}", "--note", "{}"],
    ["schedule", "add", "e", "shop.report", "--every", "60", "--max-runs", "{}", "--tolerance", "{}", "--queue", "{}"],
    ["schedule", "preview", "--cron", "{}"],
    ["schedule", "list", "--prefix", "{}"],
    ["schedule", "backfill", "e", "--from", "{}", "--to", "{}", "--yes"],
    ["schedule", "{}"],
    ["cancel", "{}", "--yes", "--json"],
)


@pytest.fixture
def cli(make_app: Callable[..., Celery]) -> CommandLine:
    app = make_app("shop")

    @app.task(name="shop.report", shared=False)
    def report(*args: object, **kwargs: object) -> None:
        """Do nothing: no worker runs here."""

    command_line = CommandLine(app)
    command_line.done("schedule", "add", "e", "shop.report", "--every", "60")
    return command_line


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:5]))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_argument_makes_a_command_fail_otherwise(cli: CommandLine, command: list[str], data: st.DataObject) -> None:
    arguments = [data.draw(TYPED) if word == "{}" else word for word in command]

    result = cli.run(*arguments)

    assert result.exit_code in (0, 1, 2), result.output
