"""Processor time of the service and of PostgreSQL: it says what work costs, whatever else the machine is doing."""

import os
from pathlib import Path

from bench.setting import Setting, family

TICK = os.sysconf("SC_CLK_TCK")


class Processor:
    """From the moment it is made."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._before = self._now()

    def each(self, count: int) -> str:
        """Of one of *count* requests since then."""
        service, postgres = (now - before for now, before in zip(self._now(), self._before, strict=True))
        return f"{service / count * 1000:.2f} + {postgres / count * 1000:.2f} ms"

    def _now(self) -> tuple[float, float]:
        return spent(self._setting.service.pid), spent(self._setting.postmaster)


def spent(pid: int) -> float:
    """Seconds of a process and its descendants, those that have ended included."""
    return sum(_ticks(one, 4) for one in family(pid)) / TICK


def own(pid: int) -> float:
    """Seconds of a process alone."""
    return _ticks(pid, 2) / TICK


def _ticks(pid: int, fields: int) -> int:
    """User and system time; of four fields also what ended children took."""
    try:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # ended meanwhile
    return sum(int(field) for field in found[11 : 11 + fields])
