"""A small shop on Celery: what a project with the time wheel looks like, and `python -m example_project`, which shows it at work."""

URL_VARIABLE = "EXAMPLE_PROJECT_REDIS_URL"
"""The environment variable that says where the broker is."""
