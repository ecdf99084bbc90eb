"""RabbitMQ over TLS: what ``broker_use_ssl`` says holds for the connection of the outbox, as for Celery's own."""

import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from celery_tw.errors import BrokerUnavailable
from celery_tw.integration.publishing.amqp import AmqpPublisher
from celery_tw.testing.rabbit_server import RabbitServer
from tests.certificates import Authority
from tests.closing import close
from tests.integration.test_publishing import NOW_MS, message
from tests.requirements import require, why_no_rabbitmq

NAME = "rabbit.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require("openssl", missing=None if shutil.which("openssl") else "no openssl command is on the PATH")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def url(authority: Authority) -> Iterator[str]:
    """The URL of a RabbitMQ called `NAME` that wants a certificate of its clients."""
    require("rabbitmq", missing=why_no_rabbitmq())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    signed = authority.sign(NAME)
    options = {
        "cacertfile": authority.own.certificate,
        "certfile": signed.certificate,
        "keyfile": signed.key,
        "verify": "verify_peer",
        "fail_if_no_peer_cert": "true",
    }
    lines = [f"listeners.ssl.1 = 127.0.0.1:{port}", *(f"ssl_options.{name} = {value}" for name, value in options.items())]
    with RabbitServer(configuration="\n".join(lines)):
        yield f"amqp://guest:guest@127.0.0.1:{port}//"


@pytest.fixture
def right(authority: Authority) -> dict[str, Any]:
    """What ``broker_use_ssl`` has to say."""
    signed = authority.sign("client")
    return {
        "ca_certs": str(authority.own.certificate),
        "certfile": str(signed.certificate),
        "keyfile": str(signed.key),
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": NAME,
    }


@pytest.fixture
def make_publisher(url: str) -> Iterator[Callable[[dict[str, Any]], AmqpPublisher]]:
    apps: list[Celery] = []

    def make(options: dict[str, Any]) -> AmqpPublisher:
        app = Celery("shop", broker=url, set_as_current=False)
        app.conf.broker_use_ssl = options
        apps.append(app)
        return AmqpPublisher(app, now_ms=lambda: NOW_MS)

    yield make
    for app in apps:
        close(app)


def test_messages_are_confirmed_over_tls_with_certificates_on_both_sides(
    right: dict[str, Any], make_publisher: Callable[[dict[str, Any]], AmqpPublisher]
) -> None:
    publisher, queue = make_publisher(right), f"tw-{uuid4().hex}"
    publisher.open()

    outcomes = publisher.publish([message(number, queue) for number in range(700)])

    assert {outcome.verdict for outcome in outcomes} == {"confirmed"}
    assert isinstance(publisher._connection.transport.sock, ssl.SSLSocket)
    with publisher.app.connection_for_read() as connection:
        assert connection.default_channel.queue_declare(queue, passive=True).message_count == 700
    publisher.close()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"ca_certs": "stranger"}, "certificate verify failed"),
        ({"server_hostname": "other.example"}, "Hostname mismatch"),
        ({"certfile": None, "keyfile": None}, "does not answer"),
    ],
    ids=["an authority that did not sign it", "another name", "no certificate of ours"],
)
def test_a_server_or_client_that_is_not_the_right_one_gets_no_message(
    wrong: dict[str, Any], why: str, right: dict[str, Any], make_publisher: Callable[[dict[str, Any]], AmqpPublisher], tmp_path: Path
) -> None:
    if "ca_certs" in wrong:
        wrong = {"ca_certs": str(Authority(tmp_path, "stranger").own.certificate)}

    with pytest.raises(BrokerUnavailable, match=why):
        make_publisher({name: value for name, value in {**right, **wrong}.items() if value is not None}).open()
