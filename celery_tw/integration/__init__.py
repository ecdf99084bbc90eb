"""The seams to Celery and kombu."""
