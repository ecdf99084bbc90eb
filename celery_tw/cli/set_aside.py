"""Set aside: what the leader could not read or the broker did not take, a line each, with what a person can do about it."""

import json
from collections.abc import Iterator, Mapping

from celery_tw.stores.redis.keys import is_one_time

SET_ASIDE_COLUMNS = ("set aside", "task or entry", "id", "reason", "what to do")
MESSAGE = "message "


def set_aside_rows(quarantined: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each of *quarantined*, which has the reasons by what they are about."""
    for member, reason in sorted(quarantined.items()):
        if member.startswith(MESSAGE):
            yield _message(member.removeprefix(MESSAGE), reason)
        elif ":" in member:
            yield "backfill", "", member, _reason(reason), "order it again: tw schedule backfill"
        elif member.isdigit() and is_one_time(int(member)):
            yield "one-time task", "", member, _reason(reason), "send its task again, after tw cancel with its task id"
        else:
            yield "entry", "", member, _reason(reason), "store it again under its name, or tw schedule remove that"


def _message(message_id: str, noted: str) -> tuple[str, ...]:
    facts = _facts(noted)
    return (
        "message",
        str(facts.get("name") or ""),
        message_id,
        _reason(noted),
        f"tw outbox show {message_id}; then tw outbox requeue or discard",
    )


def _reason(noted: str) -> str:
    return str(_facts(noted).get("reason") or noted)


def _facts(noted: str) -> Mapping[str, object]:
    """Return what the leader noted of a message; a note that cannot be read says nothing."""
    try:
        facts = json.loads(noted)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
