"""Silent channel: kombu's own Redis channel, made without a word to the server.

How a broker URL, ``broker_use_ssl``, ``broker_transport_options``, sentinels and credentials become a connection pool, and how a message
becomes the commands that deliver it, is kombu's business and changes with its versions. So both are asked of kombu. Its channel pings
when it is made; this one takes the answer for granted, and the pool behind it connects when it is first used.
"""

from typing import Any

from kombu.connection import Connection


class _Granted:
    """A client of which only the ping is ever asked."""

    def ping(self) -> bool:
        return True


class Silent:
    """To be mixed in before a kombu Redis channel class."""

    client = _Granted()


def silent_channel(connection: Connection, *, mixin: type = Silent) -> Any:
    """Return a channel of the *connection*'s transport, with *mixin* before its class; nothing is connected."""
    transport = connection.transport
    channel_class = type(mixin.__name__, (mixin, transport.Channel), {})
    return channel_class(transport)
