"""What is kept of looking at records: one row of audit for each person whose record an answer shows."""

from collections import Counter
from collections.abc import Sequence

from fhir.search import Page
from fhir.store import Stored
from hub import audit
from hub.identity import Actor


def looked(actor: Actor, action: str, stored: Stored) -> audit.Entry:
    """*action*: read or vread."""
    detail = {"version": stored.version}
    return audit.entry(actor, action, stored.type, stored.id, stored.patient_id, detail=detail)


def searched(actor: Actor, type_: str | None, page: Page) -> Sequence[audit.Entry]:
    """Rows for one page of a search; how many resources of each person it shows, never what was asked."""
    return _rows(actor, "search", type_, None, Counter(found.patient_id for found in page.entries))


def seen(actor: Actor, action: str, type_: str | None, id_: str | None, page: Page) -> Sequence[audit.Entry]:
    """Rows for what an operation, *action*, shows."""
    return _rows(actor, action, type_, id_, Counter(found.patient_id for found in page.entries))


def history_read(actor: Actor, type_: str | None, id_: str | None, page: Page) -> Sequence[audit.Entry]:
    return _rows(actor, "history", type_, id_, Counter(entry.stored.patient_id for entry in page.versions))


def _rows(
    actor: Actor, action: str, type_: str | None, id_: str | None, people: Counter[str | None]
) -> Sequence[audit.Entry]:
    shown = people or Counter({None: 0})
    return [
        audit.entry(actor, action, type_, id_, patient_id, detail={"shown": count})
        for patient_id, count in shown.items()
    ]
