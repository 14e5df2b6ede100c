"""JSON or XML: which of the two is asked for, and bodies turned from one into the other at the edge of `/fhir`.

Everything behind it knows JSON alone: a body of XML is turned into JSON before it is read, an answer into XML after it
was made.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fhir import xml_reading, xml_writing
from fhir.outcome import Refusal, refuse
from fhir.wire import encode
from hub.fhir_http import FHIR_JSON, FHIR_XML, JSON_TYPES, XML_TYPES, parameters

# Bytes: a larger body is turned in a thread, so that others are answered meanwhile.
_LARGE = 256 * 1024
# Parameters that shape an answer instead of choosing it.
_SHAPING = frozenset({"_format", "_pretty"})


@dataclass(frozen=True, slots=True)
class Format:
    """How an answer is to be written."""

    xml: bool = False
    pretty: bool = False


AS_STORED = Format()
# Not as strict as what reads bodies: a bundle is deeper than the resources that it holds may be.
_answers = msgspec.json.Decoder(float_hook=Decimal)


def shape(pairs: Sequence[tuple[str, str]], accept: str | None) -> tuple[list[tuple[str, str]], Format]:
    """The parameters that choose, and how the answer is to look. Refusal 406 when neither JSON nor XML is wanted."""
    wanted = next((value for name, value in pairs if name == "_format"), None)
    xml = _named(wanted) if wanted is not None else _accepted(accept) if accept is not None else False
    if xml is None:
        said = f"_format {wanted[:64]!r}" if wanted is not None else f"Accept {(accept or '')[:200]!r}"
        text = f"{said} leaves nothing to answer with; {FHIR_JSON} and {FHIR_XML} are spoken"
        raise refuse(406, "not-supported", text)
    pretty = any(name == "_pretty" and value == "true" for name, value in pairs)
    chosen = [(name, value) for name, value in pairs if name not in _SHAPING]
    return chosen, Format(xml, pretty) if xml or pretty else AS_STORED


def wanted(request: Request) -> Format:
    """The same for an answer that is a refusal anyway: JSON where nothing else can be understood."""
    try:
        return shape(parameters(request), request.headers.get("accept"))[1]
    except Refusal:
        return AS_STORED


def is_xml(content_type: str | None) -> bool:
    return (content_type or "").partition(";")[0].strip().lower() in XML_TYPES


async def from_xml(raw: bytes) -> bytes:
    """The JSON of an XML body. Refusal 400 with line and column."""
    return await asyncio.to_thread(_json, raw) if len(raw) > _LARGE else _json(raw)


async def written(response: Response, format_: Format) -> Response:
    """*response* as it was asked for. What is not FHIR JSON, such as NDJSON or a stream, stays as it is."""
    response.raw_headers.append((b"vary", b"Accept"))
    if format_ is AS_STORED or type(response) is not Response:
        return response
    body = bytes(response.body)
    if not body or not response.headers.get("content-type", "").startswith(FHIR_JSON):
        return response
    if len(body) > _LARGE:
        response.body = await asyncio.to_thread(_in_format, body, format_)
    else:
        response.body = _in_format(body, format_)
    response.headers["content-length"] = str(len(response.body))
    if format_.xml:
        response.headers["content-type"] = f"{FHIR_XML}; charset=utf-8"
    return response


def _json(raw: bytes) -> bytes:
    return encode(xml_reading.decode(raw))


def _in_format(body: bytes, format_: Format) -> bytes:
    if format_.xml:
        return xml_writing.encode(_answers.decode(body), format_.pretty)
    return msgspec.json.format(body, indent=2)


def _named(format_: str) -> bool | None:
    """Whether `_format` names XML; None for what is neither. A + that was not escaped arrives as a space."""
    media, *options = (piece.strip().replace(" ", "+").lower() for piece in format_.split(";"))
    if any(one.startswith("fhirversion=") and one != "fhirversion=4.0" for one in options):
        return None
    if media in JSON_TYPES or media == "json":
        return False
    return True if media in XML_TYPES or media == "xml" else None


@lru_cache(128)
def _accepted(accept: str) -> bool | None:
    """Whether *accept* prefers XML; None when it accepts neither.

    RFC 9110, 12.5.1: the most specific range decides about each. Where both are as welcome, the one that is named wins
    over the one that only `*/*` lets in, then the first, then JSON.
    """
    ranges = [one for at, part in enumerate(accept.split(",")) if (one := _range(part, at)) is not None]
    offers: list[tuple[float, int, int, bool]] = []
    for xml, media in ((False, JSON_TYPES), (True, XML_TYPES)):
        matching = [(depth, quality, -at) for named, depth, quality, at in ranges if depth < 2 or named in media]
        if matching:
            depth, quality, at = max(matching)
            offers.append((quality, depth, at, not xml))
    acceptable = [offer for offer in offers if offer[0] > 0]
    return not max(acceptable)[3] if acceptable else None


def _range(part: str, at: int) -> tuple[str, int, float, int] | None:
    """One part of Accept: media, how specific it is (0 to 2), its quality, its place; None for what is not spoken."""
    media, *options = (piece.strip().lower().replace(" ", "") for piece in part.split(";"))
    depth = {"*/*": 0, "application/*": 1}.get(media, 2)
    if depth == 2 and media not in JSON_TYPES and media not in XML_TYPES:
        return None
    quality = 1.0
    for option in options:
        name, _, value = option.partition("=")
        if name == "fhirversion" and value.strip('"') != "4.0":
            return None
        if name == "q":
            try:
                quality = float(value)
            except ValueError:
                return None
            if not 0 <= quality <= 1:
                return None
    return media, depth, quality, at
