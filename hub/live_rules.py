"""The live rules of all hubs, at hand in each process that evaluates: asked of the database when it says that one went
live or was retired, never with a reading.

A process that hears from the database keeps them until it is told; one that does not (a command, an import) asks anew
after `REMEMBERED` seconds.
"""

import time
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from hub.db import Database, Tx
from monitoring import rule_projection
from monitoring.in_force import RulesInForce

REMEMBERED = 2.0
WHILE_TOLD = 300.0
"""Seconds; also while it is told, since a rule that nobody evaluates is worse than a look in five minutes."""

UNSURE = 20.0
"""Seconds, more than a transaction may take: while one that writes rules is open, what others of this process read may
be what it wrote, and must not be kept if it is rolled back."""


@dataclass(slots=True)
class _Known:
    rules: RulesInForce | None = None
    until: float = 0.0
    lasting: float = REMEMBERED
    changes: int = 0
    unsure: float = 0.0


_databases: WeakKeyDictionary[Database, _Known] = WeakKeyDictionary()


async def current(tx: Tx) -> RulesInForce:
    """The rules in force, as far as this process knows; asked of *tx* when it must ask."""
    known = _of(tx)
    now = time.monotonic()
    if known.rules is not None and known.until > now:
        return known.rules
    before = known.changes
    found = await rule_projection.load(tx.pg)
    if before == known.changes and known.unsure < now:  # else one changed meanwhile: the next asks again
        known.rules, known.until = found, now + known.lasting
    return found


def changed(database: Database, listening: bool) -> None:
    """A rule, or whom one watches, may have changed. *listening*: the next time will be told, too."""
    known = _databases.setdefault(database, _Known())
    known.changes += 1
    known.rules = None
    known.lasting = WHILE_TOLD if listening else REMEMBERED


def writing(tx: Tx) -> None:
    """*tx* writes rules, and may yet be rolled back."""
    known = _of(tx)
    known.changes += 1
    known.rules = None
    known.unsure = time.monotonic() + UNSURE


def _of(tx: Tx) -> _Known:
    return _Known() if tx.database is None else _databases.setdefault(tx.database, _Known())
