"""App: a Celery app as any other. ``tw`` is for what is scheduled while it runs; the rest stands in ``settings.py``."""

from celery import Celery

from celery_tw import TimeWheel

app = Celery("example_project", include=["example_project.tasks", "example_project.etl"])
app.config_from_object("example_project.settings")
tw = TimeWheel(app)
