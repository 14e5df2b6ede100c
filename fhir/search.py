"""Searches: one statement for the matches, one for each level of includes, and pages that lose and repeat nothing.

Without `_sort` the newest comes first: the order is by `id` downwards, and ids are made in the order of time and never
change, so a page keeps its place while others write. A search by a date alone goes by that date, because its index then
finds and orders in one go.
"""

from collections.abc import Sequence
from dataclasses import replace

from fhir import rows as rows_of
from fhir import store
from fhir.asked import PAGE_SIZE, Query, Request, instant_of, size_of, taken_apart, warnings
from fhir.codes import gathered
from fhir.compartments import Compartment, last, types_in, within
from fhir.conditions import ALWAYS, all_of
from fhir.criteria import FEW_ROWS, Criteria, is_selective
from fhir.includes import included
from fhir.meanwhile import Since, changed, unchanged
from fhir.outcome import refuse
from fhir.page import Found, Page, next_url, url_of
from fhir.paging import Cursor, verify
from fhir.registry import SPECS, ResourceSpec
from fhir.rows import Row, merged, of_type, of_types
from fhir.sorting import Sort, by_id, own_order, sorts
from fhir.store import Connection, Sql, Stored, Visible, permitted
from fhir.subsets import check_elements, subset
from fhir.written import NotUnderstood

__all__ = ["Page", "Sql", "Visible", "across", "history", "matches", "search"]


async def search(
    pg: Connection,
    type_: str,
    query: Query,
    visible: Visible,
    base_url: str,
    secret: bytes,
    max_page: int,
    compartment: Compartment | None = None,
    lenient: bool = False,
) -> Page:
    """One page of the resources of *type_* that match *query* and that the actor may see, as a searchset.

    With *compartment*, only what is in it. *max_page* bounds `_count`. Refusal 400 for what is not understood (an
    ignored condition would be an unfiltered list; a *lenient* client is told of it on the page instead), 403 for a type
    the actor may not see, 404 for one that is not served.
    """
    limit = permitted(type_, "r", visible)
    spec = SPECS[type_]
    scope = type_ if compartment is None else f"{'/'.join(compartment)}/{type_}"
    request = taken_apart(type_, query, scope, secret, max_page, lenient)
    check_elements(type_, request.elements)
    criteria = Criteria(visible, base_url, await gathered(pg, request.criteria, visible))
    criteria.late = []
    where = [Sql(*limit), *_conditions(criteria, spec, request, lenient)]
    if compartment is not None:
        where = [last(where[0]), *where[1:], within(spec, compartment)]
    condition, late = all_of(where), all_of(criteria.late)
    whole = [(type_, all_of([condition, late]))]
    sorts = _order(spec, request, visible, lenient)
    if request.count == 0:
        return await _counted(pg, whole, request, base_url, scope)
    in_order = criteria.one_person and sorts[0].nullable
    fenced = (criteria.selective or compartment is not None) and not in_order
    more, with_keys = request.count + 1, bool(request.includes)
    # An order by id alone keeps every row in its place; any other cursor ends with when the first page was.
    after, since = request.after, None
    if after is not None and len(sorts) > 1:
        after, since = after[:-1], after[-1]
    start = Since.read(since) if since is not None else None
    same = unchanged(type_, start) if start is not None else ALWAYS
    rows: list[Row] = []
    uncertain = bool(criteria.late) and not fenced and not in_order and all(sort.made is None for sort in sorts)
    if uncertain or (criteria.first and sorts[0].expression == "r.id"):
        # A code and a value, or a code and a thousand people, may go together always or never, which no statistics
        # tell: look at the first rows, then begin with what the indexes find.
        fenced = True
        first = criteria.first or FEW_ROWS
        rows = await of_type(pg, type_, condition, sorts, after, more, False, with_keys, late, first, same)
    if len(rows) < more:
        rows = await of_type(pg, type_, condition, sorts, after, more, fenced, with_keys, late, None, same)
    if start is not None and after is not None and (others := await changed(pg, type_, whole[0][1], start)):
        rows = await merged(pg, type_, rows, others, sorts, after, more)
    if len(sorts) > 1:
        rows = [replace(row, order=[*row.order, since or row.since]) for row in rows]
    return await _page(pg, rows, whole, request, visible, base_url, secret, scope)


async def across(
    pg: Connection,
    query: Query,
    visible: Visible,
    base_url: str,
    secret: bytes,
    max_page: int,
    compartment: Compartment | None = None,
    lenient: bool = False,
) -> Page:
    """One page of the resources of several types: those that `_type` names, those of *compartment*, or all.

    The order is by `_id`; conditions are those that every type has. Types that the actor may not see
    are left out, but refused (403) when they are named.
    """
    scope = "" if compartment is None else f"{'/'.join(compartment)}/*"
    request = taken_apart(None, query, scope, secret, max_page, lenient)
    possible = types_in(compartment[0]) if compartment is not None else list(SPECS)
    strangers = [one for one in request.types if one not in possible]
    if strangers and compartment is not None:
        raise refuse(400, "invalid", f"{strangers[0]} is not in the compartment of a {compartment[0]}", "_type")
    for named in request.types:
        permitted(named, "r", visible)
    types = [one for one in request.types or possible if visible(one, "r") is not None]
    for type_ in types:
        check_elements(type_, request.elements)
    criteria = Criteria(visible, base_url, await gathered(pg, request.criteria, visible))
    conditions: list[tuple[str, Sql]] = []
    for type_ in types:
        where = [permitted(type_, "r", visible), *_conditions(criteria, SPECS[type_], request, lenient)]
        if compartment is not None:
            where = [last(where[0]), *where[1:], within(SPECS[type_], compartment)]
        conditions.append((type_, all_of(where)))
    if request.order is not None and request.order.removeprefix("-") != "_id":
        said = f"several types are sorted by _id, not by '{request.order[:80]}'"
        raise refuse(400, "invalid", said, "_sort")
    if request.count == 0 or not conditions:
        return await _counted(pg, conditions, request, base_url, scope)
    order = sorts(SPECS[types[0]], request.order, visible) if request.order else [by_id(True)]
    rows = await of_types(pg, conditions, order, request.after, request.count + 1)
    return await _page(pg, rows, conditions, request, visible, base_url, secret, scope)


