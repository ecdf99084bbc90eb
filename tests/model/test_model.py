"""The protocol of lease, claim and outbox, checked in every order of events by Spin, and its checks by faults that they must find.

``TW_MODEL_FAULTS=3`` lets one more thing go wrong than the two of every run (a minute instead of seconds).
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.requirements import require

MODEL = Path(__file__).with_name("leadership.pml")
FAULTS = os.environ.get("TW_MODEL_FAULTS", "2")
SAFETY = ("-DSAFETY", "-DNOCLAIM"), ()
LIVENESS = ("-DNFAIR=8",), ("-a", "-f")


@pytest.fixture(autouse=True)
def spin() -> None:
    missing = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    require("spin", missing=f"{' and '.join(missing)} not on PATH" if missing else None)


def check(folder: Path, kind: tuple[tuple[str, ...], tuple[str, ...]], *seeded: str) -> tuple[int, int, str]:
    """Return how many states were searched, how many errors were found, and all that was said."""
    build, run = kind
    defines = [f"-DFAULTS={FAULTS}", *(f"-D{fault}" for fault in seeded)]
    subprocess.run(["spin", "-a", *defines, MODEL], cwd=folder, check=True, capture_output=True, timeout=60)
    subprocess.run(["gcc", "-O1", "-w", *build, "-o", "pan", "pan.c"], cwd=folder, check=True, capture_output=True, timeout=60)
    done = subprocess.run(["./pan", "-E", "-m400000", *run], cwd=folder, check=False, capture_output=True, text=True, timeout=600)
    found = re.search(r"errors: (\d+)\s+(\d+) states", done.stdout)
    assert found, done.stdout + done.stderr
    assert "max search depth too small" not in done.stdout
    return int(found[2]), int(found[1]), done.stdout


@pytest.mark.parametrize("kind", [SAFETY, LIVENESS], ids=["safety", "liveness"])
def test_no_order_of_events_breaks_the_protocol(tmp_path: Path, kind: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    states, errors, said = check(tmp_path, kind)

    assert errors == 0, said
    assert states > 10_000


@pytest.mark.parametrize(
    ("fault", "kind", "what"),
    [
        ("NO_FENCE", SAFETY, "assertion violated (epoch>=written_epoch)"),
        ("NO_MARK", SAFETY, "assertion violated (claims[slot]==1)"),
        ("SETTLE_FIRST", SAFETY, "assertion violated published[slot]"),
        ("TTL_ONLY", LIVENESS, "acceptance cycle"),
        ("NO_REPUBLISH", LIVENESS, "acceptance cycle"),
    ],
)
def test_a_seeded_fault_is_found(tmp_path: Path, fault: str, kind: tuple[tuple[str, ...], tuple[str, ...]], what: str) -> None:
    _, errors, said = check(tmp_path, kind, fault)

    assert errors == 1
    assert what in said
