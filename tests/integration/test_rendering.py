"""The two ways to a message, and that they lead to the same one."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any
from uuid import uuid4

import celery
import pytest
import redis
from celery import Celery, Task, chain, chord, group, signals
from celery.beat import BeatLazyFunc
from celery.utils.saferepr import saferepr
from hypothesis import given
from hypothesis import strategies as st
from kombu import Exchange, Queue
from kombu.transport.redis import Channel
from kombu.utils import json as kombu_json

from celery_tw.core.command import Command, Fire
from celery_tw.core.definition import Definition
from celery_tw.errors import RenderFailed
from celery_tw.integration.entries.static_entries import Static
from celery_tw.integration.messages.argument_repr import argument_repr
from celery_tw.integration.messages.celery_rendering import CeleryRendering
from celery_tw.integration.messages.rendering import Renderer
from celery_tw.integration.messages.templates import TemplateRendering
from tests.stock_worker import stock_worker
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]


queues_expire = pytest.mark.skipif(not hasattr(Channel, "_maybe_update_queues_expire"), reason="this kombu expires no Redis queues")


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    app = make_app()
    app.task(name="add", shared=False)(add)
    app.task(name="total", shared=False)(total)
    return app


def add(x: Any = 0, y: Any = 0, **named: Any) -> Any:
    return x + y


def total(numbers: list[int]) -> int:
    return sum(numbers)


def one(only: Any) -> Any:
    return only


def anything(**named: Any) -> None:
    """Take any arguments."""


def definition(task: str = "add", *args: Any, options: dict | None = None, name: str = "nightly", **kwargs: Any) -> Definition:
    signature = {"task": task, "args": list(args), "kwargs": kwargs, "options": options or {}, "subtask_type": None, "immutable": False}
    return Definition(name=name, signature=signature, schedule={"kind": "interval", "period_ms": 1000})


def canvas(signature: Any) -> Definition:
    return Definition(name="nightly", signature=kombu_json.loads(kombu_json.dumps(signature)), schedule={})


def fire(name: str = "nightly", slot_ms: int = 1_800_000_000_000) -> Fire:
    return Fire(str(uuid4()), slot_ms, name)


def envelope(command: Command) -> dict:
    return json.loads(command.payload)


def tag_of(command: Command) -> bytes:
    return envelope(command)["properties"]["delivery_tag"].encode()


PLAIN = [
    definition("add", 1, 2),
    definition("add"),
    definition("add", 1, name='quoted "näme"\\ ☃'),
    definition("add", "ünï☃\u2028\x00", [1, {"a": None}], tenant='it\'s "quoted"', flag=True, ratio=0.1),
    definition("add", "long" * 600, deep=[[[[[1]]]]]),
    definition("add", 1, options={"queue": "reports"}),
    definition("add", 1, options={"priority": 7}),
    definition("add", 1, options={"priority": 3, "queue": "reports", "time_limit": 5, "soft_time_limit": 4}),
    definition("add", 1, options={"headers": {"tenant": "ä"}, "ignore_result": True, "shadow": "sum"}),
    definition("add", 1, options={"delivery_mode": 1, "serializer": "json"}),
    definition("elsewhere.unregistered", 1),
    definition("add", datetime(2026, 1, 1, tzinfo=UTC)),
]


@pytest.mark.parametrize("plain", PLAIN, ids=lambda plain: f"{plain.name} {plain.signature['args']!r:.20} {plain.signature['options']}")
@pytest.mark.parametrize(
    "settings", [{}, {"task_routes": {"add": {"queue": "routed", "priority": 4}}, "task_ignore_result": True}], ids=["", "routed"]
)
def test_a_template_gives_byte_for_byte_what_celery_makes(plain: Definition, settings: dict, app: Celery) -> None:
    app.conf.update(settings)
    rendering, once = Renderer(app).prepare(plain), fire(plain.name)
    assert isinstance(rendering, TemplateRendering), rendering.reason
    (made,) = CeleryRendering(app, plain.signature, reason="").commands(once)
    (filled,) = rendering.commands(once)
    assert filled.key == made.key
    assert rendering.message(once, tag_of(made)) == made.payload
    assert filled.payload.replace(tag_of(filled), tag_of(made)) == made.payload


def test_entries_of_one_task_share_a_template_and_keep_their_own_arguments(app: Celery) -> None:
    renderer = Renderer(app)
    first, second = renderer.prepare(definition("add", 1)), renderer.prepare(definition("add", 2, name="other"))
    assert first.template is second.template
    (made,) = CeleryRendering(app, definition("add", 2).signature, reason="").commands(once := fire("other"))
    assert second.message(once, tag_of(made)) == made.payload


def test_the_message_says_which_fire_it_is(app: Celery) -> None:
    once = fire()
    (command,) = Renderer(app).prepare(definition("add", 1)).commands(once)
    headers = envelope(command)["headers"]
    assert headers["id"] == headers["root_id"] == headers["tw_mid"] == once.fire_id
    assert headers["tw_slot"] == once.slot_ms
    assert headers["celery_beat_task"] is True
    assert headers["periodic_task_name"] == "nightly"


def test_no_two_messages_share_a_delivery_tag(app: Celery) -> None:
    rendering, once = Renderer(app).prepare(definition("add", 1)), fire()
    assert len({tag_of(rendering.commands(once)[0]) for _ in range(1000)}) == 1000


def test_the_key_prefix_and_the_priority_are_in_the_key(make_app: MakeApp) -> None:
    app = make_app(broker_transport_options={"global_keyprefix": "shop:"})
    rendering = Renderer(app).prepare(definition("t", options={"priority": 4}))
    assert rendering.path == "template"
    assert rendering.commands(fire())[0].key == b"shop:celery\x06\x163"


def test_a_stock_worker_runs_what_was_rendered(app: Celery, redis_client: redis.Redis) -> None:
    ran: list[tuple] = []

    @app.task(name="note", shared=False, bind=True)
    def note(self: Task, *args: Any, **kwargs: Any) -> None:
        ran.append((self.request.id, args, kwargs, self.request.headers["tw_slot"]))

    once = fire()
    (command,) = Renderer(app).prepare(definition("note", "ü", [1], key=None)).commands(once)
    redis_client.lpush(command.key, command.payload)
    with stock_worker(app):
        wait_until(lambda: ran)
    assert ran == [(once.fire_id, ("ü", [1]), {"key": None}, once.slot_ms)]


@pytest.mark.parametrize("option", ["expires", "countdown", "eta", "link", "chord", "compression", "task_id", "made_up"])
def test_an_option_that_is_not_plain_goes_through_celery(option: str, app: Celery) -> None:
    rendering = Renderer(app).prepare(definition("add", 1, options={option: 1}))
    assert (rendering.path, rendering.reason) == ("celery", f"it has the option {option!r}")


@contextmanager
def receiver(signal: Any) -> Iterator[list]:
    heard: list = []

    def listen(**facts: Any) -> None:
        heard.append(facts["sender"])

    signal.connect(listen)
    try:
        yield heard
    finally:
        signal.disconnect(listen)


@pytest.fixture(autouse=True)
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers that other tests or plug-ins left on the publish signals would decide the path of every rendering here."""
    for signal in (signals.before_task_publish, signals.after_task_publish):
        monkeypatch.setattr(signal, "receivers", [])
        signal.sender_receivers_cache.clear()


