"""Templates: what one-time tasks of one kind have in common stands in Redis once, not a million times.

The messages of a task differ in little: ids, arguments, moments. So a record is cut in two as it is stored, and joined as it is read::

    whole     1 ⏎ mid ⏎ stored ⏎ last ⏎ name ⏎ task id ⏎ fingerprint ⏎ queue key ⏎ extra ⏎ message
    stored    1 ⏎ mid ⏎ stored ⏎ last ⏎ name ⏎ task id ⏎ id of the template ⏎ value ⏎ value ⏎ … ⏎ longest value
    template  fingerprint ⏎ queue key ⏎ extra ⏎ {"body": "␀K", … "headers": {"lang": "py", "id": "␀F", "root_id": "␀F", "tw_mid": "␀B", …

A mark is a NUL, which JSON text never holds, and a letter: ``B`` is the second line of the stored record, ``C`` the third, and so on. What
occurs twice stands once. ``#`` is the number that a message gets when it is handed over (``core/sequence.py``).

Any cut is right, as long as joining gives back what was cut, and that it does by the way it is made. How much is shared depends on what
becomes a mark: everything but the values in `OF_THE_KIND`. A header that differs from task to task then makes values, not a template for
each task. What has another form than an envelope is one value.

To look for the values of a message takes three times as long as to find them again between the pieces that an earlier one of its kind was
cut into, so the last shapes of each kind are tried first.

A template's id is a digest of its text, so all processes agree on it without asking.
"""

import re
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from celery_tw.core.sequence import HEADER, TEXT
from celery_tw.errors import StoreRefused

MID, STORED, LAST, NAME, TASK_ID, TEMPLATE = 2, 3, 4, 5, 6, 7
"""The lines of a stored record, counted from 1; the first is its schema version. Values follow."""

VALUES = TEMPLATE + 1
HEAD_LINES = TEMPLATE - 1
MOST_VALUES = 50
WORTH_SHARING = 16
"""Shorter values may be the same by chance: to share them would make a template for each pattern of chances."""

NEAR = 24
"""What stands between two values is not shared if it is as short as this: one value is found and joined faster than two."""

SHAPES_KEPT = 1000
"""Past so many in one process, messages of yet another shape are stored in one piece."""

TRIED = 4
MARK = b"\0"
EMPTY = (b"{}", b"[]")
NUMBER = b'"tw_seq": \0#'

OF_THE_KIND = (
    "body_encoding|compression|content-encoding|content-type|declare|delivery|delivery_info|delivery_mode|exchange|exchanges|headers|lang|lane|"
    "misfire|priority|properties|queue|replaced_task_nesting|retries|routing_key|task|timelimit|tw_lane"
)
"""The names whose values are the same for all tasks of a kind, or one of a few. They stand in the template."""

_TEXT = r'[^"\\]*(?:\\.[^"\\]*)*'
_FLAT = rf'[^"\[\]{{}}]*(?:"{_TEXT}"[^"\[\]{{}}]*)*'
_VALUE = re.compile(rf'"(?!(?:{OF_THE_KIND}|{HEADER})")[^"\\]*": ?(?:"({_TEXT})"|(-?\d[\d.eE+-]*|\[{_FLAT}\]|\{{{_FLAT}\}}))'.encode())
"""A name and its value: a text (without its quotes), a number, or a list or object with nothing nested in it."""


@dataclass(frozen=True, slots=True)
class Template:
    """A template's text and its id."""

    template_id: bytes
    text: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """A record that was cut: *rest* is what is stored of it from the line after the moment of storing, and refers to *template*."""

    template: Template
    rest: bytes


