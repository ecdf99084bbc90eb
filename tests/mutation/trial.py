"""Trial: the tests against one mutant, in a child process that is forked from one in which all libraries are loaded already.

The child imports the module under test from the changed tree and everything else as it stands, runs the tests up to the first failure and
exits with pytest's status. It has only the plug-ins of pytest that the tests need. Hypothesis draws the same examples each time and keeps
none, so a result can be repeated; it does not look for simpler ones. A mutant that hangs, is noticed: that is judged by the time that a
test computes, so that a busy machine makes nobody hang, and for those that wait by the time that passes.
"""

import contextlib
import importlib.util
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType

import pytest
from hypothesis import Phase, settings

from tests.mutation.mutants import Mutant, plant

NOTICED, SURVIVED, HUNG = "noticed", "survived", "hung"
_OPTIONS = ("-x", "-q", "--no-header", "--hypothesis-seed=0", "--hypothesis-profile=trial", "-p", "no:cacheprovider")
_PLUGINS = ("-p", "_hypothesis_pytestplugin", "-p", "pytest_timeout", "-p", "xdist")
_LOADED_BEFORE = ("-W", "ignore::pytest.PytestAssertRewriteWarning")

settings.register_profile("trial", database=None, deadline=None, phases=(Phase.explicit, Phase.generate))


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a mutant, and how many seconds passed."""

    result: str
    passed_s: float


class _Limit:
    """Ends the process when one test, or the way to the first, computes for more than *most_cpu_s*: also when nobody waits for it."""

    def __init__(self, most_cpu_s: int) -> None:
        self._most_cpu_s = most_cpu_s
        self.pytest_runtest_setup()

    def pytest_runtest_setup(self) -> None:
        until_s = int(time.process_time()) + self._most_cpu_s
        resource.setrlimit(resource.RLIMIT_CPU, (until_s, resource.RLIM_INFINITY))


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


def try_mutant(module: str, path: Path, mutant: Mutant | None, tests: Sequence[str], *, most_s: float, most_cpu_s: int) -> Trial:
    """Return what became of *mutant* (None: the module as it stands).

    It hangs when more than *most_s* pass, or when one test computes for more than *most_cpu_s*.
    """
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(module, path, mutant, tests, most_cpu_s)
    return _await(child, started, most_s)


def _run(module: str, path: Path, mutant: Mutant | None, tests: Sequence[str], most_cpu_s: int) -> None:
    status = 1
    try:
        os.setsid()
        limit = _Limit(most_cpu_s)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        if mutant is not None:
            sys.meta_path.insert(0, _Finder(module, path, mutant))  # type: ignore[arg-type]
        status = pytest.main([*tests, *_OPTIONS, *_PLUGINS, *_LOADED_BEFORE], plugins=[limit])
    finally:
        os._exit(int(status))


def _await(child: int, started: float, most_s: float) -> Trial:
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        passed_s = time.monotonic() - started
        if ended:
            _end_group(child)
            return Trial(_verdict(os.waitstatus_to_exitcode(status)), passed_s)
        if passed_s > most_s:
            _end_group(child)
            os.waitpid(child, 0)
            return Trial(HUNG, passed_s)
        time.sleep(0.02)


def _end_group(child: int) -> None:
    """End what the child has left, its servers, and the child if it is there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


def _verdict(status: int) -> str:
    """Return what the child's exit status says; the tests pass without the mutant, so whatever else comes of it is its doing."""
    if status == 0:
        return SURVIVED
    return HUNG if status == -signal.SIGXCPU else NOTICED
