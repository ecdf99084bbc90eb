"""Leader's burials: tasks whose death the leader sees, because no worker is left to, or none has had the message."""

from dataclasses import replace
from typing import Any

from billiard.exceptions import WorkerLostError

from celery_tw.core.death import LOST, REFUSED, error_fingerprint
from celery_tw.integration.cancellation.announcing import request_of
from celery_tw.integration.dlq.burying import Burying
from celery_tw.integration.dlq.coverage import covers, is_expected
from celery_tw.integration.dlq.deaths import death_of, mid_of_headers
from celery_tw.integration.dlq.failures import safely
from celery_tw.integration.dlq.letter_ids import letter_id_of, letter_id_of_headers
from celery_tw.stores.redis.envelope import Envelope, read_envelope, write_envelope
from celery_tw.stores.redis.runs.record import Record


def bury_lost(app: Any, record: Record) -> None:
    """Bury the task of a run that was lost too often, and is ended after that; until then it may move, and go on."""
    safely(app, lambda burying: _bury_lost(burying, record))


def take_back(app: Any, record: Record) -> None:
    """Take the letter of a run back that has moved in the last moment."""
    safely(app, lambda burying: burying.forget(letter_id_of(record.task_id, record.mid)))


def bury_refused(app: Any, envelope: Envelope, *, claim_id: str, reason: str, refusals: int) -> None:
    """Bury a message that the broker did not take; it stays in the outbox's quarantine as well, and leaves both together."""
    safely(app, lambda burying: _bury_refused(burying, envelope, claim_id, reason, refusals))


def take_back_refused(app: Any, envelope: Envelope) -> None:
    """Take the letter of a message back that the broker took after all, but not one of a task that has failed since."""
    safely(app, lambda burying: _take_back_refused(burying, letter_id_of_headers(envelope.headers)))


def _take_back_refused(burying: Burying, letter_id: str) -> None:
    for letter in burying.letters.read([letter_id]):
        if letter.death.reason == REFUSED:
            burying.forget(letter_id, latest_ms=letter.last_ms)


def _bury_lost(burying: Burying, record: Record) -> None:
    envelope, task = read_envelope(record.envelope or b""), burying.app.tasks.get(record.task)
    error = WorkerLostError(f"its processes were lost {record.losses + 1} times without a new checkpoint")
    if not covers(burying.settings.dlq, task, envelope.headers) or is_expected(task, error):
        return
    death = death_of(
        error,
        headers=envelope.headers,
        queue=envelope.destination,
        worker=record.owner.rpartition(":")[0],
        reason=LOST,
        chord=_chord(burying.app, envelope),
        attempts=record.losses + 1,
    )
    burying.bury(record.envelope or b"", death)


def _bury_refused(burying: Burying, envelope: Envelope, claim_id: str, reason: str, refusals: int) -> None:
    burying.runs.under_way.stop_awaiting(mid_of_headers(envelope.headers))  # until somebody has looked into it, it is not sent once more
    task = burying.app.tasks.get(envelope.headers.get("task"))
    if not covers(burying.settings.dlq, task, envelope.headers):
        return
    chord = _chord(burying.app, envelope)
    death = death_of(None, headers=envelope.headers, queue=envelope.destination, worker="", reason=REFUSED, chord=chord, attempts=refusals)
    fingerprint = error_fingerprint(death.task, REFUSED, reason)
    burying.bury(write_envelope(envelope), replace(death, message=reason, claim=claim_id, fingerprint=fingerprint))


def _chord(app: Any, envelope: Envelope) -> Any:
    try:
        return request_of(app, envelope).chord
    except Exception:  # whatever a serializer may raise
        return None
