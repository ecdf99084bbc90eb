"""Settings are read from every place where Celery settings may stand, and nothing wrong passes unseen."""

import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery

from celery_tw.core.misfire import Misfire
from celery_tw.errors import ImproperlyConfigured
from celery_tw.setting_names import LATER
from celery_tw.settings import KNOWN, Settings

ROOT = Path(__file__).parent.parent


def read(app_name: str | None = "shop", **conf) -> Settings:
    return Settings.read(conf, app_name=app_name)


def read_app(app: Celery) -> Settings:
    return Settings.read(app.conf, app_name=app.main)


def app_with(source, *, namespace: str | None = None) -> Celery:
    app = Celery("shop", set_as_current=False)
    app.config_from_object(source, namespace=namespace)
    return app


def test_without_any_setting_the_defaults_hold():
    settings = read()
    assert settings == Settings(namespace="shop")
    assert (settings.leader_lease_ms, settings.fire_tolerance_ms, settings.misfire) == (3000, 5000, Misfire.latest())


def test_seconds_and_timedeltas_become_whole_ms():
    settings = read(tw_leader_lease=1.5, tw_fire_tolerance=timedelta(minutes=1))
    assert (settings.leader_lease_ms, settings.fire_tolerance_ms) == (1500, 60_000)


def test_none_means_not_set():
    assert read(tw_redis_url=None, tw_leader_lease=None) == read()


def test_lower_case_names_in_a_settings_object_are_read():
    app = app_with(SimpleNamespace(tw_leader_lease=4, broker_url="redis://"))
    assert read_app(app).leader_lease_ms == 4000


def test_prefixed_names_are_read_with_a_namespace():
    app = app_with(SimpleNamespace(CELERY_TW_LEADER_LEASE=4, CELERY_BROKER_URL="redis://", DEBUG=True), namespace="CELERY")
    assert read_app(app).leader_lease_ms == 4000


def test_another_namespace_works_too():
    app = app_with({"SHOP_TW_LEADER_LEASE": 4}, namespace="SHOP")
    assert read_app(app).leader_lease_ms == 4000


def test_names_on_the_configuration_and_in_the_constructor_are_read():
    app = Celery("shop", set_as_current=False, tw_history_size=7)
    app.conf.tw_leader_lease = 4
    settings = read_app(app)
    assert (settings.history_size, settings.leader_lease_ms) == (7, 4000)


def test_reading_leaves_the_configuration_as_it_was():
    app = app_with({"tw_leader_lease": 4})
    before = dict(app.conf)
    read_app(app)
    assert dict(app.conf) == before


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(ImproperlyConfigured, match="tw_leader_leese .*did you mean tw_leader_lease"):
        read(tw_leader_leese=3)


def test_an_unknown_prefixed_name_is_refused_as_it_was_written():
    with pytest.raises(ImproperlyConfigured, match="CELERY_TW_LEADER_LEESE .*did you mean tw_leader_lease"):
        read_app(app_with({"CELERY_TW_LEADER_LEESE": 3}, namespace="CELERY"))


def test_a_name_like_no_other_is_refused_with_all_that_there_are():
    with pytest.raises(ImproperlyConfigured, match="expected one of tw_namespace, tw_redis_url"):
        read(tw_zzz=3)


@pytest.mark.parametrize("name", LATER)
def test_a_setting_of_a_later_part_is_refused(name):
    with pytest.raises(ImproperlyConfigured, match=f"{name} is not available in this version"):
        read(**{name: 1})


@pytest.mark.parametrize("written", ["TW_LEADER_LEASE", "CELERY_TW_LEADER_LEASE", "CELERY_TW_ZZZ", "TW_LEADER_LEESE"])
def test_an_upper_case_name_without_a_namespace_is_reported(written):
    with pytest.raises(ImproperlyConfigured, match=rf"{written} is not read under that name: expected tw_.*namespace="):
        read_app(app_with(SimpleNamespace(**{written: 3})))


def test_a_name_without_its_namespace_is_reported():
    with pytest.raises(ImproperlyConfigured, match="TW_LEADER_LEASE is not read.*expected CELERY_TW_LEADER_LEASE"):
        read_app(app_with({"TW_LEADER_LEASE": 3}, namespace="CELERY"))


def test_another_package_may_have_settings_that_begin_alike():
    assert read_app(app_with({"TW_CONSUMER_SECRET": "x", "TWILIO": 1}, namespace="CELERY")) == read()


@pytest.mark.parametrize(("written", "namespace"), [("CELERY_TW", "CELERY"), ("tw", None), ("CELERY_TW", None), ("TW", None)])
def test_a_dictionary_is_reported(written, namespace):
    with pytest.raises(ImproperlyConfigured, match=f"{written}: .*got a dictionary"):
        read_app(app_with({written: {"leader_lease": 3}}, namespace=namespace))


def test_an_object_named_tw_is_no_setting():
    assert read(tw=object()) == read()


@pytest.mark.parametrize("name", [None, "", "__main__"])
def test_an_app_without_a_name_needs_a_namespace(name):
    with pytest.raises(ImproperlyConfigured, match=r"tw_namespace is needed.*Celery\('shop'"):
        read(name)
    assert read(name, tw_namespace="shop").namespace == "shop"


