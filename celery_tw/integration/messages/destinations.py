"""Destinations: which queues a message is meant for, and in which lane it belongs when one of them is fair."""

from collections.abc import Mapping
from typing import Any

from celery_tw.core.lane import DEFAULT_LANE, LANES
from celery_tw.integration.messages.identity_headers import LANE
from celery_tw.stores.redis.envelope import Envelope


def destinations(options: Mapping[str, Any]) -> set[str]:
    """Return the names of the queues that a publish with these *options* is meant for, as far as they say."""
    declared = {getattr(entity, "name", "") for entity in options.get("declare") or ()}
    return declared if options.get("exchange") else declared | {options.get("routing_key") or ""}


def fair_lane(options: Mapping[str, Any], *, fair: frozenset[str]) -> dict[str, str]:
    """Return the ``lane`` and the ``queue`` of a publish; nothing when it is not for one of the *fair* queues.

    What went out without a lane, or with none that we know, counts as medium.
    """
    return _laned(options.get("headers") or {}, destinations(options) & fair) if fair else {}


def fair_lane_of(envelope: Envelope, *, fair: frozenset[str]) -> dict[str, str]:
    """Return the ``lane`` and the ``queue`` of a message, likewise."""
    if not fair:
        return {}
    queues = set(envelope.declare) if envelope.exchange else {envelope.routing_key}
    return _laned(envelope.headers, queues & fair)


def _laned(headers: Mapping[str, Any], queues: set[str] | frozenset[str]) -> dict[str, str]:
    if len(queues) != 1:
        return {}
    lane = headers.get(LANE)
    return {"lane": lane if lane in LANES else DEFAULT_LANE, "queue": next(iter(queues))}
