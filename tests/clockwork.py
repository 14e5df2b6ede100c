"""Runs `carehub` by a clock that stands in a file: `SIMULATED_CLOCK=file python clockwork.py serve ...`.

Only for simulations. Nothing of this is in the service: what takes the present moment there takes it from the name
`datetime` of three modules, which is another one here. Timers of flags look every twentieth of a second.
"""

import mmap
import os
import struct
from datetime import datetime as real
from datetime import tzinfo
from pathlib import Path
from typing import Any

TIMERS = "timers of flags"


class Clock:
    """The seconds since 1970 that a file holds; whoever has the file open sees it move."""

    def __init__(self, path: Path, at: real | None = None) -> None:
        if at is not None:
            path.write_bytes(struct.pack("d", at.timestamp()))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)

    @property
    def now(self) -> float:
        seconds: float = struct.unpack("d", self._map[:8])[0]
        return seconds

    def set(self, at: real) -> None:
        self._map[:8] = struct.pack("d", at.timestamp())


def simulated(clock: Clock) -> Any:
    """A `datetime` that tells the time of *clock* and is the real one in everything else."""

    class Kind(type):
        def __instancecheck__(cls, one: object) -> bool:
            return isinstance(one, real)

        def __call__(cls, *values: Any, **named: Any) -> real:
            return real(*values, **named)

        def __getattr__(cls, name: str) -> Any:
            return getattr(real, name)

    class Simulated(metaclass=Kind):
        @staticmethod
        def now(zone: tzinfo | None = None) -> real:
            return real.fromtimestamp(clock.now, zone)

    return Simulated


def main() -> None:
    from dataclasses import replace

    from hub import app, cli, flows, hearing, upkeep

    clock = simulated(Clock(Path(os.environ["SIMULATED_CLOCK"])))
    for module in (flows, hearing, upkeep):
        module.datetime = clock  # type: ignore[attr-defined]
    chores = tuple(replace(one, interval=0.05) if one.name == TIMERS else one for one in upkeep.CHORES)
    assert chores != upkeep.CHORES
    upkeep.keep.__defaults__ = (chores,)
    assert app.upkeep is upkeep
    cli.main()


if __name__ == "__main__":
    main()
