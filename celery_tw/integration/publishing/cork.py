"""Cork: holds back what is written to a broker's connection, so that many small messages leave in one write.

py-amqp writes each message to the socket by itself. Its connection takes the function that writes frames as an argument; ours has py-amqp's
own do the framing, and stands between it and the socket. The frames of a publish (``publish_frames.py``) come here ready made.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from amqp.method_framing import frame_writer

AT_ONCE = 64 * 1024


class Cork:
    """What one connection writes through; see `writer`."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._held = bytearray()
        self._holds = False

    def writer(self, connection: Any, transport: Any) -> Callable[..., None]:
        """Return what writes frames; it is the connection's argument ``frame_writer``."""
        self._transport = transport
        self._held.clear()
        return frame_writer(connection, self)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold back what is written within the context; at its end it leaves, or is forgotten if that end is an error."""
        self._holds = True
        try:
            yield
            self.flush()
        finally:
            self._holds = False
            self._held.clear()

    def write(self, data: bytes | memoryview) -> None:
        """Write *data*, later if it is to be held back."""
        if not self._holds:
            self._transport.write(data)
            return
        self._held += data
        if len(self._held) >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Let what is held leave now."""
        held, self._held = self._held, bytearray()
        if held:
            self._transport.write(held)