@pytest.mark.skipif(celery.VERSION[:3] < (5, 5, 3), reason="this Celery's signals may remember that a sender had no receivers")
@pytest.mark.parametrize("signal", [signals.before_task_publish, signals.after_task_publish])
def test_a_receiver_of_a_publish_signal_hears_of_each_fire(signal: Any, app: Celery) -> None:
    renderer = Renderer(app)
    before = renderer.fingerprint()
    with receiver(signal) as heard:
        assert renderer.fingerprint() != before
        rendering = renderer.prepare(definition("add", 1))
        assert "has receivers" in rendering.reason
        rendering.commands(fire())
        assert heard == ["add"]
    assert renderer.prepare(definition("add", 1)).path == "template"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"task_send_sent_event": True}, "task_send_sent_event"),
        ({"task_routes": [lambda *args, **options: None]}, "a function"),
        ({"task_protocol": 1}, "task_protocol"),
        ({"task_serializer": "pickle"}, "not plain JSON"),
        ({"task_compression": "zlib"}, "not plain JSON"),
        ({"task_queues": [Queue("celery", Exchange("t", type="topic"), routing_key="#")]}, "the exchange 't'"),
        pytest.param({"task_queues": [Queue("celery", expires=60)]}, "more than one push", marks=queues_expire),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_settings_that_want_celery_asked_each_time(settings: dict, reason: str, make_app: MakeApp) -> None:
    rendering = Renderer(make_app(**settings)).prepare(definition("t", 1))
    assert rendering.path == "celery"
    assert reason in rendering.reason
    assert rendering.commands(fire())


