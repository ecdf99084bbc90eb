"""Trial: the tests against one mutant, in a child process that is forked from one in which all libraries are loaded already.

The child imports the module under test from the changed tree and everything else as it stands, runs the tests up to the first failure and
exits with pytest's status. Hypothesis draws the same examples each time, so a result can be repeated. A mutant that hangs, is noticed.
"""

import importlib.util
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType

import pytest

from tests.mutation.mutants import Mutant, plant

NOTICED, SURVIVED, HUNG = "noticed", "survived", "hung"
_OPTIONS = ("-x", "-q", "--no-header", "--hypothesis-seed=0", "-p", "no:randomly", "-p", "no:cacheprovider")
_LOADED_BEFORE = ("-W", "ignore::pytest.PytestAssertRewriteWarning")


class _Loader(SourceFileLoader):
    """Loads one module from the changed tree."""

    def __init__(self, name: str, path: Path, mutant: Mutant) -> None:
        super().__init__(name, str(path))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(plant(Path(self.path).read_text(), self._mutant), self.path, "exec")


class _Finder:
    """Finds that one module, and leaves all others to Python."""

    def __init__(self, name: str, path: Path, mutant: Mutant) -> None:
        self._name, self._path, self._mutant = name, path, mutant

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=_Loader(name, self._path, self._mutant))


def try_mutant(module: str, path: Path, mutant: Mutant | None, tests: Sequence[str], *, timeout_s: float) -> str:
    """Return what became of *mutant* (None: the module as it stands)."""
    child = os.fork()
    if child == 0:
        # Should this process end before the child does, a mutant that loops ends by itself.
        resource.setrlimit(resource.RLIMIT_CPU, (int(timeout_s) + 5,) * 2)
        _run(module, path, mutant, tests)
    return _await(child, timeout_s)


def _run(module: str, path: Path, mutant: Mutant | None, tests: Sequence[str]) -> None:
    status = 1
    try:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        if mutant is not None:
            sys.meta_path.insert(0, _Finder(module, path, mutant))  # type: ignore[arg-type]
        status = pytest.main([*tests, *_OPTIONS, *_LOADED_BEFORE])
    finally:
        os._exit(int(status))


def _await(child: int, timeout_s: float) -> str:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return _verdict(os.waitstatus_to_exitcode(status))
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return HUNG


def _verdict(status: int) -> str:
    """Return what the child's exit status says; the tests pass without the mutant, so whatever else comes of it is its doing."""
    return SURVIVED if status == 0 else NOTICED
