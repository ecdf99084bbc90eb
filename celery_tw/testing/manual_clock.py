"""Manual clock: time that moves only when a test says so."""


class ManualClock:
    """Boot time and wall time in ms, set by hand; the wall clock may step apart from boot time."""

    def __init__(self, *, boot_ms: int = 1_000_000, wall_ms: int = 1_800_000_000_000) -> None:
        self._boot_ms = boot_ms
        self._wall_ms = wall_ms

    def boot_ms(self) -> int:
        return self._boot_ms

    def wall_ms(self) -> int:
        return self._wall_ms

    def advance(self, ms: int) -> None:
        """Let *ms* pass on both clocks."""
        self._boot_ms += ms
        self._wall_ms += ms

    def step_wall(self, ms: int) -> None:
        """Set the wall clock forward, or back, without any time passing."""
        self._wall_ms += ms
