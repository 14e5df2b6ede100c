"""How PostgreSQL answers a search: the plan of each statement that it takes, for the bench's report and the tests."""

import re
from dataclasses import dataclass, field
from typing import Any, cast

from fhir.asked import Query
from fhir.search import Page, search
from fhir.store import Connection, Visible

# One search of each family that has an index to rely on; `{patient}` and so on are filled in by whoever asks.
FAMILIES: dict[str, str] = {
    "string": "Patient?name={name}",
    "token": "Observation?code={code}",
    "reference": "Observation?patient={patient}",
    "date": "Observation?date=ge{day}",
    "quantity": "Observation?value-quantity=gt{high}|http://unitsofmeasure.org|{unit}",
    "quantity, rare": "Observation?value-quantity=gt{extreme}|http://unitsofmeasure.org|{unit}",
    "composite": "Observation?code-value-quantity={code}$gt{high}||{unit}",
    "composite of a panel": "Observation?combo-code-value-quantity={part}$gt{high}||{unit}",
    "identifier": "Patient?identifier={identifier}",
    "code and people": "Observation?code={code}&patient={patients}",
    "chained": "Observation?subject:Patient.name={name}",
    "_has": "Patient?_has:Observation:patient:identifier={reading}",
    "_include": "Observation?code={code}&_include=Observation:patient",
    "_revinclude": "Patient?identifier={identifier}&_revinclude=Observation:patient",
    "_sort": "Observation?code={code}&_sort=-date",
    "_lastUpdated": "Observation?_lastUpdated=ge{day}",
}
_SCANS = re.compile(r"Seq Scan on (r_\w+|resource_version\w*)")


@dataclass
class Explaining:
    """A connection that keeps the plan of every statement it runs."""

    pg: Connection
    plans: list[str] = field(default_factory=list)

    async def execute(self, statement: str, params: Any = None, **options: Any) -> Any:
        rows = await self.pg.execute(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}", params, **options)
        self.plans.append("\n".join(row[0] for row in await rows.fetchall()))
        return await self.pg.execute(statement, params, **options)


async def explained(
    pg: Connection, path: str, visible: Visible, secret: bytes = b"plans", max_page: int = 1000
) -> tuple[str, Page]:
    """The plans of `Type?name=value&...`, values as they stand, and the page that it finds."""
    type_, _, text = path.partition("?")
    query: Query = [(name, value) for name, _, value in (item.partition("=") for item in text.split("&"))]
    explaining = Explaining(pg)
    page = await search(cast(Connection, explaining), type_, query, visible, "https://x", secret, max_page)
    return "\n".join(explaining.plans), page


def scanned(plan: str) -> set[str]:
    """The tables that *plan* reads from end to end."""
    return set(_SCANS.findall(plan))
