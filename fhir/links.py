"""Links in what is written: which there are, and the same with other ones in their place."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from fhir.patch import Patch

JSON = dict[str, Any]
Link = Callable[[str, str], str]
"""(key, text) -> the text that takes its place."""

_LINKS = frozenset({"reference", "uri", "url", "valueUri", "valueUrl", "valueUuid", "valueOid"})
_NARRATIVE_LINK = re.compile(r"""((?:href|src)\s*=\s*["'])([^"']+)""")


def references(node: Any) -> Iterator[str]:
    """The text of every reference in a resource or a patch."""
    if isinstance(node, Patch):
        yield from references(node.operations)
        yield from (text for _, key, text in _texts(node) if key == "reference")
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "reference" and isinstance(value, str):
                yield value
            elif isinstance(value, dict | list):
                yield from references(value)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from references(item)


def relinked(node: JSON, link: Link) -> JSON:
    """A copy of *node* in which *link* has replaced references, uris, urls and the links of narrative.

    `Identifier.value` is text, not a link: a `urn:uuid:` there is somebody's identifier and stays.
    """
    changed: JSON = {}
    for key, value in node.items():
        if isinstance(value, str):
            if key in _LINKS:
                value = link(key, value)
            elif key == "div" and ("href" in value or "src" in value):
                value = _NARRATIVE_LINK.sub(lambda match: match[1] + link("href", match[2]), value)
        elif isinstance(value, dict):
            value = relinked(value, link)
        elif isinstance(value, list):
            value = [relinked(item, link) if isinstance(item, dict) else item for item in value]
        changed[key] = value
    return changed


def relinked_patch(patch: Patch, link: Link) -> Patch:
    """The same for what a patch brings, also where it brings the text of a reference alone."""
    made: JSON = relinked({"operations": patch.operations}, link)
    changed = replace(patch, operations=made["operations"])
    for holder, key, text in _texts(changed):
        holder["value" if "op" in holder else "valueString"] = link(key, text)
    return changed


def _texts(patch: Patch) -> Iterator[tuple[JSON, str, str]]:
    """Links that an operation brings as plain text: where the text stands, the element it is for, and the text."""
    if not isinstance(patch.operations, dict):
        for operation in patch.operations:
            key = operation["path"].rpartition("/")[2]
            if key in _LINKS and isinstance(operation.get("value"), str):
                yield operation, key, operation["value"]
        return
    for parameter in patch.operations.get("parameter", ()):
        parts = {part["name"]: part for part in parameter.get("part", ())}
        key = str(parts.get("path", {}).get("valueString", "")).rpartition(".")[2]
        if key in _LINKS and "valueString" in parts.get("value", {}):
            yield parts["value"], key, parts["value"]["valueString"]
