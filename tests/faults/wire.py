"""Wire: a way to Redis that can be cut, reset, made deaf in either direction, slowed down, and led to another server."""

import socket
import struct
import time

from tests.cutting import CuttingProxy

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: closing sends RST instead of FIN."""


class Wire(CuttingProxy):
    """A proxy with faults. *deaf* swallows the questions, *silent* the answers; both at once are a partition."""

    def __init__(self, socket_path: str) -> None:
        super().__init__(socket_path)
        self.deaf = False
        self.delay_s = 0.0

    @property
    def url(self) -> str:
        """The URL that Celery takes."""
        return f"redis://127.0.0.1:{self.port}/0"

    def part(self, *, deaf: bool = True, silent: bool = True) -> None:
        """Let nothing through in the given directions; connections stay open, as in a network that drops packets."""
        self.deaf, self.silent = deaf, silent

    def heal(self) -> None:
        """Let everything through again; what was swallowed is lost, so the connections it was lost from are reset."""
        self.deaf = self.silent = False
        self.delay_s = 0.0
        self.reset()

    def lead_to(self, socket_path: str) -> None:
        """Lead new connections to another server, and end those there are."""
        self.socket_path = socket_path
        self.reset()

    def reset(self) -> None:
        """Reset all connections, whatever is under way."""
        connections, self._open = self._open, []
        for connection in connections:
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended
                continue

    def _passes(self, asked: bytes) -> bool:
        if self.delay_s:
            time.sleep(self.delay_s)
        return not self.deaf
