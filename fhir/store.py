"""Versions of resources: written in sets, read one by one, never changed afterwards.

Every write of a type, however many resources, is one statement: the new versions go to `resource_version`, the search
rows follow those that really went in. Two writers of one identity meet at its search row (locked when it is loaded) or,
when there is none yet, at the primary key of `resource_version`; the second one is told so (`Overtaken`) and begins
anew (`hub.steps.settled`), never lost. That is why there are no advisory locks here: a batch of 5,000 would need 5,000
of them, more than PostgreSQL has room for.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

import msgspec
import psycopg
import uuid_utils

from fhir.index import IndexRow, Range, index
from fhir.outcome import Issue, Refusal, refuse
from fhir.registry import SPECS
from fhir.tables import date_column, versions_of
from fhir.wire import decode, encode

JSON = dict[str, Any]
Key = tuple[str, str]
Connection = psycopg.AsyncConnection[Any]


class Sql(NamedTuple):
    """A fragment of SQL with `%s` placeholders and their values."""

    text: str
    params: tuple[Any, ...] = ()


# (type, table alias) -> the condition that limits its rows to what the actor may see, on the columns `id` and
# `patient_id`, which search tables and `resource_version` both have. None when the whole type is invisible.
Visible = Callable[[str, str], Sql | None]

ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_METHODS = {"create": "POST", "update": "PUT", "delete": "DELETE"}
# Columns travel as one text each, rows and array items parted by control characters that JSON and keys never hold:
# three to four times faster than arrays, which psycopg quotes item by item, and as fast as COPY.
_ROWS, _ITEMS = "\x1e", "\x1f"
# The second look shows what the first one locked; only what is deleted or made between two of them takes another.
_LOOKS = 4


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to write.

    `if_match` is the version the writer has seen (or several, one of which it must be); a create or update needs a
    `resource`; `author` is set where a set of changes has several authors, `request` (the id of who asks for it) where
    it comes from several requests.
    """

    method: Literal["create", "update", "delete"]
    type: str
    id: str
    resource: JSON | None
    if_match: int | tuple[int, ...] | None = None
    author: str | None = None
    request: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The latest version of an identity, or the one asked for. `body` is its JSON, None when it is a deletion."""

    type: str
    id: str
    version: int
    updated: datetime
    patient_id: str | None
    body: str | None

    @property
    def resource(self) -> JSON | None:
        return None if self.body is None else decode(self.body.encode())


class Written(msgspec.Struct, frozen=True):
    """What became of a change: 201 made, 200 a new version (or the same one when nothing differed), 204 deleted.

    `body` is the JSON as stored, `before` the resource as it was, `patient_id` whom it is (or was) about. Deleting what
    never was gives 204 and version 0.
    """

    change: Change
    status: int
    version: int
    updated: datetime
    body: str | None
    before: JSON | None
    patient_id: str | None = None


class Overtaken(Refusal):
    """Refusal 409: somebody else wrote the same at the same moment. In a new transaction it is seen what they wrote."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One version in a history."""

    seq: int
    method: str
    author: str
    stored: Stored


def new_id() -> str:
    """A UUIDv7: unique without asking anyone, and in the order of creation."""
    return str(uuid_utils.uuid7())


