"""Tasks of the shop. Each writes into the ledger that it ran, and for which slot: that is what the demonstration checks."""

import os

from celery import Task

from celery_tw import LongTask, slot
from example_project.app import app
from example_project.journal import Entry, Journal
from example_project.ledger import Ledger

ledger = Ledger(app)
journal = Journal(app)


def note(task: Task, entry: str) -> None:
    """Write down that *task* runs now for *entry*."""
    ledger.write(entry, slot(task.request), task_id=task.request.id)


@app.task(bind=True, shared=False, name="shop.check_stock")
def check_stock(self: Task, entry: str) -> None:
    note(self, entry)


@app.task(bind=True, shared=False, name="shop.count_carts")
def count_carts(self: Task, entry: str) -> None:
    note(self, entry)


@app.task(bind=True, shared=False, name="shop.fetch_prices")
def fetch_prices(self: Task, entry: str) -> int:
    """Return the price, which the next task of a chain takes."""
    note(self, entry)
    return 42


@app.task(bind=True, shared=False, name="shop.store_prices")
def store_prices(self: Task, price: int, entry: str) -> None:
    note(self, entry)


@app.task(bind=True, shared=False, name="shop.report")
def report(self: Task, entry: str) -> None:
    note(self, entry)


@app.task(bind=True, base=LongTask, shared=False, ignore_result=False, name="shop.take_inventory")
def take_inventory(self: LongTask, shelves: int) -> int:
    """Count *shelves* one by one, from where the last worker was when it saved."""
    state = self.checkpoint.load(default={"counted": 0})
    journal.write(Entry("begins", os.getpid(), state["counted"], self.lease.token))
    try:
        for _ in self.iterate(range(state["counted"], shelves), state, every=500):
            journal.count_shelf()
            state["counted"] += 1
    finally:
        journal.write(Entry("ends", os.getpid(), state["counted"], self.lease.token))
    return int(state["counted"])
