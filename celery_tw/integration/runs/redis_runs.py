"""Redis runs: the verbs on the runs of an app, with what its settings say of them."""

from typing import Any

from celery_tw.clock import RedisTime
from celery_tw.settings import Settings
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.runs.runs import Runs

DEFAULT_VISIBILITY_S = 3600
LEAST_DONE_KEPT_MS = 3_600_000
"""However short its visibility time-out, a broker brings a late copy only when a worker looks for it, each 100 s or when one starts."""


def runs_on(app: Any, client: Any, keys: Keys, settings: Settings, redis_time: RedisTime) -> Runs:
    """Return the verbs on the runs of *app*."""
    visibility_s = float(app.conf.broker_transport_options.get("visibility_timeout", DEFAULT_VISIBILITY_S))
    return Runs(
        client,
        keys,
        redis_time=redis_time,
        lease_ms=settings.lock_timeout_ms,
        done_kept_ms=settings.run_expires_ms or max(LEAST_DONE_KEPT_MS, round(2000 * visibility_s)),
        grace_ms=settings.leaderless_grace_ms,
    )
