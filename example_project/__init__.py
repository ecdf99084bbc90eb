"""A small shop on Celery: what a project with the time wheel looks like, and `python -m example_project`, which shows it at work."""

URL_VARIABLE = "EXAMPLE_PROJECT_REDIS_URL"
"""The environment variable that says where the broker is."""

DATABASE_VARIABLE = "EXAMPLE_PROJECT_DATABASE_URL"
"""The one that says where the database of DAGs is; without it there are none."""

FOLDER_VARIABLE = "EXAMPLE_PROJECT_FOLDER"
"""The one that says where the workflow of the example keeps its files."""