@dataclass(frozen=True, slots=True)
class _Shape:
    """The pieces of a template, to find the values of another message between them: *first*, then per mark its line and what follows it."""

    template: Template
    first: bytes
    steps: tuple[tuple[int, bytes, int], ...]
    lines: int
    numbers: int

    def values(self, body: bytes, head: tuple[bytes, bytes, bytes]) -> list[bytes] | None:
        """Return the values of *body*, if it has this shape and agrees with the lines of *head*: mid, name and task id."""
        if not body.startswith(self.first) or body.count(TEXT) != self.numbers:
            return None
        lines: list[bytes | None] = [None] * (self.lines + 1)
        lines[MID], lines[NAME], lines[TASK_ID] = head
        at, find = len(self.first), body.find
        for line, piece, length in self.steps:
            end = find(piece, at) if length else len(body)
            if end < 0:
                return None
            value, known = body[at:end], lines[line]
            if known is None:
                lines[line] = value
            elif known != value:
                return None
            at = end + length
        return lines[VALUES:] if at == len(body) else None  # type: ignore[return-value]


class Cutter:
    """Cuts records; remembers the shapes of what it has cut. For one process, any of its threads."""

    def __init__(self) -> None:
        self._recent: dict[bytes, tuple[_Shape, ...]] = {}
        self._shapes = 0

    def cut(self, mid: bytes, rest: bytes) -> Cut:
        """Cut the record of *mid*, given from the line after the moment of storing."""
        last, name, task_id, body = rest.split(b"\n", 3)
        template, values = self._cut(body, (mid, name, task_id))
        return Cut(template, b"\n".join((last, name, task_id, template.template_id, b"\n".join(values))))

    def _cut(self, body: bytes, head: tuple[bytes, bytes, bytes]) -> tuple[Template, list[bytes]]:
        fingerprint, queue_key, extra, message = body.split(b"\n", 3)
        kind = b"\n".join((fingerprint, queue_key, extra.rpartition(b'"task":')[2]))
        recent = self._recent.get(kind, ())
        for place, shape in enumerate(recent):
            values = shape.values(body, head)
            if values is not None:
                if place:
                    self._recent[kind] = (shape, *recent[:place], *recent[place + 1 :])
                return shape.template, values
        if MARK in fingerprint + queue_key:
            raise StoreRefused(f"a task for the queue key {queue_key!r} cannot wait: the name of a queue holds no NUL")
        begins = len(body) - len(message)
        known = self._shapes < SHAPES_KEPT and _is_envelope(message)
        spans = list(_spans(body, begins)) if known else []
        if not spans or len(spans) > MOST_VALUES:
            spans, known = [*_values_in(body, 0, begins), *_around_numbers(body, begins)], False
        shape, values = _shape(body, spans, head)
        if known:
            self._shapes += 1
            self._recent[kind] = (shape, *recent[: TRIED - 1])
        return shape.template, values


def _is_envelope(message: bytes) -> bool:
    return message.startswith(b'{"') and b"\n" not in message and MARK not in message


def _spans(body: bytes, begins: int) -> Iterator[tuple[int, int]]:
    """Yield where the values of *body* stand; its message *begins* after the third line."""
    yield from _values_in(body, 0, begins)
    yield from _values_in(body, begins, len(body))


