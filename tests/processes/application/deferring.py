"""The shop with a time wheel, and the tasks that wait in it."""

from typing import Any

import shop

from celery_tw import TimeWheel

app = shop.app
wheel = TimeWheel(app)


def facts(request: Any) -> dict[str, Any]:
    """Return what a run can tell of its message."""
    return {
        "eta": request.eta,
        "tw_eta": header(request, "tw_eta"),
        "mid": header(request, "tw_mid"),
        "trace": header(request, "trace"),
        "retries": request.retries,
        "priority": (request.delivery_info or {}).get("priority"),
    }


def header(request: Any, name: str) -> Any:
    return getattr(request, name, None) or (request.headers or {}).get(name)


@app.task(bind=True, name="shop.show")
def show(self: Any, value: Any = None) -> dict[str, Any]:
    told = {**facts(self.request), "value": value}
    shop.note(self.request, value=told)
    return told


@app.task(bind=True, name="shop.noted", ignore_result=True)
def noted(self: Any, *values: Any) -> None:
    shop.note(self.request, value={**facts(self.request), "values": [str(value) for value in values]})


@app.task(bind=True, name="shop.flaky", max_retries=5)
def flaky(self: Any, failures: int, countdown: float) -> int:
    """Fail so many times, each time to be retried after *countdown*."""
    shop.note(self.request, value=facts(self.request))
    if self.request.retries < failures:
        raise self.retry(countdown=countdown)
    return int(self.request.retries)


@app.task(bind=True, name="shop.broken")
def broken(self: Any) -> None:
    raise ValueError("as planned")
