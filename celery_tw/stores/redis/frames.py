"""Frame: a command as it goes over the wire, packed in C where hiredis is installed."""

from collections.abc import Callable
from typing import Any

from celery_tw.stores.redis.scripts import Argument

pack: Callable[[tuple[Argument, ...]], bytes] | None
try:
    from hiredis import pack_command

    pack = pack_command  # type: ignore[assignment] # its annotation says a tuple of one
except ImportError:
    pack = None


def frame_of(connection: Any, command: tuple[Argument, ...]) -> list[bytes]:
    """Return the pieces of *command*; redis-py's own way looks at each argument once more before hiredis does."""
    if pack is None:
        pieces: list[bytes] = connection.pack_command(*command)
        return pieces
    return [pack(command)]