def _values_in(body: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    for found in _VALUE.finditer(body, begin, end):
        first, last = found.span(found.lastindex or 0)
        if first < last and body[first:last] not in EMPTY:
            yield first, last


def _around_numbers(body: bytes, begins: int) -> Iterator[tuple[int, int]]:
    """Yield where a message stands as one value, or the parts of it before and after the mark of its number."""
    message = body[begins:]
    for part in [message] if b"\n" in message else message.split(TEXT):
        yield begins, begins + len(part)
        begins += len(part) + len(TEXT)


def _shape(body: bytes, spans: list[tuple[int, int]], head: tuple[bytes, bytes, bytes]) -> tuple[_Shape, list[bytes]]:
    """Return what *body* looks like without the *spans* that hold its values, and those.

    The longest comes last, unless one holds more than one line.
    """
    known = {line_text: line for line, line_text in zip((MID, NAME, TASK_ID), head, strict=True) if line_text}
    spans = _merged(body, spans, known.keys())
    values: list[bytes] = []
    lines = []
    for first, last in spans:
        value = body[first:last]
        line = known.get(value)
        if line is None:
            line = VALUES + len(values)
            values.append(value)
            if len(value) >= WORTH_SHARING:
                known[value] = line
        lines.append(line)
    end = max(range(len(values)), key=lambda index: (b"\n" in values[index], len(values[index])), default=0)
    values = [*values[:end], *values[end + 1 :], *values[end : end + 1]]
    lines = [_moved(line, VALUES + end, TEMPLATE + len(values)) for line in lines]
    pieces = [body[last:first] for (_, last), (first, _) in zip([(0, 0), *spans], [*spans, (len(body), 0)], strict=True)]
    text = pieces[0] + b"".join(MARK + letter_of(line) + piece for line, piece in zip(lines, pieces[1:], strict=True))
    text = text.replace(TEXT, NUMBER)
    steps = tuple((line, piece, len(piece)) for line, piece in zip(lines, pieces[1:], strict=True))
    return _Shape(Template(id_of(text), text), pieces[0], steps, TEMPLATE + len(values), body.count(TEXT)), values


def _merged(body: bytes, spans: list[tuple[int, int]], shared: Collection[bytes]) -> list[tuple[int, int]]:
    """Return *spans* with neighbours made one, but for values that stand somewhere else too."""
    values = Counter(body[first:last] for first, last in spans)
    merged: list[tuple[int, int]] = []
    alone = True
    for first, last in spans:
        value = body[first:last]
        before, alone = alone, value in shared or (values[value] > 1 and len(value) >= WORTH_SHARING)
        if before or alone or not _is_short(body[merged[-1][1] : first]):
            merged.append((first, last))
        else:
            merged[-1] = (merged[-1][0], last)
    return merged


def _is_short(between: bytes) -> bool:
    return len(between) <= NEAR and b"\n" not in between and TEXT not in between


def _moved(line: int, gap: int, last: int) -> int:
    """Return the number of a line after the one at *gap* has been moved to the end, *last*."""
    return last if line == gap else line - (line > gap)


def letter_of(line: int) -> bytes:
    """Return the letter that marks *line*."""
    return bytes((line + 64,))


def id_of(text: bytes) -> bytes:
    """Return the id of the template *text*: 12 characters of its digest."""
    return urlsafe_b64encode(blake2b(text, digest_size=9).digest())


def template_id_of(record: bytes) -> bytes | None:
    """Return the id of the template that a stored *record* refers to, None when it has none."""
    lines = record.split(b"\n", TEMPLATE)
    return lines[TEMPLATE - 1] if len(lines) > TEMPLATE else None


def join(record: bytes, template: bytes) -> bytes | None:
    """Return the whole of a stored *record*, without a number yet, None when it does not fit *template*."""
    lines = record.split(b"\n", TEMPLATE)
    if len(lines) <= TEMPLATE:
        return None
    head, rest = lines[:HEAD_LINES], lines[TEMPLATE]
    first, *pieces = template.replace(NUMBER, TEXT).split(MARK)
    if not all(pieces):
        return None
    last = max((piece[0] - 64 for piece in pieces), default=0)
    lines[TEMPLATE:] = rest.split(b"\n", last - VALUES) if last > VALUES else [rest]
    if last > len(lines) or any(piece[0] <= 64 for piece in pieces):
        return None
    message = first + b"".join(lines[piece[0] - 65] + piece[1:] for piece in pieces)
    return b"\n".join((*head, message))


def cut_record(whole: bytes) -> tuple[bytes, Cut]:
    """Return the first three lines of a *whole* record, and how the others are stored."""
    version, mid, stored, rest = whole.split(b"\n", 3)
    return b"%b\n%b\n%b\n" % (version, mid, stored), CUTTER.cut(mid, rest)


CUTTER = Cutter()
"""The one of this process."""
