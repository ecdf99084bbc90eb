"""The time wheel for Celery: schedules that fire on time, from one elected leader."""
