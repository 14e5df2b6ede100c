"""The last Observations of each code: what `$lastn` answers, in two statements however many there are.

Codes that share a coding mean the same, also by way of a third Observation that has both (R4: observation-operation-
lastn.html), so a pulse that came with LOINC and SNOMED CT stands beside one that has SNOMED CT alone.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fhir.codes import gathered
from fhir.conditions import all_of, has_key, none_of
from fhir.criteria import Criteria
from fhir.outcome import refuse
from fhir.page import Found
from fhir.registry import SPECS
from fhir.store import Connection, Visible, permitted

MOST_SHOWN = 5_000
MOST_CONSIDERED = 20_000
# A code without codings goes by its text, for which alone the body is opened.
_CODES = """
    coalesce(
        nullif(array_to_string(ARRAY(
            SELECT k FROM unnest(r.keys) AS k WHERE starts_with(k, 'code=') AND strpos(k, '|') > 0 ORDER BY k
        ), chr(31)), ''),
        (SELECT 'text=' || coalesce(v.body::jsonb #>> '{code,text}', '') FROM resource_version v
         WHERE v.type = 'Observation' AND v.id = r.id AND v.version = r.version)
    )"""
_WITHDRAWN = ["status=entered-in-error", "status=cancelled"]


class _Row(NamedTuple):
    id: str
    version: int
    patient_id: str | None
    codes: str


async def latest(
    pg: Connection, query: Sequence[tuple[str, str]], most: int, visible: Visible, base_url: str
) -> list[Found]:
    """At most *most* of each person and code among those that match *query*, the newest first within each code.

    What was entered in error or cancelled is left out, unless *query* asks for a status. Refusals as for a search, 400
    beyond MOST_SHOWN.
    """
    limit = permitted("Observation", "r", visible)
    criteria = Criteria(visible, base_url, await gathered(pg, query, visible))
    parts = [limit, criteria.where(SPECS["Observation"], "r", query)]
    if not any(name.partition(":")[0] == "status" for name, _ in query):
        parts.append(none_of(has_key("r", _WITHDRAWN)))
    where = all_of(parts)
    result = await pg.execute(
        f"""WITH matched AS (
                SELECT r.id, r.version, r.patient_id, lower(r.d_date) AS at, {_CODES} AS codes FROM r_observation r
                WHERE {where.text}), ranked AS (
                SELECT m.*, row_number() OVER (
                    PARTITION BY m.patient_id, m.codes ORDER BY m.at DESC NULLS LAST, m.id DESC) AS rank FROM matched m)
            SELECT id, version, patient_id, codes FROM ranked WHERE rank <= %s
            ORDER BY at DESC NULLS LAST, id DESC LIMIT %s""",
        (*where.params, most, MOST_CONSIDERED + 1),
        prepare=False,
    )
    rows = [_Row(*row) async for row in result]
    groups = _groups({row.codes for row in rows})
    kept: dict[tuple[str | None, int], list[_Row]] = {}
    for row in rows:
        group = kept.setdefault((row.patient_id, groups[row.codes]), [])
        if len(group) < most:
            group.append(row)
    wanted = [row for _, group in sorted(kept.items(), key=lambda one: (one[0][0] or "", one[0][1])) for row in group]
    if len(rows) > MOST_CONSIDERED or len(wanted) > MOST_SHOWN:
        said = f"that would be more than {MOST_SHOWN:,} Observations: name a category, a code, or a smaller max"
        raise refuse(400, "too-costly", said, "max")
    bodies = await pg.execute(
        "SELECT v.id, v.body FROM unnest(%s::text[], %s::int[]) AS f (id, version)"
        " JOIN resource_version v ON v.type = 'Observation' AND v.id = f.id AND v.version = f.version",
        ([row.id for row in wanted], [row.version for row in wanted]),
    )
    found = {id_: body async for id_, body in bodies}
    return [Found("match", "Observation", row.id, found[row.id], row.patient_id) for row in wanted]


def _groups(several: Iterable[str]) -> dict[str, int]:
    """Each set of codings, as one text, with the number of the group that it belongs to."""
    owner: dict[str, str] = {}

    def root(one: str) -> str:
        while owner[one] != one:
            owner[one] = owner[owner[one]]
            one = owner[one]
        return one

    ordered = sorted(several)
    for one in ordered:
        first, *rest = one.split("\x1f")
        owner.setdefault(first, first)
        for other in rest:
            owner.setdefault(other, other)
            owner[root(other)] = root(first)
    places: dict[str, int] = {}
    return {one: places.setdefault(root(one.split("\x1f")[0]), len(places)) for one in ordered}
