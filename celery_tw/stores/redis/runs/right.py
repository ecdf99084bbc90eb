"""Right: by whose right a run is ended or started again, which the script compares with what is on record."""

from dataclasses import dataclass

from celery_tw.stores.redis.runs.record import Record

NO_OWNER = ":"
"""Owners begin with the name of a host, so none begins so."""


@dataclass(frozen=True, slots=True)
class Right:
    """By whose right a run is ended or reassigned."""

    kind: str
    value: str = ""
    token: str = ""
    counter: str = ""

    @classmethod
    def of_token(cls, token: str) -> "Right":
        """The process that runs it."""
        return cls("token", token)

    @classmethod
    def of_owner(cls, prefix: str) -> "Right":
        """The parent of the process that ran it, by the beginning of the owner's name."""
        return cls("owner", prefix)

    @classmethod
    def of_last_owner(cls, prefix: str) -> "Right":
        """The parent of the process that ran it, or was about to, as long as no other process has begun it since; only to end a run."""
        return cls("last owner", prefix)

    @classmethod
    def of_bystander(cls) -> "Right":
        """Somebody who has had nothing to do with it, as long as no process has begun it; only to end a run."""
        return cls("last owner", NO_OWNER)

    @classmethod
    def of_leader(cls, epoch: int, record: Record) -> "Right":
        """The leader, about a run that has not moved since it was looked at."""
        return cls("epoch", str(epoch), record.token, record.counter)
