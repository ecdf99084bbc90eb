"""Our client of the broker's Redis."""

import ssl
from collections.abc import Callable
from pathlib import Path
from traceback import format_exception

import pytest
import redis
from celery import Celery
from celery.exceptions import ImproperlyConfigured
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from celery_tw.embedded import EmbeddedServer
from celery_tw.integration.broker import connect, fingerprint, key_prefix, redis_or_refuse, servers, shares_redis
from celery_tw.stores.redis.envelope import NEUTRAL

MakeApp = Callable[..., Celery]


@pytest.fixture(autouse=True)
def no_broker_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.delenv(name, raising=False)


def app_on(broker: str | list[str] | None, **settings: object) -> Celery:
    app = Celery("shop", set_as_current=False)
    app.conf.update(broker_url=broker, **settings)
    return app


def parameters(app: Celery) -> dict:
    return connect(app).connection_pool.connection_kwargs


def test_the_client_reads_and_writes_where_the_queues_are(make_app: MakeApp, redis_client: redis.Redis) -> None:
    with connect(make_app()) as client:
        client.set("here", "1")
        assert client.get("here") == b"1"
    assert redis_client.get("here") == b"1"


def test_the_client_goes_by_its_own_name_without_prefix_or_retries(make_app: MakeApp) -> None:
    app = make_app(broker_transport_options={"global_keyprefix": "shop:", "retry_on_timeout": True, "client_name": "theirs"})
    with connect(app, timeout_s=0.3) as client:
        client.set("plain", "1")
        assert client.keys() == [b"plain"]
        assert client.client_getname() in (b"celery-tw", "celery-tw")
        where = client.connection_pool.connection_kwargs
    assert where["retry"].get_retries() == 0 if hasattr(where["retry"], "get_retries") else where["retry"]._retries == 0
    assert where["retry_on_timeout"] is False
    assert where["socket_timeout"] == 0.3
    assert key_prefix(app) == "shop:"


def test_nothing_is_connected_before_first_use() -> None:
    for broker in ("redis://nowhere.invalid:1/0", "sentinel://nowhere.invalid:1", "redis://a.invalid;redis://b.invalid"):
        client = connect(app_on(broker, broker_transport_options={"master_name": "m"}))
        assert isinstance(client, redis.Redis)


def test_user_password_and_database_come_from_the_url() -> None:
    where = parameters(app_on("redis://me:s%40crt@redis.example:6390/3"))
    assert (where["host"], where["port"], where["username"], where["password"], where["db"]) == ("redis.example", 6390, "me", "s@crt", 3)
    assert where["socket_connect_timeout"] == 0.8


def test_a_socket_url_names_a_path_and_a_database() -> None:
    client = connect(app_on("redis+socket:///run/redis.sock?virtual_host=4"))
    assert client.connection_pool.connection_class is UnixDomainSocketConnection
    assert client.connection_pool.connection_kwargs["path"] == "/run/redis.sock"
    assert int(client.connection_pool.connection_kwargs["db"]) == 4