async def write(
    pg: Connection,
    changes: Sequence[Change],
    author: str,
    now: datetime,
    loaded: Mapping[Key, Stored] | None = None,
) -> list[Written]:
    """Carry out all *changes* in the caller's transaction; the results stand in the order of the changes.

    *author* is the reference of who writes. *loaded* is what `load(..., lock=True)` gave in this transaction for the
    updates and deletions, to spare a second look. Resources are stored as they came but for `id`, `meta.versionId` and
    `meta.lastUpdated`; they must have been validated. Refusal 404 unknown type, 409 the id exists or is named twice,
    412 `if_match` is not the current version; Overtaken when it was written by someone else meanwhile.
    """
    _refuse_unfit(changes)
    updated = now.astimezone(UTC).replace(microsecond=now.microsecond // 1000 * 1000)
    try:
        if loaded is None:
            loaded = await load(pg, [(c.type, c.id) for c in changes if c.method != "create"], lock=True)
        drafts = [_draft(change, loaded.get((change.type, change.id)), updated) for change in changes]
        await _insert(pg, drafts, author, updated)
    except psycopg.errors.DeadlockDetected:
        said = "two requests wrote the same resources in opposite order; send it again"
        raise Overtaken(409, [Issue("conflict", said)]) from None
    return [draft.written() for draft in drafts]


async def load(pg: Connection, keys: Iterable[Key], lock: bool = False) -> dict[Key, Stored]:
    """The latest version of each of *keys*, deletions included; unknown ones are absent.

    With *lock* nobody else can write those that exist until the transaction ends.
    """
    found: dict[Key, Stored] = {}
    for type_, ids in _by_type(keys).items():
        if type_ not in SPECS:
            continue
        if lock:
            await _load_locked(pg, type_, sorted(ids), found)
            continue
        rows = await pg.execute(_latest_sql(type_), (ids,))
        async for id_, version, updated, patient_id, body in rows:
            found[type_, id_] = Stored(type_, id_, version, updated, patient_id, body)
    return found


async def _load_locked(pg: Connection, type_: str, ids: list[str], found: dict[Key, Stored]) -> None:
    """Lock the search rows of *ids*, in their order, and put what they point at into *found*.

    A statement does not see what it waited for, nor lock what is written while it runs: what it shows is the row that
    it locked, or it is asked again. Overtaken when even then it was changed under its eyes.
    """
    for _ in range(_LOOKS):
        rows = await pg.execute(_locked_sql(type_), (ids,))
        ids = []
        async for id_, version, updated, patient_id, body, locked in rows:
            found[type_, id_] = Stored(type_, id_, version, updated, patient_id, body)
            if locked != (version if body is not None else None):
                ids.append(id_)
        if not ids:
            return
    raise Overtaken(409, [_meanwhile(f"{type_}/{id_}") for id_ in ids[:20]])


async def read(pg: Connection, type_: str, id_: str, visible: Visible) -> Stored:
    """The current version. Refusal 403 for a type the actor may not see, 404 unknown or invisible, 410 deleted."""
    return readable(type_, id_, await _one(pg, type_, id_, None, visible))


def readable(type_: str, id_: str, stored: Stored | None) -> Stored:
    """*stored* itself; Refusal 404 when there is none, 410 when it is a deletion."""
    if stored is None:
        raise refuse(404, "not-found", f"there is no {type_}/{id_}")
    if stored.body is None:
        raise Refusal(410, [Issue("deleted", f"{type_}/{id_} was deleted")], {"ETag": f'W/"{stored.version}"'})
    return stored


async def read_several(pg: Connection, type_: str, ids: Sequence[str], visible: Visible) -> dict[str, Stored]:
    """The current versions, deletions included; those that are unknown or invisible are absent. Refusal as `read`."""
    condition = permitted(type_, "latest", visible)
    rows = await pg.execute(f"{_latest_sql(type_)} WHERE {condition.text}", (list(ids), *condition.params))
    return {id_: Stored(type_, id_, *row) async for id_, *row in rows}


async def vread(pg: Connection, type_: str, id_: str, version: int, visible: Visible) -> Stored:
    """One version. Refusals as for `read`; what is deleted now can still be read, but its deletion itself is 410."""
    stored = await _one(pg, type_, id_, version, visible)
    if stored is None:
        raise refuse(404, "not-found", f"there is no version {version} of {type_}/{id_}")
    if stored.body is None:
        raise refuse(410, "deleted", f"version {version} of {type_}/{id_} is its deletion")
    return stored


async def history(
    pg: Connection,
    visible: Visible,
    type_: str | None = None,
    id_: str | None = None,
    since: datetime | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Entry]:
    """Versions, the newest first: of one resource, of a type, or of everything the actor may see.

    *since* is inclusive; *before* is the `seq` of the last entry of the page before. Refusal 403 for an invisible type.
    """
    conditions, params = [], list[Any]()
    if type_ is not None:
        condition = permitted(type_, "v", visible)
        conditions.append(f"v.type = '{_served(type_)}' AND {condition.text}")
        params += condition.params
    else:
        shown = _visible_types(visible)
        if not shown:
            return []
        conditions.append(
            "(" + " OR ".join(f"(v.type = ANY(%s) AND ({condition.text}))" for condition, _ in shown) + ")"
        )
        for condition, types in shown:
            params += [types, *condition.params]
    for clause, value in (("v.id = %s", id_), ("v.updated >= %s", since), ("v.seq < %s", before)):
        if value is not None:
            conditions.append(clause)
            params.append(value)
    rows = await pg.execute(
        "SELECT v.seq, v.method, v.author, v.type, v.id, v.version, v.updated, v.patient_id, v.body"
        f" FROM resource_version v WHERE {' AND '.join(conditions)} ORDER BY v.seq DESC LIMIT %s",
        (*params, limit),
    )
    return [Entry(seq, method, author, Stored(*rest)) async for seq, method, author, *rest in rows]


def permitted(type_: str, alias: str, visible: Visible) -> Sql:
    """The condition of *visible*, or Refusal 403 for an invisible type, 404 for one that is not served."""
    condition = visible(_served(type_), alias)
    if condition is None:
        raise refuse(403, "forbidden", f"you may not see any {type_}")
    return Sql(f"({condition[0]})", condition[1])


def _visible_types(visible: Visible) -> list[tuple[Sql, list[str]]]:
    """Types grouped by what limits them, so that a statement over everything names each condition once."""
    shown: dict[str, tuple[Sql, list[str]]] = {}
    for type_ in SPECS:
        condition = visible(type_, "v")
        if condition is not None:
            sql = Sql(*condition)
            shown.setdefault(repr(sql), (sql, []))[1].append(type_)
    return list(shown.values())


async def _one(pg: Connection, type_: str, id_: str, version: int | None, visible: Visible) -> Stored | None:
    condition = permitted(type_, "v", visible)
    chosen = "ORDER BY version DESC LIMIT 1" if version is None else "AND version = %s"
    rows = await pg.execute(
        f"SELECT v.version, v.updated, v.patient_id, v.body FROM (SELECT id, version, updated, patient_id, body"
        f" FROM resource_version WHERE type = '{type_}' AND id = %s {chosen}) v WHERE {condition.text}",
        (id_, *(() if version is None else (version,)), *condition.params),
    )
    row = await rows.fetchone()
    return None if row is None else Stored(type_, id_, *row)


@dataclass(slots=True)
class _Draft:
    """A change on its way: which version it becomes, and what is written for it."""

    change: Change
    status: int
    version: int
    updated: datetime
    before: Stored | None
    body: str | None = None
    row: IndexRow | None = None
    idle: bool = False
    decoded: JSON | None = None

    def written(self) -> Written:
        about = self.row.patient_id if self.row else self.before.patient_id if self.before else None
        return Written(self.change, self.status, self.version, self.updated, self.body, self.decoded, about)

    def number(self, version: int) -> None:
        """Take *version* and write the body accordingly: the one time that the resource is encoded."""
        self.version = version
        resource = self.change.resource
        if resource is not None:
            self.body = _body(self.change, resource, str(version), self.updated)


def _refuse_unfit(changes: Sequence[Change]) -> None:
    seen: dict[Key, int] = {}
    for position, change in enumerate(changes):
        key = (_served(change.type), change.id)
        if not ID.fullmatch(change.id):
            raise refuse(
                400, "value", f"'{change.id[:80]}' is no id: 1 to 64 letters, digits, '-' and '.'", "Resource.id"
            )
        if key in seen:
            first = changes[seen[key]].method
            raise refuse(
                400,
                "invalid",
                f"{change.type}/{change.id} is written twice in one request: change {seen[key] + 1} ({first})"
                f" and change {position + 1} ({change.method})",
            )
        seen[key] = position
        if change.method == "delete":
            continue
        if change.resource is None:
            raise refuse(400, "required", f"to {change.method} {change.type}/{change.id} takes a resource")
        if change.resource.get("resourceType") != change.type:
            found = change.resource.get("resourceType")
            raise refuse(400, "invalid", f"the resource is a {found}, not a {change.type}", "Resource.resourceType")


def _draft(change: Change, before: Stored | None, updated: datetime) -> _Draft:
    """What *change* means, given what is there. Refusal 412 when its `if_match` is not the current version."""
    name = f"{change.type}/{change.id}"
    live = before is not None and before.body is not None
    current = before.version if before else 0
    seen = (change.if_match,) if isinstance(change.if_match, int) else change.if_match
    if seen and (not live or current not in seen):
        state = f"is at version {current}" if live else "was deleted" if before else "does not exist"
        headers = {"ETag": f'W/"{current}"'} if live else {}
        said = f"{name} {state}, not at version {either(seen)}: read it again, and decide on what you see then"
        raise Refusal(412, [Issue("conflict", said)], headers)
    if change.method == "delete":
        draft = _Draft(change, 204, current, updated, before, idle=not live)
        if live:
            draft.version += 1
            draft.decoded = before.resource if before else None
        return draft
    assert change.resource is not None
    if live and change.method == "create":
        raise _exists(name)
    draft = _Draft(change, 200 if live else 201, current, updated, before)
    if live and before is not None:
        draft.decoded = before.resource
        if _same(change, before, draft.decoded):
            draft.updated, draft.body, draft.idle = before.updated, before.body, True
            return draft
    draft.row = index(SPECS[change.type], change.resource | {"id": change.id})
    draft.number(current + 1)
    return draft


def either(versions: Sequence[int]) -> str:
    """`2`, or `2 or 3`, for people."""
    return " or ".join(map(str, versions))


def _body(change: Change, resource: JSON, version: str, updated: datetime) -> str:
    meta = {**resource.get("meta", {}), "versionId": version, "lastUpdated": instant(updated)}
    return encode(
        {"resourceType": change.type, "id": change.id, "meta": meta} | resource | {"id": change.id, "meta": meta}
    ).decode()


@lru_cache(16)  # all of a batch are written at one instant
def instant(at: datetime) -> str:
    """`2026-11-21T09:58:00.123Z`: UTC to the millisecond, which is how `updated` is kept."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_canonical = msgspec.json.Encoder(order="deterministic", decimal_format="number")


def _same(change: Change, before: Stored, decoded: JSON | None) -> bool:
    """Whether the resource says what is stored already, whatever the order of its members. 1.50 is not 1.5."""
    assert change.resource is not None and decoded is not None
    meta = decoded["meta"]
    new = change.resource | {"id": change.id}
    new["meta"] = {**new.get("meta", {}), "versionId": meta["versionId"], "lastUpdated": meta["lastUpdated"]}
    return new == decoded and _canonical.encode(new) == _canonical.encode(decoded)


def _exists(name: str) -> Refusal:
    return refuse(409, "duplicate", f"{name} exists already: update it instead")


async def _insert(pg: Connection, drafts: Sequence[_Draft], author: str, updated: datetime) -> None:
    waiting: dict[str, list[_Draft]] = {}
    for draft in drafts:
        if not draft.idle:
            waiting.setdefault(draft.change.type, []).append(draft)
    for type_ in sorted(waiting):
        # In the order of ids, so that two batches that write the same ones wait for each other, not in a ring.
        group = sorted(waiting[type_], key=lambda draft: draft.change.id)
        lost = await _put(pg, type_, [draft for draft in group if draft.row is not None], author, updated)
        if lost:
            lost = await _put(pg, type_, await _revived(pg, type_, lost), author, updated)
        lost += await _remove(pg, type_, [draft for draft in group if draft.row is None], author, updated)
        if lost:
            raise Overtaken(409, [_overtaken(draft) for draft in lost[:20]])


async def _revived(pg: Connection, type_: str, lost: Sequence[_Draft]) -> list[_Draft]:
    """New resources whose id turned out to be taken: by a deletion they go on from, or Refusal 409."""
    latest = await load(pg, [(type_, draft.change.id) for draft in lost])
    for draft in lost:
        stored = latest.get((type_, draft.change.id))
        if stored is None or stored.body is not None or draft.change.method != "create":
            if draft.change.method == "create":
                raise _exists(f"{type_}/{draft.change.id}")
            raise Overtaken(409, [_overtaken(draft)])
        draft.number(stored.version + 1)
    return list(lost)


def _overtaken(draft: _Draft) -> Issue:
    return _meanwhile(f"{draft.change.type}/{draft.change.id}")


def _meanwhile(name: str) -> Issue:
    return Issue("conflict", f"{name} was written by someone else at the same moment: read it, and try again")


async def _put(pg: Connection, type_: str, drafts: Sequence[_Draft], author: str, updated: datetime) -> list[_Draft]:
    """Insert versions and their search rows; gives back those whose version somebody else has written."""
    if not drafts:
        return []
    rows = [draft.row for draft in drafts if draft.row is not None]
    columns = [
        [draft.change.id for draft in drafts],
        [str(draft.version) for draft in drafts],
        [row.patient_id or "" for row in rows],
        [_METHODS[draft.change.method] for draft in drafts],
        [draft.change.author or author for draft in drafts],
        [draft.body or "" for draft in drafts],
        [_ITEMS.join(row.keys) for row in rows],
    ]
    spec = SPECS[type_]
    if spec.strings:
        columns.append([_ITEMS.join(row.strings) for row in rows])
    for date in spec.dates:
        column = date_column(date)
        columns.append([_range_text(row.dates.get(column)) for row in rows])
    if spec.amounts:
        columns.append(["" if row.low is None else repr(row.low) for row in rows])
        columns.append(["" if row.high is None else repr(row.high) for row in rows])
    texts = [_ROWS.join(column) for column in columns]
    result = await pg.execute(_put_sql(type_), (*texts, updated, updated))
    return await _missing(result, drafts)


async def _remove(pg: Connection, type_: str, drafts: Sequence[_Draft], author: str, updated: datetime) -> list[_Draft]:
    if not drafts:
        return []
    texts = [
        _ROWS.join(draft.change.id for draft in drafts),
        _ROWS.join(str(draft.version) for draft in drafts),
        _ROWS.join((draft.before.patient_id if draft.before else None) or "" for draft in drafts),
        _ROWS.join(draft.change.author or author for draft in drafts),
    ]
    return await _missing(await pg.execute(_remove_sql(type_), (*texts, updated)), drafts)


async def _missing(result: psycopg.AsyncCursor[Any], drafts: Sequence[_Draft]) -> list[_Draft]:
    if result.rowcount == len(drafts):
        return []
    done = {row[0] for row in await result.fetchall()}
    return [draft for draft in drafts if draft.change.id not in done]


def _range_text(range_: Range | None) -> str:
    if range_ is None:
        return ""
    low, high = range_
    return f"[{low.isoformat() if low else ''},{high.isoformat() if high else ''})"


def _split(count: int) -> str:
    """The placeholders of *count* columns, unpacked side by side; an empty text is NULL."""
    return ", ".join([f"string_to_array(%s, '{_ROWS}', '')"] * count)


@cache
def _put_sql(type_: str) -> str:
    spec = SPECS[type_]
    columns = ["keys"]
    values = [f"coalesce(string_to_array(given.keys, '{_ITEMS}'), '{{}}')"]
    if spec.strings:
        columns.append("strings")
        values.append(f"array_to_tsvector(string_to_array(given.strings, '{_ITEMS}'))")
    for date in spec.dates:
        columns.append(date_column(date))
        values.append(f"given.{date_column(date)}::tstzrange")
    if spec.amounts:
        columns += ["low", "high"]
        values += ["given.low::float8", "given.high::float8"]
    table = f"r_{type_.lower()}"
    changed = ("version", "updated", "patient_id", *columns)
    return f"""
        WITH given AS MATERIALIZED (
            SELECT * FROM unnest({_split(6 + len(columns))})
            AS given (id, version, patient_id, method, author, body, {", ".join(columns)})
        ), kept AS (
            INSERT INTO {versions_of(type_)} (type, id, version, patient_id, method, author, body, updated)
            SELECT '{type_}', id, version::int, patient_id, method, author, body, %s FROM given
            ON CONFLICT DO NOTHING RETURNING id
        )
        INSERT INTO {table} (id, version, updated, patient_id, {", ".join(columns)})
        SELECT given.id, given.version::int, %s, given.patient_id, {", ".join(values)}
        FROM given JOIN kept ON kept.id = given.id
        ON CONFLICT (id) DO UPDATE SET {", ".join(f"{column} = excluded.{column}" for column in changed)}
        RETURNING id"""


@cache
def _remove_sql(type_: str) -> str:
    table = f"r_{type_.lower()}"
    return f"""
        WITH given AS MATERIALIZED (
            SELECT * FROM unnest({_split(4)}) AS given (id, version, patient_id, author)
        ), kept AS (
            INSERT INTO resource_version (type, id, version, patient_id, method, author, updated)
            SELECT '{type_}', id, version::int, patient_id, 'DELETE', author, %s FROM given
            ON CONFLICT DO NOTHING RETURNING id
        )
        DELETE FROM {table} USING kept WHERE {table}.id = kept.id RETURNING {table}.id"""


@cache
def _latest_sql(type_: str) -> str:
    return f"""
        SELECT latest.* FROM unnest(%s::text[]) AS wanted (id) CROSS JOIN LATERAL (
            SELECT id, version, updated, patient_id, body FROM resource_version
            WHERE type = '{type_}' AND id = wanted.id ORDER BY version DESC LIMIT 1
        ) AS latest"""


@cache
def _locked_sql(type_: str) -> str:
    """`_latest_sql`, and the version in the search row that is locked: none of what is deleted."""
    return f"""
        SELECT latest.*, held.version FROM unnest(%s::text[]) AS wanted (id)
        LEFT JOIN LATERAL (SELECT version FROM r_{type_.lower()} WHERE id = wanted.id FOR UPDATE) AS held ON TRUE
        CROSS JOIN LATERAL (
            SELECT id, version, updated, patient_id, body FROM resource_version
            WHERE type = '{type_}' AND id = wanted.id ORDER BY version DESC LIMIT 1
        ) AS latest"""


def _by_type(keys: Iterable[Key]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for type_, id_ in dict.fromkeys(keys):
        grouped.setdefault(type_, []).append(id_)
    return dict(sorted(grouped.items()))


def _served(type_: str) -> str:
    """*type_* itself, when it may stand in SQL: a type of the registry. Refusal 404 otherwise."""
    if type_ not in SPECS:
        raise refuse(404, "not-supported", f"the hub keeps no resources of type '{type_[:64]}'")
    return type_
