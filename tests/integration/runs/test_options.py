"""Options of guarded tasks that are refused, by name."""

from typing import Any

import pytest
from celery import Celery

import celery_tw
from celery_tw import TimeWheel
from celery_tw.errors import ImproperlyConfigured
from celery_tw.integration.runs.guarding import GuardsNeedBase, refuse_guards_without_base


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lock": "k:{acount}"}, "'acount'.*expected one of account"),
        ({"lock": "k:{1}"}, "'1'"),
        ({"lock": 5}, "lock: expected a key template"),
        ({"lock_busy": "hope"}, "lock_busy: expected one of"),
        ({"max_concurrency": 0}, "max_concurrency: expected a whole number"),
        ({"concurrency_key": "{account}"}, "beside concurrency_key"),
        ({"cancel_grace": -1}, "cancel_grace: expected a number of seconds"),
    ],
)
def test_a_wrong_option_is_refused_when_the_task_is_made_known(options: dict[str, Any], match: str) -> None:
    app = Celery("shop", set_as_current=False)

    @app.task(base=celery_tw.Task, shared=False, **options)
    def work(account: str) -> None:
        """Do nothing."""

    with pytest.raises(ImproperlyConfigured, match=match):
        app.finalize()


def test_a_guard_without_our_base_is_refused_by_name() -> None:
    app = Celery("shop", set_as_current=False)
    TimeWheel(app)

    @app.task(name="plain", shared=False, lock="k")
    def plain() -> None:
        """Do nothing."""

    with pytest.raises(ImproperlyConfigured, match="the task plain has the option 'lock'"):
        refuse_guards_without_base(app)
    assert GuardsNeedBase in app.steps["worker"]
