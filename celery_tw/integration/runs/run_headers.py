"""Run headers: what a request says of its run: which it is, and which it comes after."""

from typing import Any

from celery_tw.integration.messages.identity_headers import MID, ONCE_MORE


def header_of(request: Any, name: str) -> Any:
    """Return a header of ours, None when there is none: a worker has it beside the request's own, a message among its headers."""
    return getattr(request, name, None) or (getattr(request, "headers", None) or {}).get(name)


def mid_of(request: Any) -> str:
    """Return the mid of a request; a message from a process without the plug-in has none and is told apart by what Celery says of it."""
    return str(header_of(request, MID) or f"{request.id}:{request.retries or 0}:{getattr(request, 'replaced_task_nesting', 0) or 0}")


def was_sent_once_more(request: Any) -> bool:
    """Return whether this very message was sent once more; a retry inherits the header, and has another mid."""
    return bool(header_of(request, ONCE_MORE) == mid_of(request))
