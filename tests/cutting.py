"""CuttingProxy: a way to Redis that can lose the answer to a command that was carried out."""

import socket
import threading
from collections.abc import Callable
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class CuttingProxy:
    """Passes bytes on between clients and the server at *socket_path*; *cuts* counts the answers it has lost, each with its connection.

    While it is *silent* no answer comes through, and *unanswered* counts what was asked.
    """

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path
        self.cuts = 0
        self.silent = False
        self.unanswered = 0
        self._word = b""
        self._left = 0
        self._meanwhile: Callable[[], object] = lambda: None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            _end(connection)
        for thread in self._threads:
            thread.join(5)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def client(self) -> redis.Redis:
        """Return a client that goes through here and retries nothing."""
        return redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=5)

    def cut_answers_to(self, word: bytes, *, number: int, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Lose the answer to the command *word* the *number*-th time it is sent; *meanwhile* is called before the client notices."""
        self._word, self._left, self._meanwhile = word, number, meanwhile

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.socket_path)
            except OSError:  # there is no server now
                client.close()
                server.close()
                continue
            self._open += (client, server)
            cut = threading.Event()
            self._start(self._pass_questions, client, server, cut)
            self._start(self._pass_answers, client, server, cut)

    def _pass_questions(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        while asked := _received(client):
            if self._is_to_be_cut(asked):
                cut.set()
            self.unanswered += self.silent
            if self._passes(asked):
                _send(server, asked)
        _end(server)

    def _pass_answers(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        while (answer := _received(server)) and not cut.is_set():
            if not self.silent:
                _send(client, answer)
        if cut.is_set():
            self._meanwhile()
            self.cuts += 1
        _end(client)
        server.close()
        client.close()

    def _passes(self, asked: bytes) -> bool:
        """Return whether the server is to see *asked*."""
        return True

    def _is_to_be_cut(self, asked: bytes) -> bool:
        if not self._word or self._word not in asked:
            return False
        self._left -= 1
        return self._left == 0


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # the other side has ended it
        return


def _send(end: socket.socket, what: bytes) -> None:
    try:
        end.sendall(what)
    except OSError:  # nobody is there to take it; reading tells that too
        return


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 20)
    except OSError:  # the other thread has closed it
        return b""
