"""Up to where the record is settled: below it no version can appear any more, so a position may move past it.

Versions are numbered when they are written and seen when their transaction commits, in another order. Whoever writes a
version holds a lock on the table from before it is numbered until after it can be seen. So once everybody who held that
lock when the newest number was read has let go, every version up to that number is there, or never will be. Nothing is
asked of the writers.
"""

from fhir.store import Connection

NEWEST = "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM resource_version_seq"
_WRITERS = """
SELECT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND relation = 'resource_version'::regclass AND mode = 'RowExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()
"""


class Horizon:
    """Moves on as it is asked, twice a second or so; a writer that takes long holds it back, and loses nothing."""

    def __init__(self) -> None:
        self.settled = 0
        self._newest = 0
        self._waiting_for: frozenset[str] = frozenset()

    async def look(self, pg: Connection) -> int:
        """The `seq` up to which the record is settled. *pg* must be in no transaction, so that each look is fresh."""
        if self._waiting_for:
            self._waiting_for &= await _writers(pg)
            if self._waiting_for:
                return self.settled
            self.settled = self._newest
        # The number first: whoever took a lower one held the lock by then, and holds it still or is done.
        self._newest = await _newest(pg)
        self._waiting_for = await _writers(pg)
        if not self._waiting_for:
            self.settled = self._newest
        return self.settled


async def _writers(pg: Connection) -> frozenset[str]:
    rows = await pg.execute(_WRITERS)
    return frozenset(row[0] for row in await rows.fetchall())


async def _newest(pg: Connection) -> int:
    row = await (await pg.execute(NEWEST)).fetchone()
    assert row is not None
    return int(row[0])
