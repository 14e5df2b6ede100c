"""Files that hold resources: which they are, in which order to read them, and the entries that stand in them.

Bundles (transaction, batch, collection, searchset), single resources and NDJSON, plain or gzip.
"""

import gzip
import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import NAMESPACE_URL, UUID, uuid5

from fhir import validation, wire
from fhir.outcome import Refusal, refuse
from fhir.store import ID
from fhir.types import SERVED

JSON = dict[str, Any]

LINES = (".ndjson", ".jsonl")
DOCUMENTS = (".json",)
UNPACKED = frozenset({"transaction", "batch", "collection", "searchset"})

# Longest line of an NDJSON file, so that a file of one endless line cannot fill the memory.
LONGEST_LINE = 64 * 1024 * 1024

# What others refer to comes first, what is judged by what is there comes last: flags stand before the readings that
# would raise them again. Types that are not here come in the middle.
_FIRST = "Organization Location HealthcareService Endpoint Practitioner PractitionerRole Patient RelatedPerson Person"
_PLANNED = "Consent Condition CareTeam Goal CarePlan ServiceRequest Device"
_LAST = "Encounter Appointment Task Communication Flag Observation Provenance AuditEvent"
_RANK = {name: number for number, name in enumerate(f"{_FIRST} {_PLANNED} * {_LAST}".split())}

_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]+)"')
_SEARCH = re.compile(r"[A-Z][A-Za-z]+\?")
_TELLING_REFERENCE = re.compile(rb'"reference"\s*:\s*"(?:urn:|[A-Za-z]+\?)')


def rank(type_: str) -> int:
    """Where a type stands in the order of loading."""
    return _RANK.get(type_, _RANK["*"])


@dataclass(frozen=True, slots=True)
class Source:
    """One file. *first* is the type of the first resource in it, which decides when it is read."""

    path: Path
    size: int
    lines: bool
    first: str


@dataclass(slots=True)
class Entry:
    """One entry of a file, counted from 1. Either *refusal* says what is wrong, or *resource* has passed validation.

    *aliases* are what others may call it (`urn:uuid:...`, an absolute URL), *nickname* (`Type/id`) what only entries of
    the same file mean by it, since the sender's id may be somebody else's here. *condition* is a query for who may be
    there already: such a one stays as it is or, with *replaces*, gets this as its new version. *loose* says that there
    may be references by urn or by search. *offset* is how far the file has been read, in bytes.
    """

    number: int
    type: str
    id: str
    resource: JSON | None
    offset: int
    aliases: tuple[str, ...] = ()
    nickname: str | None = None
    condition: str | None = None
    replaces: bool = False
    loose: bool = False
    deletes: bool = False
    refusal: Refusal | None = None

    @property
    def reference(self) -> str:
        return f"{self.type}/{self.id}"


def discover(paths: Sequence[Path]) -> list[Source]:
    """Every file to read under *paths*, in the order of reading. Refusal 404 for a path that is not there, 422 for a
    named file that is neither JSON nor NDJSON; in folders such files are passed over."""
    found: dict[Path, Source] = {}
    for path in paths:
        if not path.exists():
            raise refuse(404, "not-found", f"There is no file or folder {path}.")
        if path.is_dir():
            for file in sorted(child for child in path.rglob("*") if child.is_file() and _kind(child)):
                found[file] = _look(file)
        elif _kind(path):
            found[path] = _look(path)
        else:
            named = ", ".join((*DOCUMENTS, *LINES))
            raise refuse(422, "not-supported", f"{path} is not named as JSON or NDJSON ({named}, each also with .gz).")
    return sorted(found.values(), key=lambda source: (rank(source.first), source.path))


