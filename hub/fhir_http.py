"""FHIR over HTTP: which bodies are read, which answers may be given, and how a refusal is said."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from fhir.outcome import Issue, Refusal, operation_outcome, outcome_of, refuse
from fhir.wire import encode
from hub.forwarding import told
from monitoring.doubts import Doubt

FHIR_JSON = "application/fhir+json"
FHIR_XML = "application/fhir+xml"
JSON_TYPES = frozenset({FHIR_JSON, "application/json", "text/json"})
XML_TYPES = frozenset({FHIR_XML, "application/xml", "text/xml"})
FORM = "application/x-www-form-urlencoded"


def parameters(request: Request) -> list[tuple[str, str]]:
    """The query, in its order. Refusal 400 when it is not UTF-8 or holds NUL, which PostgreSQL cannot compare."""
    return decoded(request.scope["query_string"])


def decoded(query: bytes) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=500)
    except ValueError:
        raise refuse(400, "value", "the parameters are not URL-encoded UTF-8, or more than 500") from None
    if any("\x00" in name or "\x00" in value for name, value in pairs):
        raise refuse(400, "value", "a parameter holds the NUL character")
    return pairs


@lru_cache(256)
def check_media(content_type: str | None, others: tuple[str, ...] = ()) -> None:
    """Refusal 415 for a body that is not said to be FHIR JSON or XML in UTF-8, nor one of *others*."""
    media, *options = (piece.strip().lower() for piece in (content_type or FHIR_JSON).split(";"))
    if media not in JSON_TYPES | XML_TYPES and media not in others:
        known = " or ".join((FHIR_JSON, FHIR_XML, *others))
        raise refuse(415, "not-supported", f"Content-Type {media[:100]!r} is not read here; send {known}")
    for option in options:
        name, _, value = option.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise refuse(415, "not-supported", f"FHIR is sent in UTF-8, not in {value[:40]}")
        if name == "fhirversion" and value.strip('"') != "4.0":
            raise refuse(415, "not-supported", f"FHIR R4 (4.0) is spoken here, not {value[:40]}")


@lru_cache(256)
def preference(prefer: str | None) -> str | None:
    """`minimal`, `representation` or `OperationOutcome` of a Prefer header; None when it says nothing of these."""
    for part in (prefer or "").replace(";", ",").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "return" and value in ("minimal", "representation", "OperationOutcome"):
            return value
    return None


def lenient(prefer: str | None) -> bool:
    """Whether a search may go on without the parameters that it does not understand, and tell of them."""
    parts = (prefer or "").replace(";", ",").split(",")
    return any(part.replace(" ", "").lower() == "handling=lenient" for part in parts)


def http_date(text: str | None) -> datetime | None:
    """The instant of an HTTP date; None when there is none, or none that can be read (RFC 9110: then it is ignored)."""
    try:
        at = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def last_modified(at: datetime) -> str:
    return _http_date(at.astimezone(UTC).replace(microsecond=0))


@lru_cache(64)
def _http_date(at: datetime) -> str:
    return format_datetime(at, usegmt=True)


def answer(status: int, content: Any = None, headers: Mapping[str, str] | None = None) -> Response:
    """*content* is JSON text as stored, a value to encode, or None for no body."""
    if content is None:
        return Response(status_code=status, headers=dict(headers or {}))
    raw = content.encode() if isinstance(content, str) else encode(content)
    return Response(raw, status, dict(headers or {}), media_type=f"{FHIR_JSON}; charset=utf-8")


def refused(refusal: Refusal) -> Response:
    return answer(refusal.status, outcome_of(refusal), refusal.headers)


def said(diagnostics: str, doubts: Sequence[Doubt] = ()) -> dict[str, Any]:
    """An OperationOutcome that says what was done, and what is doubtful about it."""
    done = Issue("informational", diagnostics, severity="information")
    return operation_outcome([done, *(doubt.issue() for doubt in doubts)])


def base_of(configured: str | None, request: Request) -> str:
    """Where `/fhir` of this service is: below the public address when it is set, else below the one that was asked, as
    a trusted proxy tells it."""
    scope = request.scope
    if configured is None and (trusted := request.app.state.runtime.settings.trusted_proxies) is not None:
        configured = told(request, trusted)
    # Not `request.base_url`, which takes a URL apart and puts it together again; the host was checked on the way in.
    asked = f"{scope['scheme']}://{request.headers['host']}{scope.get('root_path', '').rstrip('/')}"
    return f"{configured or asked}/fhir"


def localise(resource: dict[str, Any], base_url: str) -> dict[str, Any]:
    """Absolute references to this hub become relative, so that they are known for what they are: who a record is about
    decides who may see it."""
    _shorten(resource, f"{base_url}/")
    return resource


def _shorten(node: Any, prefix: str) -> None:
    if isinstance(node, dict):
        reference = node.get("reference")
        if isinstance(reference, str) and reference.startswith(prefix):
            node["reference"] = reference.removeprefix(prefix)
        for child in node.values():
            if isinstance(child, dict | list):
                _shorten(child, prefix)
    else:
        for child in node:
            if isinstance(child, dict | list):
                _shorten(child, prefix)
