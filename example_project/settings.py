"""Settings: Celery's own, a few of the time wheel's, and a schedule in four time zones.

All schedules below also run under stock beat (`celery -A example_project.app beat`), whose finest step is a second or so.
"""

import os
from datetime import UTC, datetime

from celery.schedules import crontab

from celery_tw import cron, every, once
from example_project import DATABASE_VARIABLE, URL_VARIABLE

broker_url = result_backend = os.environ.get(URL_VARIABLE, "redis://localhost:6379/0")
tw_database_url = os.environ.get(DATABASE_VARIABLE)
task_ignore_result = True
timezone = "Europe/Berlin"

tw_misfire = "catch_up"  # what is missed is fired later, oldest first
tw_leader_lease = 3
tw_heartbeat_interval = 0.5  # a demonstration is short: elsewhere 30 s and 120 s do
tw_heartbeat_timeout = 3

beat_schedule = {
    # Every few seconds, so that there is something to watch.
    "stock-level": {"task": "shop.check_stock", "schedule": every(1), "args": ["stock-level"]},
    "open-carts": {"task": "shop.count_carts", "schedule": 2.0, "args": ["open-carts"]},
    "berlin-prices": {"task": "shop.fetch_prices", "schedule": cron("*/5 * * * * *", tz="Europe/Berlin"), "args": ["berlin-prices"]},
    "tokyo-prices": {"task": "shop.fetch_prices", "schedule": cron("*/3 * * * * *", tz="Asia/Tokyo"), "args": ["tokyo-prices"]},
    # As in life: not within the minute that the demonstration takes.
    "nightly-report": {
        "task": "shop.report",
        "schedule": cron("30 2 * * *", tz="Europe/Berlin"),
        "args": ["nightly-report"],
        "options": {"tw": {"misfire": "latest", "note": "02:30 exists twice or not at all on two nights of the year"}},
    },
    "opening-bell": {"task": "shop.fetch_prices", "schedule": cron("30 9 * * mon-fri", tz="America/New_York"), "args": ["opening-bell"]},
    "weekly-cleanup": {"task": "shop.report", "schedule": crontab(hour=4, minute=0, day_of_week="sun"), "args": ["weekly-cleanup"]},
    "anniversary": {"task": "shop.report", "schedule": once(datetime(2040, 1, 1, tzinfo=UTC)), "args": ["anniversary"]},
}
