"""When: what users and Celery call a schedule, as specs."""
