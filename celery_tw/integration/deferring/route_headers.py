"""Route headers: whether ``task_routes`` may add headers to a message.

Celery takes the headers of a route only for a call that brings none. So where a route may have some, our own headers must not be among the
options of the call: they are put into the message when it is published.
"""

from collections.abc import Mapping
from typing import Any

from celery.app.routes import MapRoute


class RouteHeaders:
    """What is known of an app's router; it is asked again when the router has been replaced."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._router: Any = None
        self._possible = False

    def possible(self) -> bool:
        """Return whether a route may give headers: one that names them, or one that is a function."""
        router = _kept_router(self._app)
        if router is None or router is not self._router:
            router = self._app.amqp.router
            self._possible = any(_may_give_headers(route) for route in router.routes)
            self._router = router
        return self._possible


def _kept_router(app: Any) -> Any:
    """Return the router that *app* has, None before it has one; it is looked up where it is kept, for to ask the app takes two locks."""
    amqp = vars(app).get("amqp")
    return None if amqp is None else vars(amqp).get("router")


def _may_give_headers(router: Any) -> bool:
    if not isinstance(router, MapRoute):
        return True
    routes = [*router.map.values(), *router.patterns.values()]
    return any("headers" in (route if isinstance(route, Mapping) else ()) for route in routes)


class MarkingProducer:
    """Stands for the producer *real* during one send, and puts *headers* into the first message, which is the task."""

    def __init__(self, real: Any, headers: Mapping[str, Any]) -> None:
        self._real = real
        self._headers = headers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def publish(self, body: Any, **options: Any) -> Any:
        """Publish what Celery publishes, the task with our headers."""
        options["headers"] = {**(options.get("headers") or {}), **self._headers}
        self._headers = {}
        return self._real.publish(body, **options)
