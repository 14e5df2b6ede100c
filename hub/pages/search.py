"""What was typed into the one search box: a name, an NHS number or a date of birth."""

import re
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import class_row

from hub.access import people
from hub.identity import Actor
from hub.pages.words import MONTHS

MOST = 20
SHORTEST = 2


class Wanted(NamedTuple):
    """One of: `number` (the first digits of an NHS number), `born`, `names` (beginnings of search names)."""

    number: str | None = None
    born: date | None = None
    names: tuple[str, ...] = ()


_DATE = re.compile(r"(\d{1,2})[/.\- ](\d{1,2}|[a-z]{3,9})[/.\- ](\d{4})")
_ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")


def wanted(typed: str) -> Wanted | None:
    """What *typed* asks for; None when it is too short or nothing we know.

    `999 012`, `9990123456` -> number; `4/3/1948`, `4 Mar 1948`, `1948-03-04` -> born; `oakes marg`, `marg oakes`,
    `Oakes, Marg` -> names, in both orders.
    """
    text = " ".join(typed.casefold().replace(",", " ").split())
    if len(text) < SHORTEST:
        return None
    born = _born(text)
    if born is not None:
        return Wanted(born=born)
    digits = re.sub(r"[\s\-]", "", text)
    if digits.isdigit():
        return Wanted(number=digits) if 3 <= len(digits) <= 10 else None
    if any(letter.isdigit() for letter in text):
        return None
    parts = text.split(" ")
    names = [text]
    if len(parts) > 1:
        names.append(" ".join((parts[-1], *parts[:-1])))
    return Wanted(names=tuple(names))


def _born(text: str) -> date | None:
    iso, written = _ISO.fullmatch(text), _DATE.fullmatch(text)
    try:
        if iso:
            return date(*(int(part) for part in iso.groups()))
        if written:
            day, month, year = written.groups()
            number = int(month) if month.isdigit() else [m.casefold() for m in MONTHS].index(month[:3]) + 1
            return date(int(year), number, int(day))
    except ValueError:
        return None
    return None


@dataclass(frozen=True, slots=True)
class Found:
    patient_id: str
    family: str
    given: str
    called: str | None
    birth_date: date | None
    nhs_number: str | None
    tier: str | None


_FOUND = (
    "person.patient_id, person.family, person.given, person.called, person.birth_date, person.nhs_number, person.tier"
)


async def search(pg: psycopg.AsyncConnection[Any], actor: Actor, asked: Wanted, limit: int = MOST) -> list[Found]:
    """People among those the actor may see, by family name; one more than *limit* tells that there are more."""
    allowed = people(actor)
    if allowed is None:
        return []
    values: list[Any] = []
    if asked.born is not None:
        condition = "person.birth_date = %s"
        values.append(asked.born)
    elif asked.number is not None:
        condition = "person.nhs_number LIKE %s"
        values.append(f"{asked.number}%")
    else:
        # Beginnings of both words: the first finds the rows by index, the second is looked at in these only.
        choices = []
        for name in asked.names:
            first, _, rest = name.partition(" ")
            choices.append(
                "(person.search_name LIKE %s AND person.search_name LIKE %s)" if rest else "person.search_name LIKE %s"
            )
            values += (
                [f"{_literal(first)}%", f"{_literal(first)}% {_literal(rest)}%"] if rest else [f"{_literal(first)}%"]
            )
        condition = f"({' OR '.join(choices)})"
    cursor = pg.cursor(row_factory=class_row(Found))
    await cursor.execute(
        f"SELECT {_FOUND} FROM person WHERE {condition} AND {allowed.text}"
        " ORDER BY person.search_name, person.patient_id LIMIT %s",
        (*values, *allowed.params, limit + 1),
        # A prepared plan cannot know how the words begin, so it would read the whole table.
        prepare=False,
    )
    return await cursor.fetchall()


async def mine(
    pg: psycopg.AsyncConnection[Any], actor: Actor, after: str | None = None, limit: int = 50
) -> list[Found]:
    """The actor's own people in the order of their names, after the person *after*; one more tells of a next page."""
    cursor = pg.cursor(row_factory=class_row(Found))
    await cursor.execute(
        f"""SELECT {_FOUND} FROM person
            WHERE person.patient_id IN (
                SELECT access.patient_id FROM access WHERE access.subject = %s AND access.basis = 'team'
                AND (access.since IS NULL OR access.since <= now()) AND (access.until IS NULL OR access.until > now()))
              AND (%s::text IS NULL OR (person.search_name, person.patient_id) >
                   (SELECT last.search_name, last.patient_id FROM person last WHERE last.patient_id = %s))
            ORDER BY person.search_name, person.patient_id LIMIT %s""",
        (actor.reference, after, after, limit + 1),
        prepare=False,
    )
    return await cursor.fetchall()


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
