"""Figure of lanes: runs a fair queue under a flood, for real, and draws which lane its starts were of, second by second.

``python -m benchmarks.lanes_figure docs/howto/lanes.svg`` takes a minute. High is kept full for the first `HIGH_S` seconds, medium has what
lasts for about twenty, low has more than all of the run can start. A worker starts one task after the other in each of two threads.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from celery import Celery
from redis import Redis

from benchmarks.contender import ROOT, stop
from benchmarks.server import start_server
from celery_tw import TimeWheel
from celery_tw.core.lane import LANES
from celery_tw.integration.broker import connect

SECONDS = 45
HIGH_S = 30
TASK_S = 0.02
MEDIUM_TASKS = 300
LOW_TASKS = 2000
KEPT_FULL = 100
STARTS = "starts"

app = Celery("figure", broker=os.environ.get("BENCH_URL", "redis://"))
app.conf.update(tw_fair_queues=["celery"], task_ignore_result=True, worker_prefetch_multiplier=1)
wheel = TimeWheel(app)


@app.task(name="figure.work", bind=True)
def work(self: object) -> None:
    """Note the lane of the task and when it started, and take a moment."""
    connect(app).rpush(STARTS, f"{time.time()} {self.request.tw_lane}")  # type: ignore[attr-defined]
    time.sleep(TASK_S)


@contextmanager
def _running(*arguments: str) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.lanes_figure", *arguments, "-l", "ERROR"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        stop(process)


def _wait_until_somebody_leads() -> None:
    while wheel.status().leader is None:
        time.sleep(0.1)


def _waiting(lane: str) -> int:
    (queue,) = wheel.lanes.stats()
    return queue.lanes[LANES.index(lane)].waiting


def _send(lane: str, count: int) -> None:
    for _ in range(count):
        work.apply_async(lane=lane)


def measure(client: Redis) -> list[Counter[str]]:
    """Return how many tasks of each lane started in each second of a run on the Redis of *client*."""
    with _running("beat", "-S", "timewheel", "--pidfile="):
        _wait_until_somebody_leads()
        for lane, count in (("high", KEPT_FULL), ("medium", MEDIUM_TASKS), ("low", LOW_TASKS)):
            _send(lane, count)
        with _running("worker", "-P", "threads", "-c", "2", "--without-gossip", "--without-mingle"):
            while not client.llen(STARTS):
                time.sleep(0.01)
            begun_s = time.time()
            while time.time() - begun_s < SECONDS:
                if time.time() - begun_s < HIGH_S:
                    _send("high", KEPT_FULL - _waiting("high"))
                time.sleep(0.1)
            starts = [line.decode().split() for line in client.lrange(STARTS, 0, -1)]
    seconds: list[Counter[str]] = [Counter() for _ in range(SECONDS)]
    for moment, lane in starts:
        second = int(float(moment) - begun_s)
        if 0 <= second < SECONDS:
            seconds[second][lane] += 1
    return seconds


# Drawing

COLOURS = {"high": "#0b4f8a", "medium": "#4f94c9", "low": "#b9d8ee"}
CAPTION = "seconds; the broken lines are what was asked for: 50 % high, 30 % medium, 20 % low"
LEFT, TOP, BAR, HEIGHT = 56, 46, 13, 200
WIDTH = LEFT + SECONDS * BAR + 92


def draw(seconds: Sequence[Counter[str]]) -> str:
    """Return the figure as SVG: a bar for each second, cut by the shares of the lanes."""
    bottom = TOP + HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 62}" font-family="sans-serif" font-size="13" fill="#222">',
        "<title>Shares of the starts of each lane, second by second</title>",
        f'<rect width="{WIDTH}" height="{bottom + 62}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">Of the tasks started in each second, the share of each lane</text>',
    ]
    for percent in (0, 50, 80, 100):
        y = bottom - HEIGHT * percent / 100
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{percent} %</text>')
    for second, counts in enumerate(seconds):
        parts.extend(_bar(second, counts))
    for percent in (50, 80):
        y = bottom - HEIGHT * percent / 100
        place = f'x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + SECONDS * BAR}" y2="{y:.1f}"'
        parts.append(f'<line {place} stroke="#d1495b" stroke-width="1.5" stroke-dasharray="5 4"/>')
    for second in range(0, SECONDS + 1, 5):
        parts.append(f'<text x="{LEFT + second * BAR}" y="{bottom + 18}" text-anchor="middle">{second}</text>')
    parts.append(f'<text x="{LEFT}" y="{bottom + 40}">{CAPTION}</text>')
    for row, lane in enumerate(reversed(LANES)):
        y = TOP + 10 + 24 * row
        parts.append(f'<rect x="{WIDTH - 82}" y="{y}" width="14" height="14" fill="{COLOURS[lane]}"/>')
        parts.append(f'<text x="{WIDTH - 62}" y="{y + 12}">{lane}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _bar(second: int, counts: Counter[str]) -> Iterator[str]:
    y, total = float(TOP + HEIGHT), sum(counts.values())
    for lane in LANES:
        height = HEIGHT * counts[lane] / total if total else 0.0
        y -= height
        if height:
            yield f'<rect x="{LEFT + second * BAR}" y="{y:.1f}" width="{BAR - 1}" height="{height:.1f}" fill="{COLOURS[lane]}"/>'


def main() -> None:
    """Run, and write the figure to the file that is named."""
    server = start_server()
    try:
        os.environ["BENCH_URL"] = app.conf.broker_url = server.url
        with server.client() as client:
            Path(sys.argv[1]).write_text(draw(measure(client)))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
