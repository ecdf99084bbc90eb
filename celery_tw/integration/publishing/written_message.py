"""Written message: a message for py-amqp that writes its properties byte for byte as py-amqp does, in less than half of the time.

A task has some twenty headers, and writing them was more than half of what a publish cost. py-amqp asks each value for all the types that
it might have and packs it piece by piece; here the types that headers have are told by one look-up, and names are written once. What is
none of those types (a Decimal, a datetime, a subclass) is left to py-amqp, as is its error for what AMQP has no type for.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from struct import error, pack
from typing import Any

from amqp import serialization
from amqp.basic_message import Message
from amqp.exceptions import FrameSyntaxError

UNWRITABLE = (FrameSyntaxError, error, ValueError, TypeError)
"""What py-amqp raises over a name or a value that it cannot write, before it has written any of the message."""

LONGEST_INT = 2147483647
NAMES_KEPT = 1000


class WrittenMessage(Message):
    """Is to py-amqp a message like any other."""

    def _serialize_properties(self) -> bytes:
        flags, written, properties = 0, [], self.properties
        for name, kind, flag in _PROPERTIES:
            value = properties.get(name)
            if value is not None:
                flags |= flag
                written.append(_WRITERS[kind](value))
        return pack(">H", flags) + b"".join(written)


def write_table(table: Mapping[str, Any]) -> bytes:
    """Return *table* as AMQP writes it; raises what py-amqp raises for a value that AMQP has no type for."""
    written = b"".join([_name(name) + _item(name, value) for name, value in table.items()])
    return pack(">I", len(written)) + written


@lru_cache(NAMES_KEPT)
def _name(name: str) -> bytes:
    return _short_text(name)


def _item(name: str, value: Any) -> bytes:
    write = _ITEMS.get(type(value))
    return _by_py_amqp(name, value) if write is None else write(value)


def _by_py_amqp(name: str, value: Any) -> bytes:
    """Return *value* as py-amqp writes it into a table, without the table's length and the name."""
    whole: bytes = serialization.dumps("F", [{name: value}])
    return whole[4 + len(_name(name)) :]


def _text(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return b"S" + pack(">I", len(encoded)) + encoded


def _int(value: int) -> bytes:
    return b"I" + pack(">i", value) if -LONGEST_INT <= value <= LONGEST_INT else b"L" + pack(">q", value)


def _array(values: list[Any]) -> bytes:
    written = b"".join([_item("", value) for value in values])
    return b"A" + pack(">I", len(written)) + written


def _short_text(value: str | bytes) -> bytes:
    encoded = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return pack("B", len(encoded)) + encoded


_ITEMS: dict[type, Callable[[Any], bytes]] = {
    str: _text,
    int: _int,
    bool: lambda value: b"t\x01" if value else b"t\x00",
    type(None): lambda _: b"V",
    dict: lambda value: b"F" + write_table(value),
    list: _array,
    tuple: _array,
}

_WRITERS: dict[str, Callable[[Any], bytes]] = {
    "s": _short_text,
    "F": write_table,
    "o": lambda value: pack("B", value),
    "L": lambda value: pack(">Q", value),
}

_PROPERTIES = [(name, kind, 1 << (15 - place)) for place, (name, kind) in enumerate(Message.PROPERTIES)]
