"""The frames of a publish are byte for byte those that py-amqp writes."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from amqp import serialization, spec
from amqp.basic_message import Message
from amqp.exceptions import FrameSyntaxError
from amqp.method_framing import frame_writer
from hypothesis import given
from hypothesis import strategies as st

from celery_tw.integration.publishing.publish_frames import publish_frames, write_properties

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.decimals(min_value=0, max_value=9999, places=2)
    | st.datetimes(min_value=datetime(1990, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
)
NAMES = st.text(max_size=60).filter(lambda name: len(name.encode("utf-8", "surrogatepass")) < 256)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=10)
SHORT = st.text(max_size=60)
PROPERTIES = st.fixed_dictionaries(
    {"application_headers": st.dictionaries(NAMES, VALUES, max_size=8)},
    optional={
        "content_type": SHORT,
        "content_encoding": SHORT,
        "delivery_mode": st.integers(0, 255),
        "priority": st.integers(0, 255),
        "correlation_id": SHORT,
        "reply_to": SHORT,
        "expiration": SHORT,
        "message_id": st.none() | SHORT,
        "timestamp": st.integers(0, 2**64 - 1),
        "type": SHORT,
        "user_id": SHORT,
        "app_id": SHORT,
        "cluster_id": SHORT,
        "unknown": SHORT,
    },
)


class Wire:
    """Keeps what py-amqp would send; it is the connection and the transport to py-amqp's frame writer."""

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        self.bytes_sent = 0
        self.sent = b""

    def write(self, data: bytes | memoryview) -> None:
        self.sent += bytes(data)


def by_py_amqp(body: bytes, properties: dict[str, Any], *, exchange: str, routing_key: str, mandatory: bool, frame_max: int) -> bytes:
    """Return what py-amqp sends for a publish on channel 1."""
    wire = Wire(frame_max)
    arguments = serialization.dumps("Bssbb", [0, exchange, routing_key, mandatory, False])
    frame_writer(wire, wire)(1, 1, spec.Basic.Publish, arguments, Message(body, **properties))
    return wire.sent


@given(
    body=st.binary(max_size=300) | st.integers(4000, 9000).map(bytes),
    properties=PROPERTIES,
    exchange=SHORT,
    routing_key=SHORT,
    mandatory=st.booleans(),
    frame_max=st.sampled_from([4096, 131_072]),
)
def test_a_message_is_written_as_by_py_amqp(body: bytes, properties: dict[str, Any], **rest: Any) -> None:
    assert publish_frames(body, properties, channel_id=1, **rest) == by_py_amqp(body, properties, **rest)


class Text(str):
    """Text that is more than text."""


@pytest.mark.parametrize("value", [Text("more"), (1, (2, [None, {"a": ()}])), Decimal("1.5"), b"bytes", 2**31 - 1, 2**31, -(2**31) + 1])
def test_values_at_the_borders_are_written_as_by_py_amqp(value: Any) -> None:
    headers = {"name": value, "inner": {"deep": [value]}}
    assert write_properties({"application_headers": headers}) == Message("", application_headers=headers)._serialize_properties()


@pytest.mark.parametrize("headers", [{"what": object()}, {"what": [object()]}, {"what": {"inner": {1, 2}}}])
def test_a_value_that_amqp_has_no_type_for_is_told_as_by_py_amqp(headers: dict[str, Any]) -> None:
    with pytest.raises(FrameSyntaxError, match="Table type"):
        write_properties({"application_headers": headers})
