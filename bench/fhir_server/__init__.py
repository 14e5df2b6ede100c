"""The FHIR server's figures (`make bench`): writes, reads, searches with their plans, bundles, validation, export."""

from collections.abc import Sequence
from pathlib import Path

from bench.fhir_server import export, searches, writes
from bench.fhir_server.place import place
from bench.measures import Row
from bench.setting import say

NAMES = ("validation", "search", "read", "crud", "bundles", "export")


async def measured(
    sizes: Sequence[int], seconds: float, workers: int, wanted: set[str], synthea: Path | None
) -> tuple[list[Row], float]:
    """The rows of those of NAMES that are *wanted* (none: all), and the most megabytes that a process came to hold.

    Searches are measured at each of *sizes* (Observations), the rest at the largest.
    """

    def asked(name: str) -> bool:
        return not wanted or name in wanted

    rows: list[Row] = []
    largest = 0.0

    def done(row: Row) -> None:
        nonlocal largest
        say(f"{row.work}: {row.figure}; {row.ceiling} {row.ratio}")
        rows.append(row)
        largest = max(largest, here.setting.memory())

    if asked("validation"):
        rows.append(export.validated(min(seconds, 3)))
    if wanted and not wanted & set(NAMES[1:]):
        return rows, largest
    async with place(workers) as here:
        taken: dict[str, list[searches.Taken]] = {}
        for size in sorted(sizes) if asked("search") else [max(sizes)]:
            await here.grow(size)
            for family in searches.FAMILIES if asked("search") else ():
                taken.setdefault(family.name, []).append(await searches.at_size(here, family, seconds / 5))
        for family in searches.FAMILIES if asked("search") else ():
            done(searches.row(family, taken[family.name]))
        if asked("read"):
            done(await writes.read(here, seconds / 2))
        if asked("crud"):
            done(await writes.mixed(here, seconds))
        if asked("bundles") and synthea is not None:
            done(await writes.bundles(here, synthea))
        if asked("export"):
            done(await export.export(here))
    return rows, largest
