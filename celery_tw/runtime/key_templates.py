"""Key templates: ``lock="import:{account}"`` becomes a key from the arguments that a task is called with.

``{account}`` and ``{0}`` mean the same argument and give the same key, however it was passed. A template is checked against the signature
of the task when the task is made known, not when the first message comes.
"""

import inspect
import string
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

LONGEST = 200


class KeyTemplate:
    """One template of one function; raises `ValueError` when it names an argument that the function does not have."""

    def __init__(self, text: str, function: Callable[..., Any]) -> None:
        self.text = text
        self._signature = inspect.signature(function)
        self._names = list(self._signature.parameters)
        self._check()

    def _check(self) -> None:
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(self.text) if name is not None]
        except ValueError as error:
            raise ValueError(f"{self.text!r} is no template: {error}") from error
        takes_any = any(each.kind is each.VAR_KEYWORD for each in self._signature.parameters.values())
        for field in fields:
            root = _root(field)
            known = int(root) < len(self._names) if root.isdigit() else root in self._names or (takes_any and root)
            if not known:
                raise ValueError(f"{self.text!r} names the argument {root!r}: expected one of {', '.join(self._names) or '(none)'}")

    def fill(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Return the key for these arguments; raises `TypeError` when the function cannot be called with them."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values = dict(bound.arguments)
        for parameter in self._signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                values.update(values.pop(parameter.name, {}))
        by_position = [values.get(name) for name in self._names]
        return short(self.text.format(*by_position, **values))


def short(key: str) -> str:
    """Return *key*, or its beginning with a digest of the whole when it is long."""
    if len(key) <= LONGEST:
        return key
    return f"{key[:100]}#{blake2b(key.encode(), digest_size=16).hexdigest()}"


def _root(field: str) -> str:
    return field.replace("[", ".").partition(".")[0]
