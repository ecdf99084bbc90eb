"""`tw eject`: the way out."""

import pytest


@pytest.fixture
def waiting(shop, wheel):
    """Three tasks wait in the timetable."""
    shop.conf.tw_defer_eta = "always"
    for number in range(3):
        shop.tasks["shop.report"].apply_async((number,), countdown=3600)


def test_it_asks_how_many_go_and_does_nothing_on_a_no(cli, waiting, redis_client):
    assert "Hand 3 waiting tasks back to Celery?" in cli.refused("eject", typed="n\n")
    assert redis_client.llen("celery") == 0


def test_it_says_how_many_went(cli, waiting, redis_client):
    assert cli.done("eject", typed="y\n").endswith("3 tasks handed back to Celery.\n")
    assert redis_client.llen("celery") == 3
    assert cli.done("eject") == "0 tasks handed back to Celery.\n"


def test_it_tells_programs(cli, waiting):
    assert cli.json("eject", "--yes") == {"eject": {"ejected": 3, "gone": 0, "paused": 0, "refused": 0}}
