"""What looks secret in arguments is not shown."""

from celery_tw.cli.redaction import HIDDEN, redacted


def test_a_value_is_hidden_when_its_key_says_so():
    shown = redacted({"password": "a", "api_key": "b", "AuthToken": "c", "client_secret": {"d": 1}, "year": 2026})
    assert shown == {"password": HIDDEN, "api_key": HIDDEN, "AuthToken": HIDDEN, "client_secret": HIDDEN, "year": 2026}


def test_it_is_hidden_at_any_depth():
    assert redacted([{"login": [{"passwd": "a"}]}]) == [{"login": [{"passwd": HIDDEN}]}]


def test_the_password_of_a_url_is_hidden():
    assert redacted(["redis://me:hush@host/0", "redis://host/0"]) == [f"redis://me:{HIDDEN}@host/0", "redis://host/0"]


def test_a_routing_key_is_no_secret_and_nothing_is_nothing_to_hide():
    assert redacted({"routing_key": "mail", "token": None}) == {"routing_key": "mail", "token": None}
