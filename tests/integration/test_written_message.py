"""A message's properties are written byte for byte as py-amqp writes them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from amqp.basic_message import Message
from amqp.exceptions import FrameSyntaxError
from hypothesis import given
from hypothesis import strategies as st

from celery_tw.integration.publishing.written_message import WrittenMessage

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


@given(PROPERTIES)
def test_all_properties_are_written_as_by_py_amqp(properties: dict[str, Any]) -> None:
    assert WrittenMessage("", **properties)._serialize_properties() == Message("", **properties)._serialize_properties()


class Text(str):
    """Text that is more than text."""


@pytest.mark.parametrize("value", [Text("more"), (1, (2, [None, {"a": ()}])), Decimal("1.5"), b"bytes", 2**31 - 1, 2**31, -(2**31) + 1])
def test_values_at_the_borders_are_written_as_by_py_amqp(value: Any) -> None:
    headers = {"name": value, "inner": {"deep": [value]}}
    assert WrittenMessage("", application_headers=headers)._serialize_properties() == (
        Message("", application_headers=headers)._serialize_properties()
    )


@pytest.mark.parametrize("headers", [{"what": object()}, {"what": [object()]}, {"what": {"inner": {1, 2}}}])
def test_a_value_that_amqp_has_no_type_for_is_told_as_by_py_amqp(headers: dict[str, Any]) -> None:
    with pytest.raises(FrameSyntaxError, match="Table type"):
        WrittenMessage("", application_headers=headers)._serialize_properties()
