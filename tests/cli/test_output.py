"""The same facts come as JSON, as plain text, and as drawn tables."""

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from celery_tw.cli.output import plain, write_facts, write_json, write_table
from celery_tw.integration.entries.views import Backfill


def test_views_become_plain_json(capsys):
    write_json({"backfill": Backfill(slots=1, first=datetime(2026, 1, 1, tzinfo=UTC), last=None, generation=None)})
    document = json.loads(capsys.readouterr().out)
    assert document == {"backfill": {"slots": 1, "first": "2026-01-01T00:00:00+00:00", "last": None, "generation": None}}
    assert plain((1, {2: "x"})) == [1, {"2": "x"}]


def test_what_json_has_no_form_for_becomes_text(capsys):
    write_json({"args": [UUID(int=7), Decimal("1.5")]})
    assert json.loads(capsys.readouterr().out) == {"args": [str(UUID(int=7)), "1.5"]}


def test_a_table_outside_a_terminal_is_aligned_and_never_cut(capsys):
    write_table(("name", "task"), [("a" * 200, "x"), ("b", "y")], empty="none")
    lines = capsys.readouterr().out.splitlines()
    assert [line.index(task) for line, task in zip(lines, ("task", "x", "y"), strict=True)] == [202, 202, 202]


def test_an_empty_table_is_a_line(capsys):
    write_table(("name",), [], empty="No entries.")
    assert capsys.readouterr().out == "No entries.\n"


def test_facts_without_a_value_are_left_out(capsys):
    write_facts([("name", "a"), ("note", ""), ("id", "7")])
    assert capsys.readouterr().out == "name  a\nid    7\n"


def test_control_characters_do_not_reach_the_terminal(capsys):
    write_table(("note",), [("a\x1b[31mb\nc",)], empty="")
    assert capsys.readouterr().out == "note\na [31mb c\n"


def test_a_drawn_table_takes_cells_literally():
    rich = pytest.importorskip("rich.console")
    from celery_tw.cli.drawing import draw_table  # noqa: PLC0415 - needs the optional package

    stream = io.StringIO()
    draw_table(("name",), [("[bold]backup[/bold]",)], console=rich.Console(file=stream, width=60))
    assert "[bold]backup[/bold]" in stream.getvalue()
