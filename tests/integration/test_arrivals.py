"""Arrivals: what a broker has sent is read with few calls, and only what is whole."""

import socket
from collections.abc import Iterator
from struct import pack
from typing import Any

import pytest
from amqp import Connection
from amqp.transport import TCPTransport

from celery_tw.integration.publishing.arrivals import handle_what_came, widen


def frame(payload: bytes) -> bytes:
    return pack(">BHI", 1, 1, len(payload)) + payload + b"\xce"


class Wired:
    """A py-amqp connection to the other end of a pair of sockets, which keeps the frames that it is to handle."""

    def __init__(self) -> None:
        self.broker, ours = socket.socketpair()
        ours.settimeout(5)
        transport = TCPTransport("localhost")
        transport.sock, transport.connected = ours, True
        transport._setup_transport()
        widen(transport)
        self.connection = Connection()
        self.connection.transport = transport
        self.connection.on_inbound_frame = self._handle
        self.handled: list[bytes] = []

    def _handle(self, read: tuple[int, int, bytes]) -> Any:
        self.handled.append(read[2])
        return True


@pytest.fixture
def wired() -> Iterator[Wired]:
    wired = Wired()
    yield wired
    wired.broker.close()
    wired.connection.transport.sock.close()


def test_what_came_with_a_frame_is_handled_without_another_call(wired: Wired) -> None:
    wired.broker.sendall(b"".join(frame(b"%d" % number) for number in range(100)))
    wired.connection.blocking_read()
    wired.connection.transport.sock.shutdown(socket.SHUT_RD)
    handle_what_came(wired.connection)
    assert wired.handled == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("length", range(1, len(frame(b"second"))))
def test_what_has_not_come_whole_is_left_and_not_waited_for(wired: Wired, length: int) -> None:
    second = frame(b"second")
    wired.broker.sendall(frame(b"first") + second[:length])
    wired.connection.blocking_read()
    handle_what_came(wired.connection)
    assert wired.handled == [b"first"]
    wired.broker.sendall(second[length:])
    wired.connection.blocking_read()
    assert wired.handled == [b"first", b"second"]
