"""The rules of narrative, txt-1 and txt-2 (http://hl7.org/fhir/R4/narrative.html): formatting, and something to read.

What the pattern of `xhtml` in `fhir.primitives` refuses (scripts, forms, declarations) never comes here.
"""

import re
from html.entities import html5
from xml.parsers import expat

_NAMES = """
    a abbr acronym address area b bdo big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 h4
    h5 h6 hr i img kbd li map ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt u ul var
"""
ELEMENTS: frozenset[str] = frozenset(_NAMES.split())
"""Chapters 7 to 11 and 15 of HTML 4.0, links and images; `u` as real narratives have it."""

_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{0,31};)")
_TAG_OR_SPACE = re.compile(r"<[^<>]*>|&nbsp;|&#160;|&#xA0;|\s+")
_OWN = frozenset({"amp;", "lt;", "gt;", "quot;", "apos;"})
_XHTML = "http://www.w3.org/1999/xhtml "


class _NotFormatting(Exception):
    """An element that is no formatting."""


def is_formatting(div: str) -> bool:
    """txt-1: one well-formed element of nothing but formatting. HTML's names of letters (`&nbsp;`) are let pass."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = _start
    # Never reached through `xhtml`; whoever calls this otherwise is safe from entities as well.
    parser.StartDoctypeDeclHandler = _declares
    try:
        parser.Parse(_ENTITY.sub(_letter, div.strip()).encode("utf-8", "replace"), True)
    except (expat.ExpatError, _NotFormatting):
        return False
    return True


def has_content(div: str) -> bool:
    """txt-2: a letter, an image, or text that is kept as it is written: HL7's own examples have a <pre> of spaces."""
    return "<img" in div or "<pre" in div or bool(_TAG_OR_SPACE.sub("", div))


def _start(name: str, attributes: dict[str, str]) -> None:
    if name.removeprefix(_XHTML) not in ELEMENTS:
        raise _NotFormatting


def _declares(*_: object) -> None:
    raise _NotFormatting


def _letter(match: re.Match[str]) -> str:
    return match[0] if match[1] in _OWN else html5.get(match[1], match[0])