def digest(path: Path) -> bytes:
    """sha256 of the file as it lies there."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def entries(source: Source, fingerprint: bytes, skip: int = 0) -> Iterator[Entry]:
    """The entries of a file; of NDJSON only those after the first *skip*. Of a document all, since what comes later may
    be referred to by what comes first. Raises Refusal when the file as a whole cannot be read."""
    if source.lines:
        yield from _lines(source, fingerprint, skip)
    else:
        yield from _document(source, fingerprint)


def resolve(node: Any, find: Callable[[str], str | None]) -> list[str]:
    """Replace, in place, every literal reference for which *find* knows a better one; gives those that stay loose
    (`urn:...`, `Type?query`)."""
    loose: list[str] = []
    below: list[Any] = [node]
    while below:
        current = below.pop()
        if type(current) is dict:
            reference = current.get("reference")
            if type(reference) is str:
                known = find(reference)
                if known is not None:
                    current["reference"] = known
                elif is_loose(reference):
                    loose.append(reference)
            below.extend(child for child in current.values() if type(child) is dict or type(child) is list)
        else:
            below.extend(child for child in current if type(child) is dict or type(child) is list)
    return loose


def is_loose(reference: str) -> bool:
    """Whether a reference can be followed by nobody once the file is gone."""
    return reference.startswith("urn:uuid:") or _SEARCH.match(reference) is not None


def _kind(path: Path) -> str | None:
    name = path.name.removesuffix(".gz")
    return next((suffix for suffix in (*LINES, *DOCUMENTS) if name.endswith(suffix)), None)


def _open(path: Path) -> tuple[BinaryIO, BinaryIO]:
    """The content, unpacked, and the file below it, whose position tells the progress."""
    raw = path.open("rb")
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw)), raw
    return raw, raw


def _look(path: Path) -> Source:
    content, raw = _open(path)
    with closing(raw), closing(content):
        try:
            head = content.read(16 * 1024)
        except (OSError, EOFError):
            head = b""
    types = [name.decode() for name in _TYPE.findall(head)]
    first = next((name for name in types if name != "Bundle"), "Bundle")
    return Source(path, path.stat().st_size, _kind(path) in LINES, first)


def _lines(source: Source, fingerprint: bytes, skip: int) -> Iterator[Entry]:
    content, raw = _open(source.path)
    with closing(raw), closing(content):
        number = 0
        while line := _line(source, content):
            if not line.strip():
                continue
            number += 1
            if number > skip:
                yield _entry_of_line(line, number, raw.tell(), fingerprint)


def _line(source: Source, content: BinaryIO) -> bytes:
    try:
        line = content.readline(LONGEST_LINE)
    except (OSError, EOFError) as error:
        raise refuse(400, "structure", f"{source.path.name} cannot be read: {error}") from error
    if len(line) == LONGEST_LINE:
        raise refuse(400, "too-long", f"{source.path.name} has a line of more than {LONGEST_LINE} bytes.")
    return line


def _entry_of_line(line: bytes, number: int, offset: int, fingerprint: bytes) -> Entry:
    try:
        parsed = validation.parse(line)
    except Refusal as refusal:
        return Entry(number, _type_in(line), "", None, offset, refusal=refusal)
    resource = parsed.resource
    loose = b"urn:" in line or b"?" in line
    ident = resource.get("id") or _made_id(fingerprint, number)
    loose = loose and _TELLING_REFERENCE.search(line) is not None
    return Entry(number, parsed.type, ident, resource, offset, loose=loose)


def _document(source: Source, fingerprint: bytes) -> Iterator[Entry]:
    content, raw = _open(source.path)
    with closing(raw), closing(content):
        try:
            document = wire.decode(content.read())
        except (OSError, EOFError) as error:
            raise refuse(400, "structure", f"{source.path.name} cannot be read: {error}") from error
    if document.get("resourceType") == "Bundle" and document.get("type") in UNPACKED:
        found = document.get("entry") or []
        if not isinstance(found, list):
            raise refuse(400, "structure", "Bundle.entry must be a list", "Bundle.entry")
        for number, element in enumerate(found, 1):
            entry = _entry_of_bundle(element, number, source.size * number // len(found), fingerprint)
            if entry is not None:
                yield entry
    elif document.get("resourceType") == "Bundle" and document.get("type") == "history":
        raise refuse(422, "not-supported", "A history Bundle holds old versions; import a collection or NDJSON.")
    else:
        ident = document.get("id") or _made_id(fingerprint, 1)
        entry = Entry(1, str(document.get("resourceType")), ident, document, source.size, loose=True)
        yield _checked(entry)


def _entry_of_bundle(element: Any, number: int, offset: int, fingerprint: bytes) -> Entry | None:
    """None for what is no record, such as the OperationOutcome of a searchset."""
    here = f"Bundle.entry[{number - 1}]"
    if not isinstance(element, dict):
        return _unfit(number, offset, 400, "structure", "an entry must be an object", here)
    resource, request = element.get("resource"), element.get("request")
    if not isinstance(request, dict):
        request = {}
    method, url = request.get("method"), str(request.get("url") or "")
    if method == "DELETE":
        return _deletion(url, number, offset, here)
    if method in ("GET", "HEAD", "PATCH"):
        return _unfit(number, offset, 422, "not-supported", f"an import does not carry out {method}", here)
    if not isinstance(resource, dict):
        return _unfit(number, offset, 400, "required", "an entry without a resource", f"{here}.resource")
    kind = str(resource.get("resourceType"))
    if kind == "OperationOutcome":
        return None
    own, full_url = resource.get("id"), str(element.get("fullUrl") or "")
    target, searches, criteria = url.partition("?")
    if method == "PUT" and "/" in target:
        # Whatever server an absolute URL names, the resource lands here.
        ident = target.rpartition("/")[2]
    elif full_url.startswith("urn:uuid:") and (method == "POST" or not own):
        # The sender's ids are its own affair when it posts; its UUIDs are unique, and the same when it sends again.
        ident = _uuid(full_url) or _made_id(fingerprint, number)
    else:
        ident = str(own) if own else _made_id(fingerprint, number)
    entry = Entry(number, kind, ident, resource, offset, (full_url,) if full_url else (), loose=True)
    if own and own != ident:
        entry.nickname = f"{kind}/{own}"
    entry.replaces = method == "PUT" and bool(searches)
    entry.condition = criteria if entry.replaces else (str(request.get("ifNoneExist") or "") or None)
    return _checked(entry)


def _deletion(url: str, number: int, offset: int, here: str) -> Entry:
    path, _, ident = url.rpartition("/")
    type_ = path.rpartition("/")[2]
    if type_ not in SERVED or "?" in ident:
        return _unfit(number, offset, 422, "not-supported", "a deletion must name one resource: Type/id", here)
    return Entry(number, type_, ident, None, offset, deletes=True)


def _unfit(number: int, offset: int, status: int, code: str, why: str, where: str) -> Entry:
    return Entry(number, "", "", None, offset, refusal=refuse(status, code, why, where))


def _checked(entry: Entry) -> Entry:
    try:
        assert entry.resource is not None
        validation.check(entry.resource)
        if not ID.fullmatch(entry.id):
            raise refuse(400, "value", f"{entry.id[:80]!r} is not an id: 1 to 64 letters, digits, '-' and '.'")
    except Refusal as refusal:
        entry.refusal = refusal
    return entry


def _uuid(full_url: str) -> str | None:
    try:
        return str(UUID(full_url.removeprefix("urn:uuid:")))
    except ValueError:
        return None


def _made_id(fingerprint: bytes, number: int) -> str:
    """The same id each time the same file is read."""
    return str(uuid5(NAMESPACE_URL, f"urn:sha256:{fingerprint.hex()}:{number}"))


def _type_in(line: bytes) -> str:
    found = _TYPE.search(line)
    return found.group(1).decode() if found else ""
