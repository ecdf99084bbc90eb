"""Fuzz for as long as told: ``python -m tests.fuzz [--minutes 60]``. The first failure is printed, shrunk, and ends the run."""

import argparse
import sys
import time

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.decoders import DECODERS, Decoder
from tests.fuzz.spoiling import spoiled
from tests.fuzz.test_decoders import read

ROUND = 2000
PHASES = (Phase.generate, Phase.shrink)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    deadline = time.monotonic() + 60 * parser.parse_args(arguments).minutes
    rounds = 0
    while time.monotonic() < deadline:
        for decoder in DECODERS:
            _fuzz(decoder, rounds)
        rounds += 1
    print(f"{rounds * ROUND * len(DECODERS):,} texts read by {len(DECODERS)} decoders, each returned or refused in its own words")  # noqa: T201
    return 0


def _fuzz(decoder: Decoder, number: int) -> None:
    @seed(number)
    @settings(max_examples=ROUND, deadline=None, database=None, phases=PHASES, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def texts(data: st.DataObject) -> None:
        read(decoder, data.draw(spoiled(decoder.samples)))

    texts()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
