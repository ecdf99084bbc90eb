"""Send task: the function that takes the place of an app's ``send_task``.

It takes what Celery's own takes, by place or by name, and two words of ours: ``tw_defer`` and ``lane``. Celery's own is looked up at each
call, so that what error trackers and tracers put in its place counts, whenever they do.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_tw.integration.deferring.deferral import Deferral

# fmt: off
FURTHER = (
    "countdown", "eta", "task_id", "producer", "connection", "router", "result_cls", "expires", "publisher", "link", "link_error",
    "add_to_parent", "group_id", "group_index", "retries", "chord", "reply_to", "time_limit", "soft_time_limit", "root_id",
    "parent_id", "route_name", "shadow", "chain", "task_type", "replaced_task_nesting",
)
# fmt: on
"""The parameters of Celery's ``send_task`` after ``name``, ``args`` and ``kwargs``, in their order."""


def replacement(app: Any, deferral: "Deferral") -> Callable[..., Any]:
    """Return the function that takes the place of ``app.send_task``; its ``replaces`` is what somebody had put there before, or None."""
    before = vars(app).get("send_task")

    def original(name: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Any:
        if before is not None:
            return before(name, args, kwargs, **options)
        return type(app).send_task(app, name, args, kwargs, **options)

    # Python holds each option of a call against the names of all parameters before it takes it for a further one: so there are none here.
    def send_task(*given: Any, **options: Any) -> Any:
        """Send a task by name; see `Celery.send_task`. *tw_defer* is False for a task that is to have Celery's own ETA.

        *lane* is high, medium or low; raises `InvalidLane` for anything else.
        """
        name, args, kwargs = given if len(given) == 3 else _leading(given, options)
        way = deferral.way(name, args, kwargs, options)
        if way is None:
            return original(name, args, kwargs, options)
        with app.producer_or_acquire(_taken_producer(app, options)) as real:
            return original(name, args, kwargs, {**options, "producer": deferral.stand_in(real, way)})

    send_task.replaces = before  # type: ignore[attr-defined]
    return send_task


def _leading(given: Sequence[Any], options: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return name, args and kwargs of a call, and put what else is *given* by place into *options*; raises TypeError as a call would."""

    def send_task(name: Any, args: Any = None, kwargs: Any = None, *further: Any, **named: Any) -> tuple[Any, Any, Any]:
        if len(further) > len(FURTHER):
            raise TypeError(f"send_task() takes at most {3 + len(FURTHER)} arguments by place, got {3 + len(further)}")
        options.clear()
        options.update(**dict(zip(FURTHER, further, strict=False)), **named)
        return name, args, kwargs

    return send_task(*given, **options)


def _taken_producer(app: Any, options: dict[str, Any]) -> Any:
    """Return the producer that the caller brings, if any, and take it out of *options*."""
    connection, producer, publisher = (options.pop(name, None) for name in ("connection", "producer", "publisher"))
    return app.amqp.Producer(connection, auto_declare=False) if connection else producer or publisher