def _conditions(criteria: Criteria, spec: ResourceSpec, request: Request, lenient: bool) -> list[Sql]:
    """Those of *request*; what is not understood leaves it, and is told of, when the client is *lenient*."""
    found: list[Sql] = []
    for asked in list(request.criteria):
        try:
            found.append(criteria.condition(spec, "r", *asked))
        except NotUnderstood as refusal:
            if not lenient:
                raise
            request.criteria.remove(asked)
            request.query.remove(asked)
            request.ignored.extend(warnings(refusal))
    return found


def _order(spec: ResourceSpec, request: Request, visible: Visible, lenient: bool) -> list[Sort]:
    found: list[Sort] | None = None
    if request.order is not None:
        try:
            found = sorts(spec, request.order, visible)
        except NotUnderstood as refusal:
            if not lenient:
                raise
            request.query[:] = [asked for asked in request.query if asked[0] != "_sort"]
            request.ignored.extend(warnings(refusal))
    if found is None:
        names = [name for name, _ in request.criteria]
        found = own_order(spec, names, any(is_selective(spec, name) for name in names))
    if request.after is not None and len(request.after) != len(found) + (len(found) > 1):
        raise refuse(400, "value", "the _cursor does not fit the search it was made for", "_cursor")
    return found


async def _counted(
    pg: Connection, conditions: Sequence[tuple[str, Sql]], request: Request, base_url: str, scope: str
) -> Page:
    links = [("self", url_of(base_url, scope, request.query))]
    total = await rows_of.counted(pg, conditions)
    return Page("searchset", total, links, base_url=base_url, issues=request.ignored)


async def _page(
    pg: Connection,
    rows: Sequence[Row],
    conditions: Sequence[tuple[str, Sql]],
    request: Request,
    visible: Visible,
    base_url: str,
    secret: bytes,
    scope: str,
) -> Page:
    """The page that *rows* make: one more of them than asked for says that there is another."""
    found, more = rows[: request.count], len(rows) > request.count
    links = [("self", url_of(base_url, scope, request.query))]
    total = None
    if not more and request.after is None:
        total = len(rows)
    elif request.total == "accurate":
        total = await rows_of.counted(pg, conditions)
    elif request.total == "estimate":
        total = await rows_of.estimated(pg, conditions)
    if more:
        links.append(("next", next_url(base_url, scope, Cursor(scope, request.query, found[-1].order), secret)))
    entries = [Found("match", r.stored.type, r.stored.id, r.stored.body or "", r.stored.patient_id) for r in found]
    if request.includes and found:
        level: dict[str, dict[str, list[str]]] = {}
        for row in found:
            level.setdefault(row.stored.type, {})[row.stored.id] = row.keys
        added, cut = await included(pg, level, request.includes, visible)
        entries += added
        request.ignored.extend(cut)
    if request.summary != "false" or request.elements:
        entries = [replace(one, body=subset(one.body, request.elements, request.summary)) for one in entries]
    return Page("searchset", total, links, entries, base_url=base_url, issues=request.ignored)


async def matches(pg: Connection, type_: str, query: Query, visible: Visible, limit: int) -> list[Stored]:
    """At most *limit* resources that match, in the order of ids: for conditional writes. Refusals as for `search`."""
    allowed = permitted(type_, "r", visible)
    spec = SPECS[type_]
    criteria = Criteria(visible, sets=await gathered(pg, query, visible))
    condition = all_of([Sql(*allowed), criteria.where(spec, "r", query)])
    found = await of_type(pg, type_, condition, [by_id(False)], None, limit, criteria.selective)
    return [row.stored for row in found]


async def history(
    pg: Connection,
    query: Query,
    visible: Visible,
    base_url: str,
    secret: bytes,
    max_page: int,
    type_: str | None = None,
    id_: str | None = None,
) -> Page:
    """A page of versions, the newest first: of one resource, a type, or everything. Takes `_count` and `_since`.

    Refusal 404 for a resource that never was or that the actor may not see.
    """
    scope = "/".join(part for part in (type_, id_, "_history") if part)
    before, asked = None, list(query)
    cursors = [value for name, value in query if name == "_cursor"]
    if cursors:
        cursor = verify(cursors[0], scope, secret)
        asked, before = cursor.query, int(cursor.after[0] or 0)
    size, since, kept = PAGE_SIZE, None, []
    for name, value in asked:
        if name == "_count":
            size = max(1, size_of(value, max_page))
        elif name == "_since":
            since = instant_of(value)
        elif name not in ("_format", "_pretty"):
            raise refuse(
                400,
                "invalid",
                f"'{name[:80]}' is not understood by history; there are _count, _since",
                f"_history?{name[:80]}",
            )
        kept.append((name, value))
    entries = await store.history(pg, visible, type_, id_, since, before, size + 1)
    if not entries and id_ is not None and since is None and before is None:
        raise refuse(404, "not-found", f"there is no {type_}/{id_}")
    links = [("self", url_of(base_url, scope, kept))]
    if len(entries) > size:
        entries = entries[:size]
        links.append(("next", next_url(base_url, scope, Cursor(scope, kept, [str(entries[-1].seq)]), secret)))
    return Page("history", None, links, versions=entries, base_url=base_url)
