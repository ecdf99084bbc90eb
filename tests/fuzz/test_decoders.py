"""No text makes a decoder fail in another way than it says, or take long."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.decoders import DECODERS, Decoder
from tests.fuzz.spoiling import spoiled

LONGEST_S = 2.0


def read(decoder: Decoder, raw: bytes) -> None:
    """Let *decoder* read *raw*; raises what it must not."""
    started = time.process_time()
    try:
        decoder.read(raw)
    except decoder.refusals:
        pass
    except (ValueError, RecursionError):
        if not _is_unparsable(decoder, raw):
            raise
    assert time.process_time() - started < LONGEST_S


def _is_unparsable(decoder: Decoder, raw: bytes) -> bool:
    """Return whether *raw* did not get past the JSON reader that these tests put before a decoder of plain values."""
    if decoder.name not in ("spec", "misfire", "allowed tasks"):
        return False
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return True
    return False


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_a_decoder_reads_its_samples(decoder: Decoder) -> None:
    for sample in decoder.samples:
        decoder.read(sample)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_decoder_returns_or_refuses(decoder: Decoder, data: st.DataObject) -> None:
    read(decoder, data.draw(spoiled(decoder.samples)))
