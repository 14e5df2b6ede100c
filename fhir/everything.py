"""All that is kept about one person, in pages: the Patient, its compartment, and what these refer to.

The order is Patient, then the compartment by type and id, then what lies outside it, again by type and id. None of that
changes while others write, so no page repeats a row or loses one that was there from the first page to the last.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fhir import store
from fhir.compartments import within
from fhir.conditions import ALWAYS, all_of, none_of
from fhir.page import Found, Page, next_url, url_of
from fhir.paging import Cursor
from fhir.registry import SPECS, ResourceSpec
from fhir.store import Connection, Sql, Visible
from fhir.tables import date_column

# Whose record says when it happened. What holds until it is ended (conditions, allergies, prescriptions, consents,
# goals, orders, devices) has its place in any range of dates: an allergy of 1990 matters to care given this week.
# fmt: off
CARE_DATES = {
    "AdverseEvent": "date", "Appointment": "date", "AuditEvent": "date", "CarePlan": "date", "CareTeam": "date",
    "ChargeItem": "occurrence", "Claim": "created", "ClaimResponse": "created", "ClinicalImpression": "date",
    "Communication": "sent", "CommunicationRequest": "authored", "Composition": "date", "DetectedIssue": "identified",
    "DiagnosticReport": "date", "DocumentManifest": "created", "DocumentReference": "date", "Encounter": "date",
    "EpisodeOfCare": "date", "ExplanationOfBenefit": "created", "Flag": "date", "ImagingStudy": "started",
    "Immunization": "date", "ImmunizationEvaluation": "date", "Invoice": "date", "MeasureReport": "period",
    "Media": "created", "MedicationAdministration": "effective-time", "MedicationDispense": "whenhandedover",
    "MedicationStatement": "effective", "Observation": "date", "Procedure": "date", "Provenance": "recorded",
    "QuestionnaireResponse": "authored", "RiskAssessment": "date", "Specimen": "collected",
}
# fmt: on
INSIDE, OUTSIDE = "1", "2"
# As `fhir.wire` writes a literal reference to something of this hub; within a text the quotation marks are escaped.
_REFERENCE = r'"reference":"([A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})(?=["/])'


@dataclass(frozen=True, slots=True)
class Wanted:
    """`start` and `end` bound when care was given, `since` when a record was last changed; *types* empty: all."""

    patient: str
    count: int
    start: datetime | None = None
    end: datetime | None = None
    since: datetime | None = None
    types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Row:
    place: tuple[str, str, str]
    found: Found


async def everything(
    pg: Connection, wanted: Wanted, visible: Visible, base_url: str, secret: bytes, cursor: Cursor
) -> Page:
    """One page, as a searchset. *cursor* holds the question and, after the first page, the place of the last row.

    Refusals as for `store.read` when there is no such Patient for the actor. Types that the actor may not see are left
    out, and so is what is about another person.
    """
    await store.read(pg, "Patient", wanted.patient, visible)
    place = tuple(str(part) for part in cursor.after) if cursor.after else (INSIDE, "", "")
    rows: list[_Row] = []
    if place[0] == INSIDE:
        rows = await _page(pg, INSIDE, _inside(wanted, visible, place), wanted.count + 1)
    if len(rows) <= wanted.count:
        after = place if place[0] == OUTSIDE else (OUTSIDE, "", "")
        selects = await _outside(pg, wanted, visible, after)
        rows += await _page(pg, OUTSIDE, selects, wanted.count + 1 - len(rows))
    shown = rows[: wanted.count]
    links = [("self", url_of(base_url, cursor.scope, cursor.query))]
    if len(rows) > wanted.count:
        following = Cursor(cursor.scope, cursor.query, list(shown[-1].place))
        links.append(("next", next_url(base_url, cursor.scope, following, secret)))
    total = len(rows) if len(links) == 1 and not cursor.after else None
    return Page("searchset", total, links, [row.found for row in shown], base_url=base_url)


def compartment(spec: ResourceSpec, patient: str) -> Sql:
    """What of a type is in the compartment of *patient*, as a condition on alias `r`."""
    if spec.type == "Patient":
        return Sql("r.id = %s", (patient,))  # another person who is linked has a record of their own
    return within(spec, ("Patient", patient))


def _inside(wanted: Wanted, visible: Visible, place: Sequence[str]) -> list[Sql]:
    _, type_, id_ = place
    selects = []
    for spec in SPECS.values():
        # The Patient comes first, as type "".
        order = "" if spec.type == "Patient" else spec.type
        if not spec.in_patient_compartment or (wanted.types and spec.type not in wanted.types) or order < type_:
            continue
        limit = visible(spec.type, "r")
        if limit is None:
            continue
        parts = [Sql(*limit), _dated(spec, wanted), _since(wanted)]
        if order == type_ and id_:
            parts.append(Sql("r.id > %s", (id_,)))
        selects.append(_select(spec, order, _inside_of(spec, wanted.patient), parts))
    return selects


async def _outside(pg: Connection, wanted: Wanted, visible: Visible, place: Sequence[str]) -> list[Sql]:
    """What the compartment refers to and does not hold: staff, places, medicines, definitions."""
    _, type_, id_ = place
    grouped: dict[str, list[str]] = {}
    for reference in await _references(pg, wanted, visible):
        target, _, target_id = reference.partition("/")
        grouped.setdefault(target, []).append(target_id)
    selects = []
    for target, ids in grouped.items():
        if (
            target not in SPECS
            or target == "Patient"
            or target < type_
            or (wanted.types and target not in wanted.types)
        ):
            continue
        limit = visible(target, "r")
        if limit is None:
            continue
        spec = SPECS[target]
        parts = [Sql("r.id = ANY(%s::text[]) AND r.patient_id IS NULL", (ids,)), Sql(*limit), _since(wanted)]
        if spec.in_patient_compartment:
            parts.append(none_of(compartment(spec, wanted.patient)))
        if target == type_ and id_:
            parts.append(Sql("r.id > %s", (id_,)))
        selects.append(_select(spec, target, Sql(f"r_{target.lower()}"), parts))
    return selects


async def _references(pg: Connection, wanted: Wanted, visible: Visible) -> Iterable[str]:
    """All that the compartment refers to, read from the resources themselves; for readings, which may be a hundred
    thousand, from their search rows, since every reference of an Observation has a search parameter."""
    selects = []
    for spec in SPECS.values():
        limit = visible(spec.type, "r") if spec.in_patient_compartment else None
        if limit is None:
            continue
        source, where = _inside_of(spec, wanted.patient), all_of([Sql(*limit), _dated(spec, wanted)])
        if spec.type == "Observation":
            names = {name for param in spec.params.values() if param.type == "reference" for name in param.stored}
            text = (
                f"SELECT substr(k, strpos(k, '=') + 1) FROM {source.text} r, unnest(r.keys) AS k"
                f" WHERE split_part(k, '=', 1) = ANY(%s::text[]) AND {where.text}"
            )
            selects.append(Sql(text, (*source.params, sorted(names - {"subject"}), *where.params)))
            continue
        text = (
            f"SELECT found[1] FROM {source.text} r"
            f" JOIN resource_version v ON v.type = '{spec.type}' AND v.id = r.id AND v.version = r.version,"
            f" regexp_matches(v.body, %s, 'g') AS found WHERE {where.text}"
        )
        selects.append(Sql(text, (*source.params, _REFERENCE, *where.params)))
    result = await pg.execute(
        " UNION ".join(select.text for select in selects),
        [value for select in selects for value in select.params],
        prepare=False,
    )
    return [row[0] for row in await result.fetchall()]


def _inside_of(spec: ResourceSpec, patient: str) -> Sql:
    """The rows of the compartment, found before anything else is asked: left alone, PostgreSQL begins with all the
    people whom the actor may see."""
    inside = compartment(spec, patient)
    return Sql(f"(SELECT r.* FROM r_{spec.type.lower()} r WHERE {inside.text} OFFSET 0)", inside.params)


def _select(spec: ResourceSpec, order: str, source: Sql, parts: Sequence[Sql]) -> Sql:
    where = all_of(parts)
    text = f"SELECT %s AS place, '{spec.type}' AS type, r.id, r.version FROM {source.text} r WHERE {where.text}"
    return Sql(text, (order, *source.params, *where.params))


async def _page(pg: Connection, part: str, selects: Sequence[Sql], limit: int) -> list[_Row]:
    if not selects:
        return []
    # Each type gives no more than the page holds, in the order of its own index.
    union = " UNION ALL ".join(f"({select.text} ORDER BY r.id LIMIT %s)" for select in selects)
    params = [value for select in selects for value in (*select.params, limit)]
    result = await pg.execute(
        f"SELECT f.type, f.id, v.body, v.patient_id, f.place FROM"
        f' (SELECT * FROM ({union}) f ORDER BY f.place COLLATE "C", f.id LIMIT %s) f'
        f" JOIN resource_version v ON v.type = f.type AND v.id = f.id AND v.version = f.version"
        f' ORDER BY f.place COLLATE "C", f.id',
        (*params, limit),
        prepare=False,
    )
    mode = "match" if part == INSIDE else "include"
    return [
        _Row((part, order, id_), Found(mode, type_, id_, body, patient_id))
        async for type_, id_, body, patient_id, order in result
    ]


def _dated(spec: ResourceSpec, wanted: Wanted) -> Sql:
    code = CARE_DATES.get(spec.type)
    if code is None or (wanted.start is None and wanted.end is None):
        return ALWAYS
    column = f"r.{date_column(code)}"
    return Sql(f"{column} IS NULL OR {column} && tstzrange(%s, %s)", (wanted.start, wanted.end))


def _since(wanted: Wanted) -> Sql:
    return ALWAYS if wanted.since is None else Sql("r.updated >= %s", (wanted.since,))
