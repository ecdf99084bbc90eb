"""Arrivals: reads what a broker has sent, many frames with one call of the system.

py-amqp reads a frame in three pieces, each as long as it has to be, and sets the time-out of the socket before and after: some eight calls
for a confirm of 21 bytes. Its transport keeps what it was given beyond what it asked for, though, so it is given more (`widen`); and what
lies there whole is handled without a wait (`handle_what_came`).
"""

from typing import Any

from amqp.transport import TCPTransport

AT_ONCE = 4096
AROUND = 8
SIZE = slice(3, 7)


def widen(transport: Any) -> None:
    """Let the *transport* of a connection take what has come, up to `AT_ONCE`; one over TLS does so anyhow, a record at a time."""
    if isinstance(transport, TCPTransport):
        receive = transport.sock.recv
        transport._quick_recv = lambda size: receive(max(size, AT_ONCE))


def handle_what_came(connection: Any) -> None:
    """Handle the frames that *connection* has been given whole; asks the system for nothing, and raises what the frames make it raise."""
    transport = connection.transport
    while transport.connected and _begins_with_a_frame(transport._read_buffer):
        connection.blocking_read()


def _begins_with_a_frame(data: bytes) -> bool:
    return len(data) >= AROUND and len(data) >= AROUND + int.from_bytes(data[SIZE], "big")
