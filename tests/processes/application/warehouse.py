"""Another project, on the same Redis."""

import shop
from celery import Celery

app = Celery("warehouse")
app.conf.update(shop.SETTINGS["conf"])
