"""What the entries of imported files call each other, and whom they mean."""

from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl

from fhir.outcome import Refusal, refuse
from fhir.registry import SPECS
from fhir.search import matches
from hub import access, sources
from hub.db import Database, Tx
from hub.identity import Actor
from hub.sources import Entry


class Aliases:
    """`urn:uuid:...`, absolute URLs and searches, and the reference (`Type/id`) that each stands for in this import.

    Searches find what *actor* may see.
    """

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._known: dict[str, str] = {}
        self._nicknames: dict[str, str] = {}
        self._conditions: dict[str, str] = {}

    def enter(self, entries: Iterable[Entry]) -> None:
        """Begin a file: hear of all its entries, and forget what the file before meant by its nicknames."""
        self._nicknames = {}
        for entry in entries:
            self._add(entry, entry.reference)

    def _add(self, entry: Entry, reference: str) -> None:
        for name in entry.aliases:
            self._known[name] = reference
        if entry.nickname:
            self._nicknames[entry.nickname] = reference

    def _find(self, name: str) -> str | None:
        return self._known.get(name) or self._nicknames.get(name)

    async def settle(self, database: Database, entries: Sequence[Entry]) -> list[Entry]:
        """Make every reference in *entries* a literal one, in place; gives the entries still to be written.

        Left out are those whose `ifNoneExist` finds somebody, who then goes by their aliases. An entry that refers to
        nobody, or whose search finds several, gets a refusal.
        """
        conditional = [entry for entry in entries if entry.condition is not None]
        if conditional:
            async with database.transaction() as tx:
                for entry in conditional:
                    await self._meet(tx, entry)
            entries = [entry for entry in entries if entry.condition is None]
        loose = self._resolve(entries)
        wanted = {reference for references in loose.values() for reference in references}
        if wanted:
            async with database.transaction() as tx:
                await self._look_up(tx, wanted)
            for number, references in self._resolve([entry for entry in entries if entry.number in loose]).items():
                entry = next(entry for entry in entries if entry.number == number)
                names = ", ".join(sorted(set(references)))
                entry.refusal = refuse(
                    422, "not-found", f"refers to what is neither stored nor in this import: {names}"
                )
        return list(entries)

    def _resolve(self, entries: Iterable[Entry]) -> dict[int, list[str]]:
        """References that stay loose, by the number of the entry."""
        found = {
            entry.number: sources.resolve(entry.resource, self._find)
            for entry in entries
            if entry.loose and entry.resource is not None and entry.refusal is None
        }
        return {number: references for number, references in found.items() if references}

    async def _meet(self, tx: Tx, entry: Entry) -> None:
        """Clear the condition of an entry that meets nobody; one that meets somebody keeps it and is not written."""
        assert entry.condition is not None
        criteria = f"{entry.type}?{entry.condition}"
        met = self._conditions.get(criteria)
        if met is None:
            found = await self._matching(tx, entry.type, entry.condition)
            if not found:
                self._conditions[criteria] = entry.reference
                entry.condition = None
                return
            if len(found) > 1:
                entry.refusal = refuse(412, "multiple-matches", f"{criteria} finds several")
                entry.condition = None
                return
            met = self._conditions[criteria] = found[0]
        self._add(entry, met)
        if entry.replaces:
            entry.id = met.partition("/")[2]
            entry.condition = None

    async def _look_up(self, tx: Tx, wanted: set[str]) -> None:
        uuids = [name.removeprefix("urn:uuid:") for name in wanted if name.startswith("urn:uuid:")]
        if uuids:
            rows = await tx.pg.execute(
                "SELECT DISTINCT type, id FROM resource_version WHERE type = ANY(%s) AND id = ANY(%s)",
                (list(SPECS), uuids),
            )
            async for type_, ident in rows:
                self._known[f"urn:uuid:{ident}"] = f"{type_}/{ident}"
        for name in wanted:
            type_, asks, query = name.partition("?")
            if asks and type_ in SPECS:
                try:
                    found = await self._matching(tx, type_, query)
                except Refusal:
                    continue  # a search that makes no sense finds nobody: the entry that makes it is refused
                if len(found) == 1:
                    self._known[name] = found[0]

    async def _matching(self, tx: Tx, type_: str, query: str) -> list[str]:
        criteria = parse_qsl(query, keep_blank_values=True)
        found = await matches(tx.pg, type_, criteria, access.visible(self._actor), 2)
        return [f"{stored.type}/{stored.id}" for stored in found]