@pytest.mark.parametrize("namespace", ["", "a b", "shop{1}", "x" * 101, "shop\n", 3])
def test_a_namespace_that_cannot_be_part_of_a_key_is_refused(namespace):
    with pytest.raises(ImproperlyConfigured, match="tw_namespace: expected 1 to 100 letters"):
        read(tw_namespace=namespace)


@pytest.mark.parametrize("namespace", ["shop", "a.b:c@d/e-f_9", "x" * 100])
def test_a_namespace_may_hold_the_usual_signs(namespace):
    assert read(tw_namespace=namespace).namespace == namespace


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("tw_redis_eviction_check", "maybe", "one of 'error', 'warn', 'off'"),
        ("tw_leader_lease", 0.1, "seconds from 0.5 to 300"),
        ("tw_leader_lease", "3", "seconds from 0.5 to 300"),
        ("tw_leader_lease", True, "seconds"),
        ("tw_leader_lease", float("nan"), "seconds"),
        ("tw_shards", 0, "expected 1"),
        ("tw_wheel_levels", (60, 60), "four whole numbers"),
        ("tw_wheel_levels", (60, 60, 24, 0), "from 2 to 1000"),
        ("tw_wheel_capacity", 1e6, "a whole number"),
        ("tw_fire_tolerance", -1, "seconds from 0"),
        ("tw_max_clock_skew", 0, "seconds from 0.1"),
        ("tw_misfire", "never", "'latest', 'skip', 'catch_up'"),
        ("tw_misfire", 3, "'latest', 'skip', 'catch_up'"),
        ("tw_overlap", "never", "one of 'allow', 'skip', 'buffer_one'"),
        ("tw_overlap_expires", 0, "seconds from 1"),
        ("tw_catch_up_rate", 0, "a number per second"),
        ("tw_history_size", -1, "a whole number from 0"),
        ("tw_defer_eta", "sometimes", "one of 'auto', 'always', 'off'"),
        ("tw_defer_eta", True, "one of 'auto', 'always', 'off'"),
        ("tw_defer_min_delay", -1, "seconds from 0 to 3600"),
        ("tw_defer_exclude_queues", "celery", "a list of names"),
        ("tw_defer_exclude_queues", [1], "a list of names"),
        ("tw_leaderless_grace", 0, "seconds from 1"),
        ("tw_fair_queues", "celery", "a list of names"),
        ("tw_lane_shares", (50, 30, 30), "high, medium, low, each at least 1, that sum to 100"),
        ("tw_lane_shares", (60, 40), "that sum to 100"),
        ("tw_lane_shares", (50, 50, 0), "each at least 1"),
        ("tw_lane_shares", (50.0, 30.0, 20.0), "whole numbers"),
        ("tw_lane_shares", {"high": 60, "low": 40}, "high, medium, low"),
        ("tw_aging_low_to_medium", -1, "seconds from 0.1"),
        ("tw_fair_capacity", 0, "a whole number from 1"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_itself_and_what_was_expected(name, value, expected):
    with pytest.raises(ImproperlyConfigured) as refused:
        read(**{name: value})
    assert name in str(refused.value)
    assert repr(value) in str(refused.value)
    assert expected in str(refused.value)


def test_a_value_of_a_later_part_is_named_as_not_available():
    with pytest.raises(ImproperlyConfigured, match="tw_shards: .*4 is not available in this version"):
        read(tw_shards=4)


def test_a_misfire_policy_may_be_given_whole():
    assert read(tw_misfire=Misfire.catch_up(rate=3, limit=9)).misfire == Misfire.catch_up(rate=3, limit=9)


def test_lane_shares_may_be_given_by_lane():
    assert read(tw_lane_shares={"low": 10, "high": 70, "medium": 20}).lane_shares == (70, 20, 10)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"tw_aging_low_to_medium": 7200}, "tw_aging_medium_to_high: expected more than tw_aging_low_to_medium (7200 s)"),
        ({"tw_aging_medium_to_high": 20_000}, "tw_starvation_alert: expected more than tw_aging_medium_to_high (20000 s)"),
    ],
)
def test_thresholds_of_age_that_are_out_of_order_are_refused(settings, named):
    with pytest.raises(ImproperlyConfigured, match=re.escape(named)):
        read(**settings)


def test_a_setting_of_lanes_that_is_nearly_right_is_named():
    with pytest.raises(ImproperlyConfigured, match="tw_fair_queue is not a setting of celery-tw: did you mean tw_fair_queues"):
        read(tw_fair_queue=["celery"])


def test_a_wrong_url_is_refused_without_showing_it():
    with pytest.raises(ImproperlyConfigured, match="tw_redis_url: expected a URL") as refused:
        read(tw_redis_url="user:secret@host")
    assert "secret" not in str(refused.value)
    assert "secret" not in repr(read(tw_redis_url="redis://user:secret@host"))


def test_the_settings_that_people_read_of_are_those_that_there_are():
    written = re.findall(r"^\| `(tw_\w+)` \|", (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(written) == sorted(KNOWN)
