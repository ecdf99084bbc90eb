"""Reach: which modules the imports of a test lead to, at any remove.

A test that does not reach a module never runs a line of it, so it cannot notice a mutant there and need not be asked. What a package's
``__init__`` imports counts for those who import from the package itself: every import of a module runs it, but nothing in it is used.
"""

import ast
from functools import cache
from pathlib import Path

OURS = ("celery_tw", "tests")


def reached_from(path: Path, root: Path) -> set[str]:
    """Return the names of our modules, and of what is taken from them, that the imports of the file at *path* lead to."""
    reached: set[str] = set()
    to_read = [path]
    while to_read:
        for name in _imported_by(to_read.pop()) - reached:
            reached.add(name)
            place = root / name.replace(".", "/")
            to_read += [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists()]
    return reached


@cache
def _imported_by(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update((str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)))
    return frozenset(name for name in names if name.split(".")[0] in OURS)