def test_a_task_that_overrides_apply_async_is_sent_by_its_own_code(app: Celery) -> None:
    class Stamping(Task):
        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            return super().apply_async(args, {**(kwargs or {}), "stamped": True}, **options)

    app.task(name="stamp", shared=False, base=Stamping)(anything)
    rendering = Renderer(app).prepare(definition("stamp"))
    assert rendering.reason == "apply_async of its task is overridden"
    assert "stamped" in envelope(rendering.commands(fire())[0])["headers"]["kwargsrepr"]


@pytest.mark.parametrize("place", ["class", "instance"])
def test_a_patched_apply_async_sees_each_fire(place: str, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer, calls, original = Renderer(app), [], Task.apply_async
    assert renderer.prepare(definition("add", 1)).path == "template"

    @wraps(original)
    def traced(self: Task, *args: Any, **options: Any) -> Any:
        calls.append(self.name)
        return original(self, *args, **options)

    if place == "class":
        monkeypatch.setattr(Task, "apply_async", traced)
    else:
        monkeypatch.setattr(app, "send_task", wraps(app.send_task)(lambda *a, **o: calls.append(a[0]) or type(app).send_task(app, *a, **o)))
    rendering = renderer.prepare(definition("add", 1))
    assert rendering.path == "celery"
    rendering.commands(fire())
    assert calls == ["add"]


def test_the_fingerprint_stands_still_until_something_changes(app: Celery) -> None:
    renderer = Renderer(app)
    renderer.prepare(definition("add", 1))
    standing = renderer.fingerprint()
    renderer.prepare(definition("add", 1, options={"queue": "new"}))
    assert renderer.fingerprint() == standing
    app.conf.task_routes = {"add": {"queue": "elsewhere"}}
    changed = renderer.fingerprint()
    assert changed != standing


def test_changed_routes_make_new_templates(app: Celery) -> None:
    renderer = Renderer(app)
    assert renderer.prepare(definition("add", 1)).commands(fire())[0].key == b"celery"
    app.conf.update(task_routes={"add": {"queue": "elsewhere"}})
    assert renderer.prepare(definition("add", 1)).commands(fire())[0].key == b"elsewhere"


def test_expires_counts_from_each_fire_and_a_fixed_moment_stays(app: Celery) -> None:
    renderer = Renderer(app)
    relative = renderer.prepare(definition("add", 1, options={"expires": 60}))
    first, second = (envelope(relative.commands(fire())[0])["headers"]["expires"] for _ in range(2))
    assert datetime.fromisoformat(first) < datetime.fromisoformat(second)
    assert datetime.fromisoformat(second) - datetime.now(UTC) > timedelta(seconds=50)
    fixed = renderer.prepare(definition("add", 1, options={"expires": "2099-01-01T00:00:00+00:00"}))
    assert envelope(fixed.commands(fire())[0])["headers"]["expires"] == "2099-01-01T00:00:00+00:00"


def test_lazy_arguments_are_evaluated_for_each_fire(app: Celery) -> None:
    numbers = iter(range(10))
    static = Static("nightly", "add", None, (BeatLazyFunc(lambda: next(numbers)),), {"y": BeatLazyFunc(lambda: 7)}, {}, {})
    rendering = Renderer(app).prepare(definition("add", "<computed>"), static=static)
    shown = [envelope(rendering.commands(fire())[0])["headers"] for _ in range(2)]
    assert [headers["argsrepr"] for headers in shown] == ["[0]", "[1]"]
    assert shown[0]["kwargsrepr"] == "{'y': 7}"


def test_neither_way_changes_what_is_stored(app: Celery) -> None:
    for options in ({"headers": {"a": "b"}}, {"headers": {"a": "b"}, "expires": 5}):
        stored = definition("add", 1, options=options)
        before = json.dumps(stored.signature)
        rendering = Renderer(app).prepare(stored)
        rendering.commands(fire())
        rendering.commands(fire())
        assert json.dumps(stored.signature) == before


def test_arguments_that_do_not_fit_are_refused_with_the_entry_and_the_cause(app: Celery) -> None:
    app.task(name="one", shared=False)(one)
    with pytest.raises(RenderFailed, match="'nightly'.*TypeError"):
        Renderer(app).prepare(definition("one", 1, 2))
    with pytest.raises(RenderFailed, match="'nightly'.*TypeError"):
        Renderer(app).prepare(definition("one", 1, 2, options={"expires": 5})).commands(fire())


def test_a_message_without_a_queue_is_refused(make_app: MakeApp) -> None:
    app = make_app()
    rendering = Renderer(app).prepare(definition("t", options={"exchange": "nowhere", "routing_key": "x", "exchange_type": "topic"}))
    with pytest.raises(RenderFailed, match="no queue is bound"):
        rendering.commands(fire())


def test_an_eager_app_is_refused(app: Celery) -> None:
    app.conf.task_always_eager = True
    with pytest.raises(RenderFailed, match="task_always_eager"):
        Renderer(app).prepare(definition("add", 1)).commands(fire())


def ids(commands: list[Command]) -> list[str]:
    return sorted(envelope(command)["headers"]["id"] for command in commands)


def whole(commands: list[Command]) -> list[str]:
    """Return the messages with nothing left out but their delivery tags."""
    texts = []
    for command in commands:
        message = kombu_json.loads(command.payload)
        message["properties"].pop("delivery_tag")
        texts.append(json.dumps(message, sort_keys=True))
    return texts


CANVASES = {
    "chain": lambda app: chain(app.tasks["add"].s(1), app.tasks["add"].s(2), app=app),
    "group": lambda app: group([app.tasks["add"].s(1), app.tasks["add"].s(2)], app=app),
    "chord": lambda app: chord([app.tasks["add"].s(1), app.tasks["add"].s(2)], app.tasks["total"].s(), app=app),
    "upgraded chord": lambda app: chain(group([app.tasks["add"].s(1), app.tasks["add"].s(2)]), app.tasks["total"].s(), app=app),
    "nested": lambda app: group(
        [
            chain(app.tasks["add"].s(1), group([app.tasks["add"].s(2), app.tasks["add"].s(3)]), app.tasks["total"].s()),
            chord([app.tasks["add"].s(4)], chain(app.tasks["total"].s(), app.tasks["add"].s(5))),
        ],
        app=app,
    ),
}


HELD_TOGETHER_BY_CELERY = ("upgraded chord", "nested")
"""Canvases with a chord inside another canvas: Celery gives its group a random id. It names no task."""


@pytest.mark.parametrize("kind", CANVASES)
def test_a_canvas_rendered_twice_for_one_fire_makes_the_same_messages(kind: str, app: Celery) -> None:
    rendering = Renderer(app).prepare(canvas(CANVASES[kind](app)))
    assert rendering.reason == "it is a canvas"
    once = fire()
    first, again, other = rendering.commands(once), rendering.commands(once), rendering.commands(fire())
    assert ids(first) == ids(again)
    if kind not in HELD_TOGETHER_BY_CELERY:
        assert whole(first) == whole(again)
    assert len(ids(first)) == len(set(ids(first)))
    assert not set(ids(first)) & set(ids(other))


def test_each_task_of_a_canvas_is_a_send_of_its_own_and_keeps_the_canvas_headers(app: Celery) -> None:
    both = group([app.tasks["add"].s(1).set(headers={"own": 1}), app.tasks["add"].s(2)], app=app).set(headers={"tenant": "a"})
    for command in Renderer(app).prepare(canvas(both)).commands(once := fire()):
        headers = envelope(command)["headers"]
        assert headers["tw_mid"] == headers["id"] != once.fire_id
        assert headers["tw_slot"] == once.slot_ms
        assert headers["tenant"] == "a"
        assert headers["periodic_task_name"] == "nightly"


def test_a_stock_worker_completes_a_rendered_chord(app: Celery, redis_client: redis.Redis) -> None:
    numbers: list[int] = []

    @app.task(name="collect", shared=False)
    def collect(found: list[int]) -> None:
        numbers.append(sum(found))

    stored = canvas(chord([app.tasks["add"].s(1), app.tasks["add"].s(2)], app.signature("collect"), app=app))
    for command in Renderer(app).prepare(stored).commands(fire()):
        redis_client.lpush(command.key, command.payload)
    with stock_worker(app):
        wait_until(lambda: numbers)
    assert numbers == [3]


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.binary(max_size=5)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4) | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(value=values, size=st.integers(10, 200), levels=st.sampled_from([None, 1, 2, 3]))
def test_arguments_are_shown_exactly_as_celery_shows_them(value: Any, size: int, levels: int | None) -> None:
    assert argument_repr(value, size=size, levels=levels) == saferepr(value, size, maxlevels=levels)
