"""Node attempts: an attempt of a node of a DAG is buried when it fails, and its letter is taken back when another attempt follows."""

from typing import Any

from celery_tw.integration.dlq.failures import safely


def forget_attempt(app: Any, task_id: str) -> None:
    """Take back the letter of an attempt, whose node is tried again or was cancelled."""
    safely(app, lambda burying: burying.forget(task_id))
