"""Workflows: DAGs of Celery tasks, whose truth is in SQL."""
