"""Wheel: insert, cancel and advance rates of the in-memory wheel and its bytes per id, beside a heap with tombstones."""

import argparse
import gc
import heapq
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.process_figures import memory_bytes
from benchmarks.report import Report
from celery_tw.core.wheel import Wheel

SPREAD_MS = 3_600_000
TAKE = 1000
SEED = 7


@dataclass(frozen=True, slots=True)
class Rates:
    """Operations per second, and memory per id held."""

    insert_per_s: float
    cancel_per_s: float
    advance_per_s: float
    longest_call_ms: float
    bytes_per_id: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=int, default=1_000_000, help="ids held (default %(default)s)")


def run(options: argparse.Namespace) -> Report:
    """Measure wheel and heap in this process on the same ids, due within an hour, one in ten of them cancelled."""
    report = Report("wheel")
    spread = random.Random(SEED)
    pairs = [(number, spread.randrange(SPREAD_MS)) for number in range(options.entries)]
    wheel, heap = _wheel(pairs), _heap(pairs)
    for who, rates in (("wheel", wheel), ("heapq", heap)):
        report.add(
            who,
            insert_per_s=round(rates.insert_per_s),
            cancel_per_s=round(rates.cancel_per_s),
            advance_per_s=round(rates.advance_per_s),
            longest_call_ms=round(rates.longest_call_ms, 1),
            bytes_per_id=round(rates.bytes_per_id, 1),
        )
    report.find("bytes of the wheel per id", wheel.bytes_per_id, at_most=40)
    report.find("insert, wheel / heapq", wheel.insert_per_s / heap.insert_per_s)
    report.find("cancel, wheel / heapq", wheel.cancel_per_s / heap.cancel_per_s)
    report.find("advance, wheel / heapq", wheel.advance_per_s / heap.advance_per_s)
    return report


def _wheel(pairs: list[tuple[int, int]]) -> Rates:
    before = _memory()
    wheel = Wheel(now_ms=0)
    insert_s = _timed(lambda: wheel.insert_many(pairs))
    held = _memory() - before
    cancelled = pairs[::10]
    cancel_s = _timed(lambda: [wheel.cancel(entry_id, due_ms) for entry_id, due_ms in cancelled])

    def advance(now_ms: int) -> int:
        return len(wheel.advance(now_ms, limit=TAKE))

    return _rates(pairs, cancelled, insert_s, cancel_s, held, advance, lambda: len(wheel))


def _heap(pairs: list[tuple[int, int]]) -> Rates:
    before = _memory()
    heap: list[tuple[int, int]] = []
    gone: set[int] = set()

    def insert() -> None:
        for entry_id, due_ms in pairs:
            heapq.heappush(heap, (due_ms, entry_id))

    insert_s = _timed(insert)
    held = _memory() - before
    cancelled = pairs[::10]
    cancel_s = _timed(lambda: gone.update(entry_id for entry_id, _ in cancelled))

    def advance(now_ms: int) -> int:
        taken = []
        while heap and heap[0][0] <= now_ms and len(taken) < TAKE:
            due_ms, entry_id = heapq.heappop(heap)
            if entry_id not in gone:
                taken.append((due_ms, entry_id))
        return len(taken)

    return _rates(pairs, cancelled, insert_s, cancel_s, held, advance, lambda: len(heap))


def _rates(
    pairs: list[tuple[int, int]],
    cancelled: list[tuple[int, int]],
    insert_s: float,
    cancel_s: float,
    held: int,
    advance: Callable[[int], int],
    left: Callable[[], int],
) -> Rates:
    """Turn a whole hour, second by second, and return all rates."""
    longest_s, taken = 0.0, 0
    started_s = time.perf_counter()
    for now_ms in range(0, SPREAD_MS + 1000, 1000):
        while True:
            call_s = time.perf_counter()
            came = advance(now_ms)
            longest_s = max(longest_s, time.perf_counter() - call_s)
            taken += came
            if came < TAKE:
                break
    advance_s = time.perf_counter() - started_s
    if taken != len(pairs) - len(cancelled) or left():
        raise AssertionError(f"{taken} ids came out of {len(pairs)} with {len(cancelled)} cancelled, and {left()} are left")
    return Rates(
        insert_per_s=len(pairs) / insert_s,
        cancel_per_s=len(cancelled) / cancel_s,
        advance_per_s=taken / advance_s,
        longest_call_ms=1000 * longest_s,
        bytes_per_id=held / len(pairs),
    )


def _timed(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def _memory() -> int:
    gc.collect()
    return memory_bytes(os.getpid())
