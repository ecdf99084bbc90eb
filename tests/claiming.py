"""Claiming: a leader that is stepped by hand takes what is due for a broker apart, and publishes it when it is told to."""

from celery_tw.integration.node import Node
from tests.waiting import wait_until


def claim(leader: Node, count: int) -> None:
    """Let *leader* claim *count* tasks for the broker."""

    def claimed() -> bool:
        leader.engine.step()
        return leader.parts.claims.sizes().waiting == count

    wait_until(claimed, message=f"{count} tasks to be due and claimed")


def publish(leader: Node, times: int) -> None:
    """Let *leader* publish what waits in the outbox, *times* without waiting in between."""
    for _ in range(times):
        for parcel in leader.duties.outbox.parcels.held():
            parcel.wake_ms = 0
        leader.duties.outbox.step()
