"""The tables of docs/access.md, made from `hub.roles`; `python -m hub.matrix` writes them anew."""

from collections.abc import Sequence
from pathlib import Path

from hub.roles import AREAS, PERMISSIONS, ROLES, SHARED_AREAS, SYSTEM_ROLES, TYPE_AREAS, TYPE_PERMISSIONS, Role

PAGE = Path(__file__).parents[1] / "docs" / "access.md"
BEGIN, END = "<!-- made by python -m hub.matrix -->", "<!-- end -->"


def tables() -> str:
    """Roles, areas, permissions and types as Markdown."""
    return "\n\n".join((_roles(), _areas(), _permissions(), _types()))


def fresh(page: str) -> str:
    """*page* with its tables as they are now. ValueError when the marks are missing."""
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{BEGIN} and {END} are not both there")
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def _roles() -> str:
    rows = []
    for role in ROLES.values():
        name = f"{role.name} (no account)" if role.name in SYSTEM_ROLES else role.name
        rows.append((name, role.words, _whose(role)))
    return "### Roles\n\n" + _table(("role", "what it is for", "whose records"), rows)


def _whose(role: Role) -> str:
    if role.everyone:
        return "everyone's"
    if not role.reads & (AREAS.keys() - SHARED_AREAS):
        return "only what names it"
    return "people in its care"


def _areas() -> str:
    rows = []
    for area, words in AREAS.items():
        cells = [_cell(role, area) for role in ROLES.values()]
        rows.append((f"**{area}**: {words}", *cells))
    text = "### Areas\n\n`r` reads, `w` reads and writes, `+` adds some types, `n` sees only rows naming it.\n\n"
    return text + _table(("area", *ROLES), rows)


def _cell(role: Role, area: str) -> str:
    adds = any(TYPE_AREAS[type_] == area for type_ in role.also_writes)
    named = any(TYPE_AREAS[type_] == area for type_ in role.named) or (area == "staff" and role.team_only)
    if area in role.writes:
        return "w"
    return "".join(("r" if area in role.reads else "", "n" if named else "", "+" if adds else ""))


def _permissions() -> str:
    rows = [
        (f"`{word}`", text, *("yes" if word in role.permissions else "" for role in ROLES.values()))
        for word, text in PERMISSIONS.items()
    ]
    return "### Permissions\n\n" + _table(("permission", "lets one", *ROLES), rows)


def _types() -> str:
    rows = []
    for area in AREAS:
        types = sorted(type_ for type_, of in TYPE_AREAS.items() if of == area)
        needed = "; ".join(f"{type_}: `{TYPE_PERMISSIONS[type_]}`" for type_ in types if type_ in TYPE_PERMISSIONS)
        rows.append((area, ", ".join(types), needed))
    return "### FHIR types\n\n" + _table(("area", "types", "writing also takes"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(fresh(PAGE.read_text()))
