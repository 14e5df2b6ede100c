"""What `_include` and `_revinclude` add to a page: one statement for each level, nothing that the actor may not see."""

from collections.abc import Mapping, Sequence, Set

from fhir.asked import Include
from fhir.criteria import parameter
from fhir.outcome import Issue, refuse
from fhir.page import Found
from fhir.registry import SPECS, SearchParam
from fhir.store import Connection, Sql, Visible

# More would be a page that nobody reads and a reply that does not fit in memory; the client asks for less instead.
MOST_INCLUDED = 10_000
MOST_LEVELS = 8


async def included(
    pg: Connection, matches: Mapping[str, Mapping[str, list[str]]], includes: Sequence[Include], visible: Visible
) -> tuple[list[Found], list[Issue]]:
    """What the *matches* (by type, ids with their keys) refer to and what refers to them, each once; and a warning when
    it may go on beyond MOST_LEVELS.

    Refusal 400 beyond MOST_INCLUDED.
    """
    level: dict[str, dict[str, list[str]]] = {type_: dict(ids) for type_, ids in matches.items()}
    seen = {(type_, id_) for type_, ids in matches.items() for id_ in ids}
    entries: list[Found] = []
    for number in range(MOST_LEVELS):
        active = [include for include in includes if number == 0 or include.iterate]
        parts = _level_sql(active, level, seen, visible)
        if not parts:
            break
        text = " UNION ALL ".join(part.text for part in parts)
        result = await pg.execute(
            f"SELECT f.type, f.id, f.keys, v.body, v.patient_id FROM ({text}) f"
            " JOIN resource_version v ON v.type = f.type AND v.id = f.id AND v.version = f.version LIMIT %s",
            (*(value for part in parts for value in part.params), MOST_INCLUDED + len(seen) + 1),
            prepare=False,
        )
        level = {}
        async for kind, id_, keys, body, patient_id in result:
            if (kind, id_) not in seen:
                seen.add((kind, id_))
                level.setdefault(kind, {})[id_] = keys
                entries.append(Found("include", kind, id_, body, patient_id))
        if len(entries) > MOST_INCLUDED:
            said = f"the page would include more than {MOST_INCLUDED} resources: ask for a smaller _count"
            raise refuse(400, "too-costly", said, "_include")
    further = [include for include in includes if include.iterate]
    if level and _level_sql(further, level, seen, visible):
        said = f"what is included was followed over {MOST_LEVELS} references; there may be more beyond"
        return entries, [Issue("too-costly", said, "_include", severity="warning")]
    return entries, []


def _level_sql(
    includes: Sequence[Include],
    level: Mapping[str, Mapping[str, list[str]]],
    seen: Set[tuple[str, str]],
    visible: Visible,
) -> list[Sql]:
    """`SELECT type, id, version, keys` of what the *includes* add to *level*. Invisible types add nothing."""
    forward: dict[str, dict[str, None]] = {}
    backward: dict[str, dict[str, None]] = {}
    for include in includes:
        for param in _followed(include):
            targets = ({include.target} if include.target else param.targets or SPECS.keys()) & SPECS.keys()
            if include.reverse:
                wanted = backward.setdefault(include.type, {})
                for target in targets & level.keys():
                    wanted |= {f"{name}={target}/{id_}": None for id_ in level[target] for name in param.stored}
                continue
            prefixes = tuple(f"{name}=" for name in param.stored)
            for keys in level.get(include.type, {}).values():
                for key in keys:
                    if key.startswith(prefixes):
                        target, slash, id_ = key.partition("=")[2].partition("/")
                        if slash and target in targets and (target, id_) not in seen:
                            forward.setdefault(target, {})[id_] = None
    asked = [(type_, "r.id = ANY(%s::text[])", list(ids)) for type_, ids in forward.items()]
    asked += [(type_, "r.keys && %s::text[]", list(keys)) for type_, keys in backward.items() if keys]
    parts = []
    for type_, test, values in asked:
        limit = visible(type_, "r")
        if limit is not None:
            table = f"r_{type_.lower()}"
            text = f"SELECT '{type_}' AS type, r.id, r.version, r.keys FROM {table} r WHERE {test} AND ({limit[0]})"
            parts.append(Sql(text, (values, *limit[1])))
    return parts


def _followed(include: Include) -> list[SearchParam]:
    spec = SPECS[include.type]
    if include.param != "*":
        return [parameter(spec, include.param)]
    return [param for param in spec.params.values() if param.type == "reference"]
