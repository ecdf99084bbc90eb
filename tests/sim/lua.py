"""Lua: the runtime in which fakeredis runs our scripts, without what is the same at each call.

fakeredis compiles a script whenever it is called, collects all garbage after it, and before each command of a script lists all global
variables to see whether the script has made one. Here a text is compiled once, as on a real server, garbage is collected when Lua finds it
is time, and a variable that is made says so itself; then all are listed. The words of a script's call, a hundred and more, are not looked
at one by one either: they are bytes, and keys are read when the script asks for them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fakeredis import _msgs as msgs
from fakeredis._commands import SUPPORTED_COMMANDS, Signature
from fakeredis.commands_mixins import scripting_mixin

LUA = scripting_mixin.LUA_MODULE
COLLECT = "collectgarbage()"
WATCHED = """
function(made)
  setmetatable(_G, {__newindex = function(globals, name, value)
    made()
    rawset(globals, name, value)
  end})
end
"""


class Runtime:
    """Stands in for a ``LuaRuntime``, as far as fakeredis uses one."""

    def __init__(self, **options: Any) -> None:
        self._lua = LUA.LuaRuntime(**options)
        self._compiled: dict[bytes, Any] = {}
        self._made = False
        self.eval = self._lua.eval
        self.table_from = self._lua.table_from
        self._lua.eval(WATCHED)(self._make)

    def execute(self, text: Any) -> Any:
        """Run *text*; what compiles is kept."""
        if text == COLLECT:
            return None
        run = self._compiled.get(text)
        if run is None:
            run = self._compiled[text] = self._lua.compile(text)
        return run()

    def globals(self) -> Any:
        """Return all global variables if one has been made since they were last asked for, else none: there is no other than then."""
        made, self._made = self._made, False
        return self._lua.globals() if made else {}

    def _make(self) -> None:
        self._made = True


class _Module:
    """Stands in for the module ``lupa.lua51``: our runtime, and the module's other names."""

    LuaRuntime = Runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(LUA, name)


class _ScriptCall(Signature):
    """Stands in for what fakeredis knows of EVALSHA."""

    def apply(self, args: Sequence[Any], db: Any, version: Any) -> Any:
        """Return the arguments for fakeredis's ``evalsha``, and the keys that are read before it: none."""
        self.check_arity(args, version)
        digest, count, *rest = args
        return [digest, int(count), *rest], []


@contextmanager
def quick_scripts() -> Iterator[None]:
    """Let the servers that run their first script meanwhile have our runtime, and all take its words as they are."""
    call = SUPPORTED_COMMANDS["evalsha"]
    scripting_mixin.LUA_MODULE = _Module()
    SUPPORTED_COMMANDS["evalsha"] = _ScriptCall(call.name, call.func_name, call.fixed, call.repeat, call.command_args, msgs.FLAG_NO_SCRIPT)
    try:
        yield
    finally:
        scripting_mixin.LUA_MODULE = LUA
        SUPPORTED_COMMANDS["evalsha"] = call
