"""Spoiling: valid samples, with something wrong in them."""

import json
from typing import Any

from hypothesis import strategies as st

WORDS = (
    "", "0", "-1", "9" * 400, "1e999", "NaN", "null", "\x00", "\ud800", "é" * 40, "' OR 1=1 --", "$(id)", "{0.__class__}", "%s%n",
    "../../etc/passwd",
    "* * * * *", "*/0 * * * *", "60 * * * *", "0 0 31 2 *", "H(0-59)/0 * * * *", "R * * * *", "0 0 L * *",
    "1-5,*/2 * * * MON-SUN", "@reboot",
    "FREQ=SECONDLY;INTERVAL=99999;BYMONTH=2;BYMONTHDAY=30", "FREQ=YEARLY;BYDAY=53MO;COUNT=10000", "FREQ=DAILY;UNTIL=99991231",
    "FREQ=MINUTELY;BYHOUR=3;BYMONTHDAY=31;BYMONTH=2,4,6;INTERVAL=7", "Europe/Nowhere", "../UTC", "localtime", "posixrules",
    "cron", "interval", "once", "rrule", "catch_up", "os.system",
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 1, 10, 2**31, 2**53, 2**63, -(2**63), 253_370_764_800_000, 10**400]),
    st.floats(),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(WORDS), st.text(max_size=20))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=8
)


@st.composite
def spoiled_json(draw: st.DrawFn, samples: tuple[bytes, ...]) -> bytes:
    """A sample that is JSON, with up to three values exchanged, added or left out, at any depth."""
    record = json.loads(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 3))):
        place = record
        while isinstance(place, dict | list) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
            if not isinstance(place[key], dict | list) or draw(st.booleans()):
                _spoil(draw, place, key)
                break
            place = place[key]
    return json.dumps(record).encode("utf-8", "surrogatepass")


def _spoil(draw: st.DrawFn, place: Any, key: Any) -> None:
    if draw(st.integers(0, 4)) == 0:
        del place[key]
    else:
        place[key] = draw(VALUES)


@st.composite
def spoiled_bytes(draw: st.DrawFn, samples: tuple[bytes, ...]) -> bytes:
    """A sample with a piece of it exchanged, repeated or left out."""
    raw = draw(st.sampled_from(samples))
    first = draw(st.integers(0, len(raw)))
    last = draw(st.integers(first, len(raw)))
    piece = draw(
        st.one_of(st.binary(max_size=12), st.just(raw[first:last] * 3), st.sampled_from([b"\n", b"\x00", b"[" * 5000, b'{"a":' * 2000]))
    )
    return raw[:first] + piece + raw[last:]


def spoiled(samples: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Anything from a sample with one fault to mere noise."""
    strategies = [spoiled_bytes(samples), st.binary(max_size=60)]
    if all(sample[:1] in b"{[" for sample in samples):
        strategies.insert(0, spoiled_json(samples))
    return st.one_of(strategies)
