"""Which tasks may be sent."""

import pytest
from celery import chain, chord, group, signature

from celery_tw.core.allowed import AllowedTasks

REPORTS = AllowedTasks(("shop.reports.*", "shop.mail", "shop.v?"))


def test_without_patterns_everything_is_allowed():
    assert AllowedTasks().objection({"task": "anything"}) is None
    assert AllowedTasks().allows("anything")
    assert not AllowedTasks()
    assert AllowedTasks().in_lua() == ""


@pytest.mark.parametrize("task", ["shop.reports.daily", "shop.mail", "shop.v1"])
def test_a_task_that_a_pattern_names_is_allowed(task: str):
    assert REPORTS.objection({"task": task}) is None


@pytest.mark.parametrize("task", ["shop.report", "shop.mail.send", "SHOP.mail", "shop.v12", "", None, "x shop.mail"])
def test_any_other_is_refused_by_name(task: str | None):
    assert REPORTS.objection({"task": task}) == f"the task {task or ''!r} is not among tw_allowed_tasks"


def test_an_empty_list_allows_nothing():
    assert AllowedTasks(()).objection({"task": "shop.mail"}) is not None
    assert AllowedTasks(()).in_lua() == "^$"


GOOD, BAD = signature("shop.mail"), signature("os.system")


@pytest.mark.parametrize(
    "canvas",
    [
        chain(GOOD, BAD),
        group(GOOD, BAD),
        chord([GOOD, BAD], GOOD),
        chord([GOOD], BAD),
        chain(GOOD, group(GOOD, chain(GOOD, BAD))),
        signature("shop.mail", options={"link": [BAD]}),
        signature("shop.mail", options={"link_error": BAD}),
        signature("shop.mail", options={"chord": BAD}),
        {"task": "celery.map", "args": [dict(BAD), [1]]},
        {"task": "celery.map", "subtask_type": "map", "kwargs": {"task": dict(BAD)}},
        {"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": ["os.system"]}},
        {"task": "celery.chain", "subtask_type": "chain", "kwargs": 5},
    ],
)
def test_a_canvas_is_refused_for_any_part(canvas: dict):
    assert REPORTS.objection(canvas) is not None


@pytest.mark.parametrize("canvas", [chain(GOOD, GOOD), group(GOOD, GOOD), chord([GOOD, GOOD], GOOD), chain(GOOD, group(GOOD, GOOD))])
def test_a_canvas_of_allowed_parts_is_allowed(canvas: dict):
    assert REPORTS.objection(canvas) is None


def test_a_canvas_without_end_is_refused():
    endless: dict = {"task": "celery.chain", "subtask_type": "chain"}
    endless["kwargs"] = {"tasks": [endless]}

    assert REPORTS.objection(endless) is not None


@pytest.mark.parametrize(("deep", "refused"), [(50, False), (51, True)])
def test_a_canvas_within_fifty_others_is_looked_at_and_a_deeper_one_is_refused(deep: int, refused: bool):
    canvas = dict(GOOD)
    for _ in range(deep):
        canvas = {"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": [canvas]}}

    assert (REPORTS.objection(canvas) is not None) is refused


def test_a_task_is_no_canvas_because_it_says_so():
    disguised = {"task": "os.system", "subtask_type": "chain", "kwargs": {"tasks": [dict(GOOD)]}}

    assert REPORTS.objection(disguised) == "the task 'os.system' is not among tw_allowed_tasks"


def test_a_canvas_type_sent_as_a_plain_task_is_asked_about_by_its_name():
    plain = {"task": "celery.map", "args": [dict(GOOD), [1]]}

    assert REPORTS.objection(plain) == "the task 'celery.map' is not among tw_allowed_tasks"
    assert AllowedTasks(("celery.map",)).objection(plain) is None


def test_patterns_in_lua_mean_what_they_mean_here():
    assert REPORTS.in_lua().split("\n") == ["^shop%.reports%..*$", "^shop%.mail$", "^shop%.v.$"]
    assert AllowedTasks(("a-b_c",)).in_lua() == "^a%-b%_c$"
