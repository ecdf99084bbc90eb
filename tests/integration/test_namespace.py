"""Whose namespace it is: told by the app's name, and among schedulers by the packages of the tasks."""

import json
from collections.abc import Callable

import pytest
import redis
from celery import Celery

from celery_tw.errors import NamespaceTaken
from celery_tw.integration.safeguards import check_namespace
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.keys import Keys

MakeApp = Callable[..., Celery]


@pytest.fixture
def election(redis_client: redis.Redis) -> Election:
    return Election(redis_client, Keys("shop"))


def project(make_app: MakeApp, package: str, name: str = "shop") -> Celery:
    app = make_app(name)
    app.task(name=f"{package}.work", shared=False)(work)
    return app


def work() -> None:
    """Do nothing: only the name counts."""


def test_a_client_that_comes_first_keeps_no_scheduler_of_its_project_out(make_app: MakeApp, election: Election) -> None:
    check_namespace(project(make_app, "website"), election)
    check_namespace(project(make_app, "shop"), election, schedules=True)


def test_a_scheduler_leaves_its_packages_on_record_whoever_came_first(
    make_app: MakeApp, election: Election, redis_client: redis.Redis
) -> None:
    check_namespace(project(make_app, "website"), election)
    check_namespace(project(make_app, "shop"), election, schedules=True)
    assert "shop" in json.loads(redis_client.get(election.keys.project) or b"")["packages"]


def test_a_scheduler_of_other_packages_is_kept_out(make_app: MakeApp, election: Election, redis_client: redis.Redis) -> None:
    redis_client.set(election.keys.project, json.dumps({"app": "shop", "packages": ["bank"]}))
    with pytest.raises(NamespaceTaken, match="tasks of bank"):
        check_namespace(project(make_app, "shop"), election, schedules=True)
    check_namespace(project(make_app, "shop"), election)


def test_a_project_may_move_from_package_to_package_and_back(make_app: MakeApp, election: Election, redis_client: redis.Redis) -> None:
    redis_client.set(election.keys.project, json.dumps({"app": "shop", "packages": ["old"]}))
    between = project(make_app, "old")
    between.task(name="new.work", shared=False)(work)

    for app in (between, project(make_app, "new"), project(make_app, "old")):
        check_namespace(app, election, schedules=True)

    assert {"old", "new"} <= set(json.loads(redis_client.get(election.keys.project) or b"")["packages"])


def test_an_app_of_another_name_is_kept_out(make_app: MakeApp, election: Election) -> None:
    check_namespace(project(make_app, "shop"), election)
    with pytest.raises(NamespaceTaken, match="belongs to the project 'shop'"):
        check_namespace(project(make_app, "bank", "bank"), election)
