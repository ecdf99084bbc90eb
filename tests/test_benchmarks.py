"""The benchmarks run and report what they promise; how fast anything was is never asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import require, why_no_rabbitmq

ROOT = Path(__file__).parent.parent
SMALL = {
    "dispatch": ["--entries=40", "--recurring=20", "--redbeat-entries=10", "--box=1", "--rounds=1"],
    "accuracy": ["--entries=3", "--seconds=2", "--held=20"],
    "startup": ["--entries=200", "--peer-entries=5", "--sample=50", "--idle=1"],
    "failover": ["--repeat=1"],
    "eta": ["--rounds=1", "--tasks=20", "--short=10", "--due=3", "--visibility=1"],
    "wheel": ["--entries=2000"],
    "dag": ["--chain=5", "--random=10", "--layers=3", "--width=4"],
    "tasks": ["--tasks=50", "--rounds=2"],
    "lanes": ["--stored=12", "--rounds=1", "--few=50", "--many=100", "--batches=1", "--admitted=40"],
    "dlq": ["--burials=50", "--letters=50", "--tasks=40", "--poison=40"],
    "brokers": ["--entries=40", "--singly=20", "--loaded=200", "--outage=1", "--missed=20"],
}


@pytest.mark.processes
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", SMALL)
def test_a_small_benchmark_reports_figures_of_all_contenders_and_findings_with_their_targets(name):
    _require_what_it_runs_on(name)
    command = [sys.executable, "-m", "benchmarks", name, "--json", *SMALL[name]]
    report = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert report["benchmark"] == name
    assert len({row["who"] for row in report["rows"]}) == len(report["rows"]) >= 2
    assert report["findings"]
    assert all(set(finding) == {"what", "value", "at_least", "at_most", "met"} for finding in report["findings"])


def _require_what_it_runs_on(name: str) -> None:
    pytest.importorskip("redbeat", reason="needs the `bench` extra")
    if name == "tasks":
        pytest.importorskip("celery_once", reason="needs the `bench` extra")
        pytest.importorskip("celery_singleton", reason="needs the `bench` extra")
    if name in ("brokers", "lanes"):
        require("rabbitmq", missing=why_no_rabbitmq())
    require("linux", missing=None if Path("/proc/self/stat").exists() else "the figures of a process are read from /proc")
