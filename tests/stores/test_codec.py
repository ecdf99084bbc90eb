"""Definitions as JSON."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from celery_tw.core.definition import Definition
from celery_tw.core.misfire import Misfire
from celery_tw.stores.redis.codec import DefinitionFrame, decode_definition, encode_definition

NAMES = st.text(min_size=1)
SIGNATURES = st.fixed_dictionaries(
    {"task": NAMES, "args": st.lists(st.integers() | st.text()), "kwargs": st.dictionaries(NAMES, st.floats(allow_nan=False))}
)
COMMON = st.fixed_dictionaries(
    {"schedule": st.just({"kind": "interval", "period_ms": 1000, "anchor_ms": 0}), "source": st.sampled_from(["api", "settings"])},
    optional={
        "misfire": st.sampled_from([Misfire.skip(), Misfire.catch_up()]),
        "jitter_ms": st.integers(0, 9),
        "max_runs": st.integers(1, 9),
        "note": st.text(),
        "start_ms": st.integers(),
        "local": st.booleans(),
    },
)


@given(name=NAMES, signature=SIGNATURES, other=SIGNATURES, common=COMMON)
def test_a_frame_encodes_as_the_whole_definition_is_encoded(
    name: str, signature: dict[str, Any], other: dict[str, Any], common: dict[str, Any]
) -> None:
    frame = DefinitionFrame.of(Definition(name="another", signature=other, **common))

    encoded = frame.encode(name, signature)

    definition = Definition(name=name, signature=signature, **common)
    assert encoded == encode_definition(definition)
    assert decode_definition(encoded) == definition
