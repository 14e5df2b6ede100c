"""Narrative between JSON, where it is a string, and XML, where it is a part of the document."""

import re
from html.entities import html5
from xml.parsers import expat

XHTML = "http://www.w3.org/1999/xhtml"

_DIV = f"{XHTML} div"
_START = re.compile(r"\s*<div\b")
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{0,31};)")
_OWN = frozenset({"amp;", "lt;", "gt;", "quot;", "apos;"})


def as_element(div: str) -> str:
    """The XML of a narrative as stored, which must stand by itself: an unclosed tag would break the document around it.

    Narrative that is not XML (stored through JSON, where nobody parses it) comes back whole, as the text that it is.
    """
    if _root(div) == _DIV:
        return div.strip()
    if (declared := declaring(_without_entities(div))) is not None:
        return declared
    shown = div.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<div xmlns="{XHTML}">{"".join(letter if _allowed(letter) else "�" for letter in shown)}</div>'


def declaring(div: str) -> str | None:
    """*div*, cut out of a document, as a string that says its own namespace; None when it does not stand by itself."""
    found = _root(div) if _START.match(div) else None
    if found == "div":
        return _START.sub(f'<div xmlns="{XHTML}"', div, count=1)
    return div.strip() if found == _DIV else None


def _root(text: str) -> str | None:
    """The name of the root element, namespace first, or None when *text* is not one well-formed element."""
    names: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")

    def start(name: str, attributes: dict[str, str]) -> None:
        if not names:
            names.append(name)

    def declares(*_: object) -> None:
        raise ValueError("a document type")

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = declares
    try:
        # As a document of its own, whatever it begins with: no declaration of an encoding takes effect.
        parser.Parse(text.strip().encode("utf-8", "replace"), True)
    except (expat.ExpatError, ValueError):
        return None
    return names[0]


def _without_entities(text: str) -> str:
    """The names that HTML has for letters mean nothing to XML: `&nbsp;` becomes the letter itself."""
    return _ENTITY.sub(lambda found: found[0] if found[1] in _OWN else html5.get(found[1], found[0]), text)


def _allowed(letter: str) -> bool:
    return letter in "\t\n\r" or " " <= letter <= "\ud7ff" or "\ue000" <= letter <= "\ufffd" or letter >= "\U00010000"
