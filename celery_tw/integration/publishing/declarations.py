"""Declarations: queues and exchanges that messages need, declared once for each connection, as Celery's producers do.

A declaration that the broker refuses (other arguments, no right to declare) is no reason to keep a message back: the queue may well be
there. It is logged, and the publish shows the truth. Each is made on a channel of its own, because a refusal closes the channel.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from kombu.entity import Exchange

from celery_tw.integration.messages.neutral import known_queues
from celery_tw.integration.publishing.publish_frames import UNWRITABLE
from celery_tw.stores.redis.envelope import Envelope

logger = logging.getLogger(__name__)

UNDECLARED = "%s %s could not be declared, and is used as it is: %s"


class Declarations:
    """What has been declared on the connection that *open_channel* opens channels of, as *app* defines it."""

    def __init__(self, app: Any, open_channel: Callable[[], Any], *, channel_errors: tuple[type[BaseException], ...]) -> None:
        self.app = app
        self.open_channel = open_channel
        self.channel_errors = channel_errors
        self._made: set[tuple[str, str]] = set()

    def make(self, envelopes: Iterable[Envelope]) -> None:
        """Declare what *envelopes* need and is not declared yet; an error of the connection is raised."""
        for envelope in envelopes:
            for written in envelope.exchanges:
                self._once(("exchange", str(written.get("name"))), partial(self._declare_exchange, written))
            for name in envelope.declare:
                self._once(("queue", name), partial(self._declare_queue, name))

    def forget(self, envelope: Envelope) -> None:
        """Take what *envelope* needs for undeclared: somebody has deleted it."""
        self._made -= {("queue", name) for name in envelope.declare}

    def _once(self, what: tuple[str, str], declare: Callable[[Any], object]) -> None:
        if what in self._made:
            return
        channel = self.open_channel()
        try:
            declare(channel)
        except self.channel_errors as error:
            logger.warning(UNDECLARED, *what, error)
        except UNWRITABLE as error:
            logger.warning(UNDECLARED, *what, error)
            channel.close()
        else:
            channel.close()
        self._made.add(what)

    def _declare_exchange(self, written: Mapping[str, Any], channel: Any) -> None:
        Exchange(**written)(channel).declare()

    def _declare_queue(self, name: str, channel: Any) -> None:
        for queue in known_queues(self.app, [name]):
            queue(channel).declare()
