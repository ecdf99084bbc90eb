"""Requirements: a test whose service is missing is skipped with the reason, unless ``TW_REQUIRE`` names that service.

``TW_REQUIRE=redis,rabbitmq`` turns the skip of those into a failure. The gate sets it, so that a service that fails to start there
cannot pass for a service that is not installed.
"""

import os

import pytest

from celery_tw.errors import ServerUnavailable
from celery_tw.testing.rabbit_server import find_rabbitmq


def require(service: str, *, missing: str | None) -> None:
    """Do nothing when *missing* is None; otherwise skip the test with that reason, or fail it when *service* is required."""
    if missing is None:
        return
    if service in required_services():
        pytest.fail(f"{service} is required here (TW_REQUIRE) and is missing: {missing}", pytrace=False)
    pytest.skip(f"needs {service}: {missing}")


def why_no_rabbitmq() -> str | None:
    """Return why no RabbitMQ of a test's own can be started here, or None."""
    try:
        find_rabbitmq()
    except ServerUnavailable as error:
        return str(error)
    return None


def required_services() -> set[str]:
    return {name.strip() for name in os.environ.get("TW_REQUIRE", "").split(",") if name.strip()}
