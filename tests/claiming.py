"""Claiming: a leader that is stepped by hand takes what is due for a broker apart, and does not publish it yet."""

from celery_tw.integration.node import Node
from tests.waiting import wait_until


def claim(leader: Node, count: int) -> None:
    """Let *leader* claim *count* tasks for the broker."""

    def claimed() -> bool:
        leader.engine.step()
        return leader.parts.claims.sizes().waiting == count

    wait_until(claimed, message=f"{count} tasks to be due and claimed")
