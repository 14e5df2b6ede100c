"""FHIR XML as it comes in: to the same JSON that `fhir.wire` gives, so that everything behind it knows one form.

The parser is the standard library's expat, told to refuse what makes XML dangerous: no document type, hence no entities
and nothing fetched; bounded depth, elements and attributes. Elements are known by the shapes of `fhir.structure`; what
their values may be is checked afterwards, as for JSON.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, NoReturn
from xml.parsers import expat

from fhir.outcome import refuse
from fhir.structure import Element, Shape, model_of, shape_of
from fhir.types import LEFT_OUT, SERVED
from fhir.wire import MAX_DEPTH
from fhir.xml_narrative import XHTML, declaring

FHIR = "http://hl7.org/fhir"

MAX_ELEMENTS = 600_000
"""About what a real bundle of 16 MB has; in memory they are some 350 MB."""
MAX_ATTRIBUTES = 32
MAX_NARRATIVE_DEPTH = 100

# Said about a document, not about the resource: where a schema lies, which base its addresses have.
_ABOUT_XML = ("http://www.w3.org/2001/XMLSchema-instance ", "http://www.w3.org/XML/1998/namespace ")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}\Z")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,9})?\Z")
_WHOLES = frozenset({"integer", "unsignedInt", "positiveInt"})


@dataclass(slots=True)
class Node:
    """One element. `xhtml` is the source text of a narrative, which has no children here."""

    name: str
    attributes: dict[str, str]
    line: int
    column: int
    children: list["Node"] = field(default_factory=list)
    xhtml: str | None = None


def decode(raw: bytes) -> dict[str, Any]:
    """The resource in *raw*, as JSON: numbers keep their written precision, narrative its source.

    Refusal 400 with line and column for what is not well-formed, has a document type, or has an element that its type
    does not know; 413 for too many elements. What the values may be is left to validation.
    """
    return _resource(_Document(raw).root())


def attributes_of(shape: Shape) -> frozenset[str]:
    """Which elements of *shape* are attributes in XML."""
    if shape.path in SERVED:
        return frozenset()
    return frozenset({"id", "url"} if shape.path == "Extension" else {"id"})


class _Document:
    """The elements of a document, as expat meets them."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw.removeprefix(b"\xef\xbb\xbf")
        self._stack: list[Node] = []
        self._narrative = 0
        self._from = 0
        self._count = 0
        self._root: Node | None = None
        self._parser = parser = expat.ParserCreate("utf-8", " ")
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._document_type
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text

    def root(self) -> Node:
        """The root element with all below it."""
        try:
            self._raw.decode()
            self._parser.Parse(self._raw, True)
        except UnicodeDecodeError as error:
            raise refuse(400, "structure", f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
        except expat.ExpatError as error:
            said = expat.ErrorString(error.code)
            if error.code == expat.errors.codes[expat.errors.XML_ERROR_UNDEFINED_ENTITY]:
                said += "; there are &amp; &lt; &gt; &quot; &apos; and numbers such as &#160;"
            where = _at(error.lineno, error.offset + 1)
            raise refuse(400, "structure", f"the body is not well-formed XML: {said} ({where})") from None
        assert self._root is not None, "expat refuses a document without a root"
        return self._root

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8", "us-ascii"):
            self._refuse(f"FHIR XML is written in UTF-8, not in {encoding[:40]}")

    def _document_type(self, *_: object) -> None:
        self._refuse("a document type (DOCTYPE) is not read: it could declare entities")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise refuse(
                413, "too-costly", f"the XML has more than {MAX_ELEMENTS} elements: send it in several requests"
            )
        if len(attributes) > MAX_ATTRIBUTES:
            self._refuse(f"an element has more than {MAX_ATTRIBUTES} attributes")
        if self._narrative:
            self._narrative += 1
            if self._narrative > MAX_NARRATIVE_DEPTH:
                self._refuse(f"the narrative is nested deeper than {MAX_NARRATIVE_DEPTH} levels")
            return
        namespace, _, local = name.rpartition(" ")
        if len(self._stack) >= MAX_DEPTH:
            self._refuse(f"the XML is nested deeper than {MAX_DEPTH} levels")
        if namespace == XHTML and local == "div" and self._stack:
            self._narrative, self._from = 1, self._parser.CurrentByteIndex
        elif namespace == FHIR and local == "div":
            self._refuse(f"the <div> of a narrative says its namespace, {XHTML}")
        elif namespace != FHIR:
            self._refuse(f"<{local[:64]}> is in the namespace {namespace[:80] or '(none)'!r}; expected {FHIR}")
        node = Node(local, attributes, self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1)
        if self._stack:
            self._stack[-1].children.append(node)
        else:
            self._root = node
        self._stack.append(node)

    def _end(self, name: str) -> None:
        if self._narrative:
            self._narrative -= 1
            if self._narrative:
                return
            node = self._stack[-1]
            at = self._parser.CurrentByteIndex
            # expat stands at the end tag, or behind an element that has none.
            end = self._raw.index(b">", at) + 1 if self._raw.startswith(b"</", at) else at
            node.xhtml = declaring(self._raw[self._from : end].decode())
            if node.xhtml is None:
                _refuse(node, "the narrative must be <div> without a prefix, and declare the namespaces it uses itself")
        self._stack.pop()

    def _text(self, text: str) -> None:
        if not self._narrative and not text.isspace():
            self._refuse(f'text stands between elements: {text.strip()[:40]!r}; a value is written value="…"')

    def _refuse(self, text: str) -> NoReturn:
        where = _at(self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1)
        raise refuse(400, "structure", f"{text} ({where})")


def _resource(node: Node) -> dict[str, Any]:
    if node.name in LEFT_OUT:
        _refuse(node, f"{node.name} is not served: {LEFT_OUT[node.name]}", code="not-supported")
    if node.name not in SERVED:
        hint = _hint(node.name, SERVED)
        _refuse(node, f"{node.name[:64]!r} is no resource type of R4{hint}", code="not-supported")
    return {"resourceType": node.name} | _object(shape_of(model_of(node.name)), node)


def _object(shape: Shape, node: Node) -> dict[str, Any]:
    own = attributes_of(shape)
    value: dict[str, Any] = dict(_attributes(node, own))
    found: dict[str, list[tuple[Any, Any]]] = {}
    for child in node.children:
        element = shape.elements.get(child.name)
        if element is None or element.name in own:
            hint = _hint(child.name, shape.elements)
            said = "written as an attribute" if child.name in own else f"no element of {shape.path}{hint}"
            _refuse(child, f"<{child.name[:64]}> is {said}")
        values = found.setdefault(element.name, [])
        if values and not element.many:
            _refuse(child, f"<{element.name}> stands twice in {shape.path}, which has it once")
        values.append(_value(element, child))
    for name, values in found.items():
        value |= _property(name, values, shape.elements[name].many)
    return value


def _property(name: str, values: list[tuple[Any, Any]], many: bool) -> dict[str, Any]:
    """The JSON of one element: the values under its name, their ids and extensions under `_name`."""
    bare, beside = [one for one, _ in values], [one for _, one in values]
    written: dict[str, Any] = {}
    if any(one is not None for one in bare):
        written[name] = bare if many else bare[0]
    if any(one is not None for one in beside):
        written[f"_{name}"] = beside if many else beside[0]
    return written


def _value(element: Element, node: Node) -> tuple[Any, Any]:
    """The value of one element, and what stands beside it when it is primitive."""
    if (node.xhtml is not None) != (element.type == "xhtml"):
        _refuse(node, f"<{node.name}> must be in the namespace {XHTML if node.xhtml is None else FHIR}")
    if node.xhtml is not None:
        return node.xhtml, None
    if element.type == "Resource":
        if len(node.children) != 1 or node.attributes:
            _refuse(node, f"<{node.name}> holds one resource and has no attributes")
        return _resource(node.children[0]), None
    if element.model is not None:
        return _object(shape_of(element.model), node), None
    text = node.attributes.pop("value", None)
    more = node.attributes or node.children
    beside = _object(shape_of(model_of("FHIRPrimitiveExtension")), node) if more else {}
    if text is None and not beside:
        _refuse(node, f"<{node.name}> has neither a value nor an extension")
    return None if text is None else _primitive(element, text, node), beside or None


def _primitive(element: Element, text: str, node: Node) -> Any:
    """Booleans and numbers as JSON has them; what else a text may be is checked with the rest of the resource."""
    if element.type == "boolean":
        if text not in ("true", "false"):
            _refuse(node, f"{element.path} must be true or false; it is {text[:40]!r}", element.path, "value")
        return text == "true"
    if element.type in _WHOLES:
        if not _WHOLE.match(text):
            _refuse(node, f"{element.path} must be a whole number; it is {text[:40]!r}", element.path, "value")
        return int(text)
    if element.type == "decimal":
        if not _DECIMAL.match(text):
            _refuse(node, f"{element.path} must be a decimal number; it is {text[:40]!r}", element.path, "value")
        return Decimal(text)
    return text


def _attributes(node: Node, known: frozenset[str]) -> Iterator[tuple[str, str]]:
    for name, text in node.attributes.items():
        if name in known:
            yield name, text
        elif not name.startswith(_ABOUT_XML):
            _refuse(node, f"<{node.name[:64]}> has no attribute {name.rpartition(' ')[2][:64]!r}")


def _refuse(node: Node, text: str, expression: str | None = None, code: str = "structure") -> NoReturn:
    raise refuse(400, code, f"{text} ({_at(node.line, node.column)})", expression)


def _at(line: int, column: int) -> str:
    return f"line {line}, column {column}"


def _hint(name: str, among: Any) -> str:
    close = get_close_matches(name[:64], list(among), n=1)
    return f"; did you mean {close[0]}?" if close else ""
