"""ETL: the shop's nightly figures as a DAG: orders and rates are fetched side by side, put together, published and archived.

Two things go wrong on purpose. The rates do not come at the first try: their node is tried again before anything hears of it. And the
figures cannot be published until somebody makes room for them: that branch is blocked, the others go on, and the run is repaired later.
"""

import os
from pathlib import Path

from celery import group

from celery_tw import DAG
from example_project import FOLDER_VARIABLE
from example_project.app import app

ORDERS = [("books", 20), ("tea", 5), ("tea", 7)]


class RatesMissing(Exception):
    """Raised when the rates did not come."""


class NoRoom(Exception):
    """Raised when the figures cannot be published."""


@app.task(shared=False, name="shop.extract_orders", ignore_result=False)
def extract_orders() -> list[tuple[str, int]]:
    """Return the orders of the day: what, and for how much."""
    return ORDERS


@app.task(shared=False, name="shop.extract_rates", ignore_result=False)
def extract_rates() -> dict[str, float]:
    """Return the rates of the day; the first time they do not come."""
    asked = folder() / "rates-asked"
    if not asked.exists():
        asked.touch()
        raise RatesMissing("the rates are not out yet")
    return {"USD": 1.25}


@app.task(shared=False, name="shop.price", ignore_result=False)
def price(order: tuple[str, int], rates: dict[str, float]) -> float:
    """Return what one order is worth in dollars."""
    return order[1] * rates["USD"]


@app.task(shared=False, name="shop.sum_up", ignore_result=False)
def sum_up(prices: list[float]) -> float:
    return sum(prices)


@app.task(shared=False, name="shop.publish", ignore_result=False)
def publish(total: float) -> str:
    """Publish the figures, where there is room for them."""
    if not room().exists():
        raise NoRoom(f"no room to publish {total:g}")
    (room() / "total").write_text(f"{total:g}")
    return "published"


@app.task(shared=False, name="shop.tell", ignore_result=False)
def tell(whom: str) -> str:
    return f"told {whom}"


@app.task(shared=False, name="shop.tidy_up", ignore_result=False)
def tidy_up() -> str:
    return "tidy"


def folder() -> Path:
    """Return where this run of the example keeps its files."""
    return Path(os.environ[FOLDER_VARIABLE])


def room() -> Path:
    """Return where the figures are published; it is not there until somebody makes it."""
    return folder() / "published"


def make_dag() -> DAG:
    """Return the DAG."""
    with DAG("nightly-figures") as dag:
        orders = dag.node("orders", extract_orders.s())
        rates = dag.node("rates", extract_rates.s(), retries=2)
        prices = dag.node("prices", price.s(), for_each=orders, args_from=[rates])
        total = dag.node("total", sum_up.s(), args_from=[prices])
        published = dag.node("publish", publish.s(), args_from=[total])
        dag.node("tell", group([tell.si("the owner"), tell.si("the bank")]), after=[published])
        archived = dag.node("archive", tidy_up.si(), after=[total])
        dag.node("tidy", tidy_up.si(), after=[published, archived], trigger="all_done")
    return dag