def test_tls_settings_are_the_brokers() -> None:
    client = connect(app_on("rediss://redis.example", broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": "/ca.pem"}))
    assert issubclass(client.connection_pool.connection_class, SSLConnection)
    assert client.connection_pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
    assert connect(app_on("rediss://redis.example?ssl_cert_reqs=required")).connection_pool.connection_kwargs["ssl_cert_reqs"]


def test_socket_options_are_the_brokers() -> None:
    app = app_on("redis://", broker_transport_options={"socket_keepalive": True, "health_check_interval": 7})
    assert parameters(app)["socket_keepalive"] is True
    assert parameters(app)["health_check_interval"] == 7
    assert connect(app).connection_pool.connection_class is Connection


def test_sentinels_are_asked_for_the_master_by_name() -> None:
    app = app_on("sentinel://:pw@s1.example:26379/2;sentinel://s2.example:26380", broker_transport_options={"master_name": "main"})
    pool = connect(app, timeout_s=0.4).connection_pool
    assert pool.service_name == "main"
    assert [node.connection_pool.connection_kwargs["host"] for node in pool.sentinel_manager.sentinels] == ["s1.example", "s2.example"]
    assert {node.connection_pool.connection_kwargs["socket_timeout"] for node in pool.sentinel_manager.sentinels} == {0.4}
    assert pool.connection_kwargs["password"] == "pw"
    assert servers(app) == ["main@s1.example:26379,s2.example:26380/2"]


def test_sentinels_without_a_master_name_are_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="master_name"):
        connect(app_on("sentinel://s1.example"))


@pytest.mark.parametrize("as_text", [True, False])
def test_of_a_list_of_servers_the_first_that_answers_is_used(redis_url: str, tmp_path: Path, as_text: bool) -> None:
    urls = [f"redis+socket://{tmp_path}/gone?virtual_host=0", redis_url]
    app = app_on(";".join(urls) if as_text else urls)
    assert len(servers(app)) == 2
    with connect(app) as client:
        assert client.ping()
        assert client.ping()
        assert client.register_script("return {KEYS[1]}")(keys=["k"]) in ([b"k"], ["k"])
        assert client.pipeline().set("a", 1).get("a").execute() == [True, b"1"]


def test_a_list_follows_when_the_server_in_use_dies(redis_url: str) -> None:
    with EmbeddedServer.start(appendonly=False) as first, connect(app_on([first.url, redis_url])) as client:
        client.set("on", "first")
        first.kill()
        assert client.get("on") is None


def test_a_list_of_which_none_answers_is_a_connection_error(tmp_path: Path) -> None:
    client = connect(app_on([f"redis+socket://{tmp_path}/a", f"redis+socket://{tmp_path}/b"]))
    with pytest.raises(redis.ConnectionError):
        client.ping()


def test_tw_redis_url_may_say_how_to_reach_the_brokers_own_database() -> None:
    app = app_on("redis://app:pw@127.0.0.1:6379/1", tw_redis_url="redis://wheel:other@localhost/1")
    assert parameters(app)["username"] == "wheel"


@pytest.mark.parametrize(
    "url", ["redis://localhost/2", "redis://localhost:6380/1", "redis://elsewhere/1", "redis+socket:///s?virtual_host=1"]
)
def test_a_timetable_elsewhere_than_the_redis_broker_shares_no_script_with_it(url: str) -> None:
    app = app_on("redis://localhost/1", tw_redis_url=url)
    assert not shares_redis(app)
    assert fingerprint(app) == NEUTRAL


def test_a_timetable_in_the_brokers_own_database_shares_a_script_with_it() -> None:
    assert shares_redis(app_on("redis://localhost/1"))
    assert shares_redis(app_on("redis://127.0.0.1:6379/1", tw_redis_url="redis://localhost/1"))


@pytest.mark.parametrize("broker", ["amqp://guest@localhost//", "memory://", "sqs://", "filesystem://"])
def test_another_broker_needs_a_redis_for_the_timetable(broker: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"{broker.split(':', maxsplit=1)[0]}.*set tw_redis_url"):
        redis_or_refuse(app_on(broker))


@pytest.mark.parametrize("broker", ["amqp://guest@localhost//", "memory://"])
def test_with_another_broker_the_client_takes_nothing_from_its_settings(broker: str) -> None:
    app = app_on(
        broker,
        broker_use_ssl={"ca_certs": "/ca.pem"},
        broker_transport_options={"confirm_publish": True},
        tw_redis_url="redis://me:pw@redis.example:6390/3",
    )
    client = connect(app)
    assert client.connection_pool.connection_class is Connection
    where = client.connection_pool.connection_kwargs
    assert (where["host"], where["port"], where["username"], where["db"]) == ("redis.example", 6390, "me", 3)
    assert not shares_redis(app)
    assert fingerprint(app) == NEUTRAL


def test_tw_redis_url_of_another_kind_is_refused_without_its_password() -> None:
    with pytest.raises(ImproperlyConfigured, match="tw_redis_url: expected the URL of a Redis") as refused:
        connect(app_on("memory://", tw_redis_url="amqp://me:secret@localhost//"))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://me:hu5hed@localhost/0", "redis://:hu5h/ed@localhost:6379/0", "redis://localhost:hu5hed/0"])
def test_a_url_that_cannot_be_read_is_refused_by_its_setting_and_not_shown(url: str) -> None:
    for app, setting in [
        (app_on(url), "broker_url"),
        (app_on("redis://", tw_redis_url=url), "tw_redis_url"),
        (app_on("memory://", tw_redis_url=url), "tw_redis_url"),
    ]:
        with pytest.raises(ImproperlyConfigured, match=f"^{setting}: expected a URL such as ") as refused:
            redis_or_refuse(app)
        assert "hu5h" not in "".join(format_exception(refused.value))  # no part of any path to the files that it names


def test_an_app_without_a_broker_is_told_to_set_one() -> None:
    with pytest.raises(ImproperlyConfigured, match="no broker_url is set for the app 'shop'"):
        connect(app_on(None))


def test_the_fingerprint_follows_the_server_and_the_options_but_not_the_password() -> None:
    same = fingerprint(app_on("redis://:a@localhost/1"))
    assert same == fingerprint(app_on("redis://:b@127.0.0.1:6379/1"))
    assert same != fingerprint(app_on("redis://localhost/2"))
    assert same != fingerprint(app_on("redis://localhost/1", broker_transport_options={"sep": ":"}))
