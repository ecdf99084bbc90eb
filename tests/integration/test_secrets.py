"""Passwords do not leave the settings, whatever goes wrong; and a TLS server is verified."""

import logging
import ssl
from collections.abc import Callable

import pytest
from celery import Celery
from celery.app.utils import bugreport

from celery_tw import TimeWheel
from celery_tw.errors import CeleryTWError, ImproperlyConfigured
from celery_tw.integration.banner import banner
from celery_tw.integration.broker import connect, fingerprint
from tests.cli.conftest import CommandLine

PASSWORD = "hush-4711"
AWAY = f"redis://me:{PASSWORD}@127.0.0.1:1/0"


@pytest.fixture
def app() -> Celery:
    app = Celery("shop", broker=AWAY, backend=AWAY, set_as_current=False)
    app.conf.update(tw_redis_url=AWAY, tw_defer_eta="always")
    TimeWheel(app)
    return app


def test_celery_report_and_inspect_conf_do_not_show_them(app: Celery) -> None:
    assert PASSWORD not in bugreport(app)
    assert PASSWORD not in str(app.conf.table(with_defaults=True))


def test_the_banner_of_a_beat_without_redis_does_not_show_them(app: Celery) -> None:
    shown = banner(app)

    assert "does not answer" in shown
    assert PASSWORD not in shown


@pytest.mark.parametrize("arguments", [("status",), ("schedule", "list"), ("clock", "show"), ("cancel", "x", "--yes")])
def test_no_command_shows_them(app: Celery, arguments: tuple[str, ...]) -> None:
    result = CommandLine(app).run(*arguments)

    assert result.exit_code != 0
    assert PASSWORD not in result.output + result.stderr


def test_no_error_and_no_log_line_shows_them(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(CeleryTWError) as raised:
        TimeWheel(app).status()
    with pytest.raises(Exception) as refused:  # Celery's own: the broker does not answer either
        app.send_task("shop.report", countdown=60, retry=False)

    assert PASSWORD not in f"{raised.value!r} {raised.value.__cause__!r} {refused.value!r} {caplog.text}"


@pytest.mark.parametrize("url", [f"{PASSWORD}@host", 5, f"amqp://me:{PASSWORD}@host//"])
def test_a_url_that_is_refused_is_not_repeated(url: object, make_app: Callable[..., Celery]) -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        TimeWheel(make_app("shop", tw_redis_url=url)).status()

    assert PASSWORD not in str(raised.value)


def test_the_fingerprint_of_the_broker_does_not_depend_on_them(app: Celery) -> None:
    other = Celery("shop", broker=AWAY.replace(PASSWORD, "other"), set_as_current=False)
    other.conf.update(tw_redis_url=AWAY)

    assert fingerprint(app) == fingerprint(other)


@pytest.mark.parametrize("setting", ["broker_url", "tw_redis_url"])
def test_a_rediss_url_verifies_certificate_and_name(setting: str) -> None:
    app = Celery("shop", set_as_current=False)
    app.conf.update(**{"broker_url": "rediss://redis.example/0", setting: "rediss://redis.example/0"})

    connection = connect(app).connection_pool.make_connection()

    assert connection.cert_reqs == ssl.CERT_REQUIRED
    assert connection.check_hostname


@pytest.mark.parametrize("options", [{"broker_url": "rediss://h?ssl_cert_reqs=none"}, {"broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_NONE}}])
def test_not_to_verify_has_to_be_said(options: dict[str, object]) -> None:
    app = Celery("shop", set_as_current=False)
    app.conf.update(**{"broker_url": "rediss://h", **options})

    assert connect(app).connection_pool.make_connection().cert_reqs == ssl.CERT_NONE
