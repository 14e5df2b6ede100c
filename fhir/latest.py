"""The last Observations of each code: what `$lastn` answers, in two statements however many there are.

Codes that share a coding mean the same, also by way of a third Observation that has both (R4: observation-operation-
lastn.html), so a pulse that came with LOINC and SNOMED CT stands beside one that has SNOMED CT alone.
"""

from collections.abc import Iterable, Sequence

from fhir.codes import gathered
from fhir.conditions import all_of, has_key, none_of
from fhir.criteria import Criteria
from fhir.outcome import refuse
from fhir.page import Found
from fhir.registry import SPECS
from fhir.store import Connection, Visible, permitted

MOST_SHOWN = 5_000
# A code without codings goes by its text.
_CODES = """
    coalesce(
        nullif(array_to_string(ARRAY(
            SELECT k FROM unnest(r.keys) AS k WHERE starts_with(k, 'code=') AND strpos(k, '|') > 0 ORDER BY k
        ), chr(31)), ''),
        'text=' || coalesce(v.body::jsonb #>> '{code,text}', '')
    )"""
_WITHDRAWN = ["status=entered-in-error", "status=cancelled"]


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
    matched = (
        f"SELECT r.id, r.version, r.patient_id, r.d_date, {_CODES} AS codes FROM r_observation r"
        f" JOIN resource_version v ON v.type = 'Observation' AND v.id = r.id AND v.version = r.version"
        f" WHERE {where.text}"
    )
    rows = await pg.execute(f"SELECT DISTINCT codes FROM ({matched}) m", where.params, prepare=False)
    groups = _groups([row[0] for row in await rows.fetchall()])
    if not groups:
        return []
    result = await pg.execute(
        f"""WITH matched AS ({matched}), ranked AS (
                SELECT m.*, g.place, row_number() OVER (
                    PARTITION BY m.patient_id, g.place ORDER BY lower(m.d_date) DESC NULLS LAST, m.id DESC) AS rank
                FROM matched m JOIN unnest(%s::text[], %s::int[]) AS g (codes, place) ON g.codes = m.codes)
            SELECT f.id, v.body, f.patient_id FROM ranked f
            JOIN resource_version v ON v.type = 'Observation' AND v.id = f.id AND v.version = f.version
            WHERE f.rank <= %s ORDER BY f.patient_id, f.place, f.rank LIMIT %s""",
        (*where.params, list(groups), list(groups.values()), most, MOST_SHOWN + 1),
        prepare=False,
    )
    found = [Found("match", "Observation", id_, body, patient_id) async for id_, body, patient_id in result]
    if len(found) > MOST_SHOWN:
        said = f"that would be more than {MOST_SHOWN:,} Observations: name a category, a code, or a smaller max"
        raise refuse(400, "too-costly", said, "max")
    return found


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
