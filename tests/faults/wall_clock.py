"""WallClock: the wall clock of single processes, shifted while they run; their monotonic clocks go on undisturbed, as on a host whose time
is set. It is a small library that the loader puts before the C library's, compiled when it is first needed."""

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("wall_clock.c")


def why_no_shifted_clocks() -> str | None:
    """Return why clocks cannot be shifted here, or None."""
    return None if shutil.which("gcc") else "gcc is not on PATH, which compiles the library that shifts clocks"


class WallClock:
    """One clock; the processes started with its *environment* follow it. *folder* holds the library and the offset."""

    def __init__(self, folder: Path, name: str = "wall") -> None:
        self.library = folder / "wall_clock.so"
        self.file = folder / f"{name}.offset"
        self.offset_ms = 0
        if not self.library.exists():
            subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", self.library, SOURCE], check=True)
        self.file.write_bytes(struct.pack("=q", 0))

    @property
    def environment(self) -> Mapping[str, str]:
        return {"LD_PRELOAD": str(self.library), "TW_WALL_OFFSET": str(self.file)}

    def shift(self, ms: int) -> None:
        """Set the clock that many ms from where it is."""
        self.offset_ms += ms
        with self.file.open("r+b") as file:
            file.write(struct.pack("=q", self.offset_ms * 1_000_000))
