"""Tasks of the shop. Each writes into the ledger that it ran, and for which slot: that is what the demonstration checks."""

from celery import Task

from celery_tw import slot
from example_project.app import app
from example_project.ledger import Ledger

ledger = Ledger(app)


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
